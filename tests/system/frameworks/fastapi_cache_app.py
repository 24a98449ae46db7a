"""fastapi-cache2: cached endpoints of an application."""

import asyncio

import redis.asyncio
from fastapi import FastAPI
from fastapi_cache import FastAPICache
from fastapi_cache.backends.redis import RedisBackend
from fastapi_cache.decorator import cache
from httpx import ASGITransport, AsyncClient

from shared import Run

run = Run("fastapi-cache2", "fastapi-cache2")
executed = []
app = FastAPI()


@app.get("/items/{number}")
@cache(expire=300, namespace="items")
async def item(number: int):
    executed.append(number)
    return {"number": number}


async def work():
    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:

        async def get(number):
            response = await client.get(f"/items/{number}")
            assert response.status_code == 200, response.text
            return response

        connection = redis.asyncio.from_url(run.url(database=5))
        FastAPICache.init(RedisBackend(connection), prefix="api")
        for number in range(20):
            run.equal("computed", (await get(number)).json(), {"number": number})
        again = [await get(number) for number in range(20)]
        run.equal("from the cache", [response.json()["number"] for response in again], list(range(20)))
        run.equal("each is executed once", executed, list(range(20)))
        run.equal("the header says so", again[0].headers["x-fastapi-cache"], "HIT")
        run.check("the header of the deadline", 290 <= int(again[0].headers["cache-control"].split("=")[1]) <= 300)
        await asyncio.gather(*(get(number) for number in range(20)))
        run.equal("nothing is executed at the same time", len(executed), 20)
        key = (await connection.keys("api:items:*"))[0]
        run.equal("a key is deleted", await connection.delete(key), 1)
        for number in range(20):
            await get(number)
        run.equal("one is executed again", len(executed), 21)
        # Its script finds the keys by KEYS, and does not declare them.
        await run.refuses_later("`clear` (a script that calls KEYS)", lambda: FastAPICache.clear(namespace="items"))
        await connection.aclose()

        run.move()
        FastAPICache.reset()
        connection = redis.asyncio.from_url(run.url(database=5))
        FastAPICache.init(RedisBackend(connection), prefix="api")
        run.equal("from the other node", [(await get(number)).json()["number"] for number in range(20)], list(range(20)))
        run.equal("nothing is executed", len(executed), 21)
        await get(20)
        run.equal("a new one is", executed[21:], [20])
        run.equal("and kept", (await get(20)).headers["x-fastapi-cache"], "HIT")
        await connection.aclose()


asyncio.run(work())
run.finish()
