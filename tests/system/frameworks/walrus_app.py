"""walrus: its cache, counters and compare-and-set."""

from walrus import Database

from shared import Run, in_threads

run = Run("walrus", "walrus")


def connect():
    return Database.from_url(run.url(database=10))


db = connect()
cache = db.cache(name="app", default_timeout=600)
run.check("set_many", cache.set_many({f"k{n}": n for n in range(50)}))
run.equal("get_many", cache.get_many(["k0", "k49"]), {"k0": 0, "k49": 49})
run.equal("get", [cache.get("k7"), cache.get("none", "default")], [7, "default"])
run.check("the deadline of each", 590 <= db.ttl("app:k7") <= 600)
run.check("delete", cache.delete("k7"))
run.equal("deleted", cache.get("k7"), None)
run.equal("delete_many", cache.delete_many([f"k{n}" for n in range(5)]), 5)
executed = []


@cache.cached(timeout=300)
def square(n):
    executed.append(n)
    return n * n


run.equal("a cached function", [square(3), square(3), square(4)], [9, 9, 16])
run.equal("each is executed once", executed, [3, 4])
square.bust(3)
run.equal("bust", [square(3), executed], [9, [3, 4, 3]])

counter = db.counter("hits")
in_threads(8, lambda n: [connect().counter("hits").incr() for _ in range(25)])
run.equal("a counter of 8 threads", counter.value(), 200)
db["state"] = "draft"
swapped = in_threads(8, lambda n: connect().cas("state", "draft", f"by {n}"))
run.equal("cas wins once", [bool(value) for value in swapped].count(True), 1)
run.equal("by one", db["state"].decode(), f"by {[bool(value) for value in swapped].index(True)}")
lock = db.lock("lock", ttl=30_000)
run.check("a lock is taken", lock.acquire(block=False))
run.check("a lock that is held", not db.lock("lock", ttl=30_000).acquire(block=False))
run.refuses("release of a lock (lists)", lock.release)
run.refuses("rate_limit (lists)", lambda: db.rate_limit("r", limit=5, per=60).limit("ada"))
run.refuses("containers (Hash, List, Set, ZSet)", lambda: db.Hash("h").update(a=1))

run.move()
db = connect()
cache = db.cache(name="app", default_timeout=600)
run.equal("values of the other node", cache.get_many(["k4", "k5", "k49"]), {"k5": 5, "k49": 49})
run.equal("a counter", db.counter("hits").incr(5), 205)
run.check("cas", not db.cas("state", "draft", "again"))
run.equal("keys", len(list(cache.keys())) > 40, True)
cache.flush()
run.equal("flush, of its prefix", [cache.get("k49"), db.counter("hits").value()], [None, 205])
run.finish()
