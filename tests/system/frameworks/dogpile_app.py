"""dogpile.cache: regions, many keys at once, one creator among threads and processes."""

import threading

from dogpile.cache import make_region
from dogpile.cache.api import NO_VALUE

from shared import Run, in_threads

run = Run("dogpile.cache", "dogpile.cache")


def region(**options):
    arguments = {
        "url": run.url(database=9),
        "redis_expiration_time": 600,
        "distributed_lock": True,
        "thread_local_lock": False,
        "lock_sleep": 0.002,
        **options,
    }
    return make_region().configure("dogpile.cache.redis", expiration_time=300, arguments=arguments)


first = region()
first.set_multi({f"k{n}": n for n in range(100)})
run.equal("get_multi", first.get_multi(["k0", "k99", "none"]), [0, 99, NO_VALUE])
first.delete_multi([f"k{n}" for n in range(50)])
run.equal("delete_multi", first.get_multi(["k49", "k50"]), [NO_VALUE, 50])
run.check("the deadline", 590 <= run.redis(database=9).ttl("k50") <= 600)

created = []
counting = threading.Lock()


def create():
    with counting:
        created.append(1)
    return {"report": 1}


# Each thread has a region of its own, as processes have, so that only the lock in the node excludes the others.
values = in_threads(8, lambda n: region().get_or_create("report", create))
run.equal("get_or_create of 8 at the same time", values, [{"report": 1}] * 8)
run.equal("one has created", len(created), 1)

many = in_threads(4, lambda n: region().get_or_create_multi(["m1", "m2", "m3"], lambda *keys: [f"v{key}" for key in keys]))
run.equal("get_or_create_multi", many, [["vm1", "vm2", "vm3"]] * 4)


@first.cache_multi_on_arguments(namespace="squares")
def squares(*numbers):
    created.extend(numbers)
    return [number * number for number in numbers]


created.clear()
run.equal("a function", [squares(1, 2, 3), squares(2, 3, 4)], [[1, 4, 9], [4, 9, 16]])
run.equal("each is created once", sorted(created), [1, 2, 3, 4])
mutex = first.backend.get_mutex("by-hand")
run.check("a lock by hand", mutex.acquire(wait=False))
run.check("that is held", not region().backend.get_mutex("by-hand").acquire(wait=False))
mutex.release()
run.check("and released", region().backend.get_mutex("by-hand").acquire(wait=False))

run.move()
second = region()
run.equal("values of the other node", second.get_multi(["k0", "k99", "m1", "report"]), [NO_VALUE, 99, "vm1", {"report": 1}])
created.clear()
run.equal("get_or_create", second.get_or_create("report", create), {"report": 1})
run.equal("nothing is created", created, [])
run.check("a lock of the other node", not second.backend.get_mutex("by-hand").acquire(wait=False))
second.delete("report")
run.equal("after a delete", [second.get_or_create("report", create), len(created)], [{"report": 1}, 1])
run.finish()
