"""Flask-Session: sessions of several visitors, kept by the server."""

import redis
from flask import Flask, session
from flask_session import Session

from shared import Run, in_threads

run = Run("Flask-Session", "flask-session")


def application(node):
    app = Flask(__name__)
    app.config.update(
        SESSION_TYPE="redis", SESSION_REDIS=redis.Redis.from_url(run.url(node, database=4)), SESSION_PERMANENT=True
    )
    Session(app)

    @app.post("/basket/<item>")
    def put(item):
        session["basket"] = [*session.get("basket", []), item]
        return "ok"

    @app.get("/basket")
    def show():
        return " ".join(session.get("basket", []))

    @app.post("/leave")
    def leave():
        session.clear()
        return "ok"

    return app


app = application(0)
visitors = [app.test_client() for _ in range(8)]


def shop(number):
    for item in range(5):
        visitors[number].post(f"/basket/{number}-{item}")


in_threads(8, shop)
baskets = [" ".join(f"{number}-{item}" for item in range(5)) for number in range(8)]
run.equal("each visitor's basket", [visitor.get("/basket").text for visitor in visitors], baskets)
visitors[0].post("/leave")
run.equal("a visitor who has left", visitors[0].get("/basket").text, "")
keys = run.redis().execute_command("INFO", "keyspace")["db4"]
run.equal("a key for each session", keys["keys"], 7)
run.equal("each with a deadline", keys["expires"], 7)

run.move()
second = application(1)
for number, visitor in enumerate(visitors[1:], 1):
    # The cookie of the browser, sent to a server that uses the other node.
    moved = second.test_client()
    cookie = visitor.get_cookie("session")
    moved.set_cookie("session", cookie.value)
    run.equal("a basket from the other node", moved.get("/basket").text, baskets[number])
    moved.post("/basket/more")
    run.equal("an item more", moved.get("/basket").text, f"{baskets[number]} more")
run.finish()
