"""django-redis: what it adds to Django's cache."""

import django
from django.conf import settings

from shared import Run, in_threads

run = Run("django-redis", "django-redis")
settings.configure(
    CACHES={
        alias: {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": run.url(node, database=2),
            "OPTIONS": {"CLIENT_CLASS": "django_redis.client.DefaultClient"},
        }
        for node, alias in enumerate(["default", "second"])
    }
)
django.setup()

from django.core.cache import caches  # noqa: E402
from redis.exceptions import LockError  # noqa: E402

cache = caches["default"]
users = {f"user:{n}": {"name": f"n{n}"} for n in range(100)}
run.check("set_many", not cache.set_many(users, timeout=600))
run.equal("get_many", cache.get_many(users), users)
run.equal("delete_pattern", cache.delete_pattern("user:1*"), 11)
run.equal("keys", sorted(cache.keys("user:2*")), sorted(f"user:{n}" for n in range(100) if str(n)[0] == "2"))
run.equal("iter_keys", len(list(cache.iter_keys("user:*", itersize=20))), 89)
run.check("ttl", 590 <= cache.ttl("user:20") <= 600)
run.check("expire", cache.expire("user:20", 1_000) and 990 <= cache.ttl("user:20") <= 1_000)
run.check("persist", cache.persist("user:20") and cache.ttl("user:20") is None)
run.equal("pttl of an absent key", cache.pttl("user:10"), 0)
run.check("set with nx", cache.set("once", 1, nx=True) and not cache.set("once", 2, nx=True))

cache.set("visits", 0, timeout=None)
in_threads(8, lambda n: [caches["default"].incr("visits") for _ in range(50)])
run.equal("incr by 8 threads", cache.get("visits"), 400)
run.raises("incr of an absent key", ValueError, lambda: cache.incr("never"))
run.equal("incr of a large integer", [cache.set("large", 2**40, timeout=None), cache.incr("large", 5)], [True, 2**40 + 5])
run.equal("get_or_set", [cache.get_or_set("lazy", lambda: [1, 2]), cache.get("lazy")], [[1, 2]] * 2)
run.equal("incr_version", [cache.incr_version("lazy"), cache.get("lazy", version=2)], [2, [1, 2]])
run.check("touch", cache.touch("once", 60) and cache.ttl("once") <= 60)

# A read-modify-write under the lock: without it, increments would be lost.
cache.set("balance", {"euros": 0}, timeout=None)


def pay_in(_):
    for _ in range(10):
        with caches["default"].lock("balance-lock", timeout=30, sleep=0.002):
            balance = caches["default"].get("balance")
            caches["default"].set("balance", {"euros": balance["euros"] + 1}, timeout=None)


in_threads(4, pay_in)
run.equal("the lock excludes others", cache.get("balance"), {"euros": 40})
lock = cache.lock("held", timeout=30)
run.check("a lock is taken", lock.acquire(blocking=False))
run.check("a lock that is held", not cache.lock("held", timeout=30).acquire(blocking=False))

run.move()
cache = caches["second"]
run.equal("the users", len(cache.get_many(users)), 89)
run.equal("visits", cache.incr("visits", 5), 405)
run.equal("balance", cache.get("balance"), {"euros": 40})
run.check("a lock that was taken on the other node", not cache.lock("held", timeout=30).acquire(blocking=False))
run.raises("a lock of others cannot be released", LockError, cache.lock("held", timeout=30).release)
lock.release()
run.catch_up(0, 1)
run.check("a lock that was released there", cache.lock("held", timeout=30).acquire(blocking=False))
run.equal("delete_pattern", cache.delete_pattern("user:*"), 89)
run.equal("none is left", list(cache.iter_keys("user:*")), [])
run.finish()
