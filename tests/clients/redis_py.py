"""redis-py against three nodes: what is written to one is read from the others. Arguments: their client ports."""

import sys
import time

import redis

BINARY = bytes(range(256)) + b"\r\n$3\r\n\0"


def eventually(what, holds):
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"not within a minute: {what}"
        time.sleep(0.005)


def check(ports, protocol):
    a, b, c = (redis.Redis(port=port, protocol=protocol, socket_timeout=60) for port in ports)
    for client in (a, b, c):
        assert client.ping()

    assert a.set("text", "value")
    assert a.set(BINARY, BINARY)
    assert a.set("empty", "")
    for other in (b, c):
        eventually("written on a, read elsewhere", lambda: other.exists("empty"))
        assert other.get("text") == b"value"
        assert other.get(BINARY) == BINARY
        assert other.get("empty") == b""
        assert other.get("never") is None

    assert b.set("brief", "x", ex=100)
    eventually("the deadline is on c", lambda: 90 <= c.ttl("brief") <= 100)
    assert c.expire("brief", 5000)
    eventually("a longer life on a", lambda: a.ttl("brief") > 4000)
    assert c.pexpire("brief", 50)
    eventually("expired on a", lambda: not a.exists("brief"))

    assert c.mset({"m:1": "1", "m:2": "2"})
    eventually("both are on a", lambda: a.mget("m:1", "m:2", "m:3") == [b"1", b"2", None])

    assert c.wait(2, 30_000) == 2
    assert a.exists("m:2") and b.exists("m:2")

    pipeline = b.pipeline(transaction=False)
    for n in range(1000):
        pipeline.set(f"p:{n}", n)
    pipeline.get("p:999").delete("p:0")
    replies = pipeline.execute()
    assert replies[-2:] == [b"999", 1], replies[-2:]
    eventually("all are on c, and the delete too", lambda: len(set(c.scan_iter("p:*", count=100))) == 999)
    assert b"p:0" not in set(c.scan_iter("p:*"))

    assert c.setnx("once", "1") and not c.setnx("once", "2")
    assert c.getdel("once") == b"1"
    assert a.info("sapwood")["linked_peers"] == 2
    try:
        a.rpush("list", "x")
    except redis.ResponseError as error:
        assert str(error)
    else:
        raise AssertionError("RPUSH was taken")
    eventually("the same keys on a as on c", lambda: a.dbsize() == c.dbsize())
    assert a.delete("text", "empty", BINARY, *c.keys("p:*"), *c.keys("m:*")) >= 1000
    eventually("deleted on b", lambda: not b.exists("text", "empty"))
    for client in (a, b, c):
        client.close()


if __name__ == "__main__":
    for protocol in (2, 3):
        check([int(port) for port in sys.argv[1:]], protocol)
    print("redis-py: ok in RESP2 and RESP3")
