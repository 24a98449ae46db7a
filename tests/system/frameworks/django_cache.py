"""Django's own cache backend for Redis, as a shop uses it: cached views, stock counters, sessions, a rate of sign-ins."""

import django
from django.conf import settings

from shared import Run, in_threads

run = Run("Django cache", "django")
settings.configure(
    CACHES={
        alias: {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": run.url(node, database=1),
            "KEY_PREFIX": "shop",
        }
        for node, alias in enumerate(["default", "second"])
    },
    ALLOWED_HOSTS=["*"],
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    SESSION_CACHE_ALIAS="default",
)
django.setup()

from django.contrib.sessions.backends.cache import SessionStore  # noqa: E402
from django.core.cache import caches  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.test import RequestFactory  # noqa: E402
from django.views.decorators.cache import cache_page  # noqa: E402

cache = caches["default"]
prices = {f"price:{n}": {"cents": n * 100, "text": f"§{n}"} for n in range(200)}
run.equal("set_many", cache.set_many(prices, timeout=600), [])
run.equal("get_many", cache.get_many([*prices, "price:none"]), prices)
run.equal("delete_many", cache.delete_many([f"price:{n}" for n in range(100)]), None)
run.equal("half is left", len(cache.get_many(prices)), 100)
run.equal("add wins once", sum(in_threads(8, lambda n: caches["default"].add("report", n, 60))), 1)
run.equal("add, of a key that is there", cache.add("price:150", "other"), False)

cache.set("stock", 1_000, None)
in_threads(8, lambda n: [caches["default"].decr("stock") for _ in range(50)])
run.equal("decr by 8 threads", cache.get("stock"), 600)
run.raises("incr of an absent key", ValueError, lambda: cache.incr("never"))
run.equal("get_or_set", [cache.get_or_set("banner", lambda: "first"), cache.get_or_set("banner", "second")], ["first"] * 2)
run.equal("touch", [cache.touch("banner", 900), cache.touch("never", 900)], [True, False])
run.equal("versions", [cache.incr_version("banner"), cache.get("banner"), cache.get("banner", version=2)], [2, None, "first"])
cache.set("brief", "x", timeout=0)
run.equal("a deadline of 0 deletes", cache.get("brief", "absent"), "absent")

executed = []


def page(alias):
    @cache_page(300, cache=alias)
    def view(request):
        executed.append(request.path)
        return HttpResponse(f"<p>{request.path}</p>")

    return view


for _ in range(3):
    for path in ("/", "/shoes", "/hats"):
        response = page("default")(RequestFactory().get(path))
        run.equal("a cached page", response.content, f"<p>{path}</p>".encode())
run.equal("each view is executed once", executed, ["/", "/shoes", "/hats"])

sessions = []
for n in range(20):
    session = SessionStore()
    session["basket"] = [n, n + 1]
    session.create()
    session.save()
    sessions.append(session.session_key)
gone = SessionStore(sessions[0])
gone.flush()

run.move()
cache = caches["second"]
settings.SESSION_CACHE_ALIAS = "second"
run.equal("the prices that were left", len(cache.get_many(prices)), 100)
run.equal("add, of a key of the other node", cache.add("report", "again", 60), False)
run.equal("a page from the other node", page("second")(RequestFactory().get("/hats")).content, b"<p>/hats</p>")
run.equal("no view is executed again", len(executed), 3)
run.equal("the sessions", [SessionStore(key).get("basket") for key in sessions[1:]], [[n, n + 1] for n in range(1, 20)])
run.equal("a session that was ended", SessionStore(sessions[0]).get("basket"), None)

# Counters on both nodes at the same time add up.
in_threads(8, lambda n: [caches[["default", "second"][n % 2]].incr("stock") for _ in range(50)])
run.catch_up(0, 1)
run.equal("incr on both nodes", cache.get("stock"), 1_000)
cache.clear()
run.equal("clear", [cache.get("stock"), cache.has_key("report")], [None, False])
run.finish()
