"""cashews: cached functions, limits, locks, counters with a deadline."""

import asyncio

from cashews import Cache
from cashews.exceptions import RateLimitError

from shared import Run

run = Run("cashews", "cashews")


async def connect():
    cache = Cache()
    # Without `suppress=False` cashews hides errors of the server. Its own time limits are short for a busy machine.
    cache.setup(run.url(database=7), suppress=False, socket_timeout=60, wait_for_connection_timeout=60)
    await cache.init()
    return cache


async def work():
    executed = []

    def functions(cache):
        @cache(ttl="5m", key="square:{n}")
        async def square(n):
            executed.append(n)
            return {"square": n * n}

        @cache.rate_limit(limit=10, period="5m", ttl="5m")
        async def sign_in(name):
            return name

        @cache(ttl="5m", key="report:{name}", lock=True)
        async def report(name):
            executed.append(name)
            await asyncio.sleep(0)
            return f"report {name}"

        return square, sign_in, report

    async def limited(call):
        try:
            await call
        except RateLimitError:
            return True
        return False

    cache = await connect()
    square, sign_in, report = functions(cache)
    run.equal("computed", [await square(n) for n in range(20)], [{"square": n * n} for n in range(20)])
    run.equal("from the cache", [await square(n) for n in range(20)], [{"square": n * n} for n in range(20)])
    run.equal("each is executed once", executed, list(range(20)))
    await cache.delete_match("square:1*")
    await square(1)
    run.equal("delete_match", executed[20:], [1])
    run.equal("the limit", [await limited(sign_in("ada")) for _ in range(14)], [False] * 10 + [True] * 4)
    run.equal("another name", await limited(sign_in("bob")), False)
    executed.clear()
    run.equal("at the same time", await asyncio.gather(*(report("x") for _ in range(8))), ["report x"] * 8)
    run.equal("with a lock, executed once", executed, ["x"])

    shared_state = []

    async def critical(number):
        async with cache.lock("critical", expire=30, check_interval=0.002):
            shared_state.append(number)
            await asyncio.sleep(0)
            shared_state.append(number)

    await asyncio.gather(*(critical(n) for n in range(8)))
    run.equal("the lock excludes others", shared_state[::2], shared_state[1::2])
    run.equal("the lock is released", await cache.is_locked("critical"), False)
    await cache.set_many({f"k:{n}": n for n in range(50)}, expire=300)
    run.equal("get_many", await cache.get_many("k:0", "k:49", "k:50"), (0, 49, None))
    await asyncio.gather(*(cache.incr("hits", expire=300) for _ in range(100)))
    run.equal("incr with a deadline", await cache.get("hits"), 100)
    run.check("its deadline", 290 <= await cache.get_expire("hits") <= 300)
    run.equal("set if absent", [await cache.set("new", 1, exist=False), await cache.set("new", 2, exist=False)], [True, False])
    run.equal("bits", [await cache.incr_bits("bits", 3, 7), await cache.get_bits("bits", 0, 3, 7)], [(1, 1), (0, 1, 1)])

    for feature, call in {
        "tags (sets)": lambda: cache.set("tagged:1", 1, expire=300, tags=["a"]),
        "slice_rate_limit (sorted sets)": lambda: cache.slice_incr("slice", 0, 10, 5, expire=60),
    }.items():
        await run.refuses_later(feature, call)
    await cache.close()

    run.move()
    executed.clear()
    cache = await connect()
    square, sign_in, report = functions(cache)
    run.equal("from the other node", await square(5), {"square": 25})
    run.equal("a report from the other node", await report("x"), "report x")
    run.equal("nothing is executed", executed, [])
    run.equal("the limit still holds", await limited(sign_in("ada")), True)
    run.equal("incr", await cache.incr("hits", expire=300), 101)
    run.equal("scan", len([key async for key in cache.scan("k:*")]), 50)
    await cache.delete_many("k:0", "k:1")
    run.equal("delete_many", await cache.get_many("k:0", "k:1", "k:2"), (None, None, 2))
    await cache.clear()
    run.equal("clear", await cache.get("hits"), None)
    await cache.close()


asyncio.run(work())
run.finish()
