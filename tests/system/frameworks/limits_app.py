"""limits, and Flask-Limiter on top of it: requests that one client may make in a time."""

from flask import Flask
from flask_limiter import Limiter
from limits import parse
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter

from shared import Run, in_threads

run = Run("limits, Flask-Limiter", "limits")
# A day, and windows of which one request of the test is not likely to be in the next.
limit = parse("100/day")


def limiters():
    storage = storage_from_string(run.url(database=8))
    return FixedWindowRateLimiter(storage), SlidingWindowCounterRateLimiter(storage), MovingWindowRateLimiter(storage)


def application():
    app = Flask(__name__)
    limiter = Limiter(lambda: "ada", app=app, storage_uri=run.url(database=8), strategy="fixed-window", swallow_errors=False)

    @app.get("/sign-in")
    @limiter.limit("5/day")
    def sign_in():
        return "welcome"

    return app


fixed, sliding, moving = limiters()
for name, strategy in ("fixed window", fixed), ("sliding window", sliding):
    hits = in_threads(8, lambda n: [strategy.hit(limit, name, "ada") for _ in range(15)])
    run.equal(f"{name}: 120 requests of 8 threads", sum(hits, []).count(True), 100)
    run.equal(f"{name}: nothing is left", strategy.get_window_stats(limit, name, "ada").remaining, 0)
    run.check(f"{name}: another client", strategy.hit(limit, name, "bob"))
    run.check(f"{name}: several at once", strategy.test(limit, name, "bob", cost=99) and strategy.hit(limit, name, "bob", cost=99))
    run.check(f"{name}: all of them count", not strategy.hit(limit, name, "bob"))
    strategy.clear(limit, name, "bob")
    run.check(f"{name}: after clear", strategy.hit(limit, name, "bob"))
run.refuses("moving window (lists)", lambda: moving.hit(limit, "moving", "ada"))

client = application().test_client()
statuses = [client.get("/sign-in").status_code for _ in range(8)]
run.equal("Flask-Limiter", statuses, [200] * 5 + [429] * 3)

run.move()
fixed, sliding, moving = limiters()
for name, strategy in ("fixed window", fixed), ("sliding window", sliding):
    run.check(f"{name}: the limit holds on the other node", not strategy.hit(limit, name, "ada"))
    run.check(f"{name}: another client has used one", strategy.get_window_stats(limit, name, "bob").remaining == 99)
    run.check(f"{name}: and may go on", strategy.hit(limit, name, "bob"))
    run.equal(f"{name}: that counts", strategy.get_window_stats(limit, name, "bob").remaining, 98)
run.equal("Flask-Limiter", application().test_client().get("/sign-in").status_code, 429)
run.finish()
