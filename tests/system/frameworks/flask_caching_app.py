"""Flask-Caching: cached views and functions of an application."""

from flask import Flask
from flask_caching import Cache

from shared import Run, in_threads

run = Run("Flask-Caching", "flask-caching")


def application(node):
    app = Flask(__name__)
    cache = Cache(
        app,
        config={"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": run.url(node, database=3), "CACHE_KEY_PREFIX": "site:"},
    )
    executed = []

    @app.get("/page/<name>")
    @cache.cached(timeout=300, query_string=True)
    def page(name):
        executed.append(name)
        return f"page {name}"

    @cache.memoize(300)
    def total(a, b):
        executed.append((a, b))
        return a + b

    return app, cache, executed, total


app, cache, executed, total = application(0)
with app.app_context():
    client = app.test_client()
    for _ in range(3):
        for name in ("a", "b"):
            run.equal("a page", client.get(f"/page/{name}?x=1").text, f"page {name}")
    run.equal("each view is executed once", executed, ["a", "b"])
    executed.clear()
    run.equal("memoize", [total(1, 2), total(1, 2), total(3, 4)], [3, 3, 7])
    run.equal("each function is executed once", executed, [(1, 2), (3, 4)])
    cache.delete_memoized(total, 1, 2)
    run.equal("delete_memoized", [total(1, 2), total(3, 4), executed[2:]], [3, 7, [(1, 2)]])

    items = {f"item:{n}": list(range(n)) for n in range(50)}
    run.equal("set_many", len(cache.set_many(items, timeout=600)), 50)
    run.equal("get_many", cache.get_many(*items), list(items.values()))
    run.equal("get_dict", cache.get_dict("item:3", "none"), {"item:3": [0, 1, 2], "none": None})
    run.check("delete_many", cache.delete_many("item:0", "item:1"))
    run.equal("has", [cache.has("item:1"), cache.has("item:2")], [False, True])
    run.equal("add wins once", sum(in_threads(8, lambda n: bool(cache.cache.add("once", n, timeout=60)))), 1)
    cache.cache.set("hits", 0)
    in_threads(8, lambda n: [cache.cache.inc("hits") for _ in range(50)])
    run.equal("inc by 8 threads", cache.get("hits"), 400)
    run.equal("dec", cache.cache.dec("hits", 100), 300)

run.move()
app, cache, executed, total = application(1)
with app.app_context():
    run.equal("a page from the other node", app.test_client().get("/page/a?x=1").text, "page a")
    run.equal("a result from the other node", total(3, 4), 7)
    run.equal("nothing is executed", executed, [])
    run.equal("items", cache.get_many(*items)[2:], list(items.values())[2:])
    run.equal("add, of a key of the other node", bool(cache.cache.add("once", 9)), False)
    run.equal("inc", cache.cache.inc("hits"), 301)
    run.check("clear, of the prefix", cache.clear())
    run.equal("all are gone", cache.get_many("item:2", "hits"), [None, None])
run.finish()
