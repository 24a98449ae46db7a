"""What the Python scripts of this folder share.

Each script is run with the client ports of two nodes of one cluster. It works on the first node, waits until the second
holds all of that, and continues on the second. It ends with a line of JSON that says what it has checked.
"""

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

import redis


class Run:
    """The checks of one script. A check that does not hold ends the script with a traceback."""

    def __init__(self, framework, package):
        self.ports = [int(port) for port in sys.argv[1:3]]
        self.node = 0
        self.checks = [0, 0]
        self.refused = []
        self.framework = framework
        self.version = version(package)

    def url(self, node=None, database=0):
        """The URL of a node: 0 or 1, by default the one that is worked on."""
        return f"redis://127.0.0.1:{self.ports[self.node if node is None else node]}/{database}"

    def redis(self, node=None, database=0, **options):
        return redis.Redis.from_url(self.url(node, database), socket_timeout=60, **options)

    def equal(self, what, got, wanted):
        assert got == wanted, f"{what}: {got!r} instead of {wanted!r}"
        self.checks[self.node] += 1

    def check(self, what, holds):
        self.equal(what, bool(holds), True)

    def eventually(self, what, holds):
        limit = time.monotonic() + 30
        while not holds():
            assert time.monotonic() < limit, what
        self.checks[self.node] += 1

    def raises(self, what, error, call):
        """Checks that a call raises, and returns the error."""
        try:
            call()
        except error as raised:
            self.checks[self.node] += 1
            return raised
        raise AssertionError(f"{what}: no error")

    def refuses(self, feature, call):
        """Checks that the node refuses what a feature needs, so that the framework raises."""
        self.is_refusal(feature, self.raises(feature, Exception, call))

    async def refuses_later(self, feature, call):
        """The same of a call that is awaited."""
        try:
            await call()
        except Exception as raised:
            self.checks[self.node] += 1
            self.is_refusal(feature, raised)
        else:
            raise AssertionError(f"{feature}: no error")

    def is_refusal(self, feature, error):
        error = error if isinstance(error, redis.RedisError) else error.__cause__
        assert isinstance(error, redis.ResponseError), repr(error)
        assert "UNSUPPORTED" in str(error) or "not allowed from script" in str(error), error
        self.refused.append(feature)

    def catch_up(self, source, target):
        """Waits until a node holds all that clients have written to another."""
        token = self.redis(source).execute_command("SAPWOOD", "TOKEN")
        assert self.redis(target).execute_command("SAPWOOD", "READY", token, 60_000) == 1

    def move(self):
        """Goes on with the second node, once that holds what was written to the first."""
        self.catch_up(0, 1)
        self.node = 1

    def finish(self):
        print(
            json.dumps(
                {
                    "framework": self.framework,
                    "version": self.version,
                    "client": f"redis-py {version('redis')}",
                    "checks": self.checks,
                    "refused": self.refused,
                }
            )
        )


def in_threads(count, work):
    """Calls `work(0)`, `work(1)`, … at the same time, each in a thread of its own; returns the results in order."""
    together = threading.Barrier(count)

    def one(number):
        together.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))
