"""redis-py: its default pipeline, WATCH, Lock, scripts, and its cache in the client."""

import redis
from redis.cache import CacheConfig
from redis.exceptions import LockError, LockNotOwnedError

from shared import Run, in_threads

run = Run("redis-py: pipeline, WATCH, Lock, cache", "redis")
r = run.redis(decode_responses=True)
run.equal("a pipeline", r.pipeline().set("a", 1).incr("a").get("a").mget("a", "b").execute(), [True, 2, "2", ["2", None]])
with r.pipeline() as pipe:
    pipe.set("refused", 1).incr("refused").execute_command("RPUSH", "list", "x")
    run.raises("a command that is refused", redis.ResponseError, pipe.execute)
run.equal("and nothing of it is applied", r.exists("refused"), 0)

accounts = [f"account:{n}" for n in range(10)]
r.mset(dict.fromkeys(accounts, 1_000))


def transfer(number):
    mine = run.redis(decode_responses=True)
    for step in range(25):
        source, target = accounts[(number + step) % 10], accounts[(number * 3 + step * 7 + 1) % 10]
        if source == target:
            continue

        def move(pipe):
            left, right = int(pipe.get(source)), int(pipe.get(target))
            pipe.multi()
            pipe.set(source, left - 10)
            pipe.set(target, right + 10)

        mine.transaction(move, source, target)


in_threads(8, transfer)
run.equal("transfers by WATCH leave the sum", sum(map(int, r.mget(accounts))), 10_000)


def add_one(_):
    mine = run.redis(decode_responses=True)
    for _ in range(20):
        with mine.lock("lock", timeout=30, sleep=0.002):
            mine.set("guarded", int(mine.get("guarded") or 0) + 1)


in_threads(4, add_one)
run.equal("the lock excludes others", r.get("guarded"), "80")
lock = r.lock("held", timeout=30)
run.check("a lock is taken", lock.acquire(blocking=False))
run.check("and extended", lock.extend(60) and 80 <= r.ttl("held") <= 90)
run.check("and reacquired", lock.reacquire() and r.ttl("held") <= 30)
run.check("and not taken twice", not r.lock("held", timeout=30).acquire(blocking=False))
r.delete("held")
run.raises("a lock that is lost cannot be released", LockNotOwnedError, lock.release)
run.raises("nor one that was not taken", LockError, r.lock("held").release)
run.equal("a script", r.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")(["scripted"], [7]), 7)

# redis-py keeps copies only of a server that calls itself redis.
cached = run.redis(protocol=3, decode_responses=True, cache_config=CacheConfig())
r.set("copied", "old")
run.equal("the cache in the client", [cached.get("copied") for _ in range(3)], ["old"] * 3)
run.equal("what it has kept", cached.get_cache().size, 1)
r.set("copied", "new")
run.eventually("a copy is dropped when another client writes", lambda: cached.get("copied") == "new")
check = r.lock("moved", timeout=60)
run.check("a lock before the move", check.acquire(blocking=False))

run.move()
r = run.redis(decode_responses=True)
run.equal("the sum on the other node", sum(map(int, r.mget(accounts))), 10_000)
in_threads(4, transfer)
run.equal("transfers there", sum(map(int, r.mget(accounts))), 10_000)
run.equal("the guarded value", r.get("guarded"), "80")
run.check("a lock of the other node is seen", not r.lock("moved", timeout=30).acquire(blocking=False))
run.equal("a script, by its text after NOSCRIPT", r.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")(["scripted"], [7]), 14)

# Two nodes that cannot reach each other both give the lock away. The later one stays, and the other owner finds out when it
# releases.
node_a, node_b = run.redis(0), run.redis(1)
node_a.execute_command("SAPWOOD", "CUT", "*")
early, late = node_a.lock("given twice", timeout=60), node_b.lock("given twice", timeout=60)
run.check("both nodes give the lock away", early.acquire(blocking=False) and late.acquire(blocking=False))
node_a.execute_command("SAPWOOD", "MEND", "*")
run.catch_up(0, 1)
run.catch_up(1, 0)
run.raises("the first owner has lost it", LockNotOwnedError, early.release)
run.equal("the second still has it", late.release(), None)
run.finish()
