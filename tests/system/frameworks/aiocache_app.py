"""aiocache: many keys with a deadline, counters, both of its locks."""

import asyncio

from aiocache.backends.redis import RedisCache
from aiocache.lock import OptimisticLock, OptimisticLockError, RedLock
from aiocache.serializers import JsonSerializer

from shared import Run

run = Run("aiocache", "aiocache")


def connect():
    return RedisCache(port=run.ports[run.node], db=6, timeout=60, serializer=JsonSerializer(), namespace="app")


async def work():
    cache = connect()
    pairs = [(f"k{n}", {"n": n}) for n in range(100)]
    run.check("multi_set with ttl", await cache.multi_set(pairs, ttl=600))
    run.equal("multi_get", await cache.multi_get([*dict(pairs), "none"]), [*(value for _, value in pairs), None])
    run.check("the deadline of each", 590 <= await cache.raw("ttl", "app:k7") <= 600)
    run.check("add", await cache.add("once", 1))
    try:
        await cache.add("once", 2)
    except ValueError:
        run.check("add, of a key that is there", True)
    await cache.set("hits", 0)
    await asyncio.gather(*(cache.increment("hits") for _ in range(200)))
    run.equal("increment", await cache.get("hits"), 200)
    run.check("expire", await cache.expire("k1", 900))
    run.equal("delete", [await cache.delete("k2"), await cache.exists("k2")], [1, False])

    executed = []

    async def slow():
        # Of eight that miss at the same time, one computes and the others wait for it.
        async with RedLock(cache, "report", lease=5):
            value = await cache.get("report")
            if value is None:
                executed.append(1)
                await cache.set("report", value := "computed")
            return value

    run.equal("eight that miss", await asyncio.gather(*(slow() for _ in range(8))), ["computed"] * 8)
    run.equal("one has computed", len(executed), 1)
    async with OptimisticLock(cache, "k3") as lock:
        await lock.cas({"n": 33})
    run.equal("compare and set", await cache.get("k3"), {"n": 33})
    try:
        async with OptimisticLock(cache, "k3") as lock:
            await cache.set("k3", {"n": 34})
            await lock.cas({"n": 35})
    except OptimisticLockError:
        run.equal("compare and set, of a changed value", await cache.get("k3"), {"n": 34})

    await cache.close()

    run.move()
    cache = connect()
    values = await cache.multi_get(["k0", "k2", "k3", "report", "hits"])
    run.equal("values of the other node", values, [{"n": 0}, None, {"n": 34}, "computed", 200])
    run.equal("increment", await cache.increment("hits", 5), 205)
    run.equal("nothing is computed again", [await slow_again(cache), len(executed)], ["computed", 1])
    run.check("clear of the namespace", await cache.clear(namespace="app"))
    run.equal("all are gone", await cache.multi_get(["k0", "hits"]), [None, None])
    await cache.close()


async def slow_again(cache):
    async with RedLock(cache, "report", lease=5):
        return await cache.get("report")


asyncio.run(work())
run.finish()
