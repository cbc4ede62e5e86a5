"""Publications from Redis: a real redis-server, which comes and goes; a real server process."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis

from tests.parts.cable_client import CableClient, confirmed, delivered, identifier
from tests.parts.redis import RedisPublisher, RedisServer, redis_server
from tests.parts.server import CableServer, cable_server

CHAT = identifier("$pubsub", stream_name="chat")
SUBSCRIBED = "Subscribed to the Redis channel __anycable__"


def flags(url: str) -> tuple[str, ...]:
    return (
        "--public",
        "--norpc",
        "--broadcast_adapter=redis",
        f"--redis_url={url}",
        "--shutdown_timeout=3",
    )


@pytest.fixture
def redis_() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@contextmanager
def listener(server: CableServer) -> Iterator[CableClient]:
    """A client that is subscribed to the stream "chat"."""
    with CableClient(server.cable_url) as client:
        client.receive_welcome()
        assert client.subscribe(CHAT) == confirmed(CHAT)
        yield client


@contextmanager
def publisher(server: RedisServer, channel: str = "__anycable__") -> Iterator[RedisPublisher]:
    publisher = RedisPublisher(server, channel)
    try:
        yield publisher
    finally:
        publisher.close()


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.02)


def test_publications_batches_commands_and_garbage(redis_: RedisServer) -> None:
    with (
        cable_server(*flags(redis_.url)) as server,
        listener(server) as client,
        publisher(redis_) as app,
    ):
        app.broadcast("chat", {"text": "é"})
        assert client.receive() == delivered(CHAT, {"text": "é"})
        app.publish(json.dumps([{"stream": "chat", "data": str(n)} for n in range(3)]))
        assert [client.receive() for _ in range(3)] == [delivered(CHAT, n) for n in range(3)]
        for garbage in (
            "",
            "garbage",
            "{}",
            "[1]",
            '{"stream":"chat"}',
            '{"stream":"","data":"1"}',
            '{"command":"dance"}',
            "[" * 50_000,
            json.dumps({"stream": "chat", "data": 7}),
        ):
            app.publish(garbage)
        app.publish(json.dumps({"stream": "chat", "data": "[" * 50_000}))
        assert client.receive()["message"] == "[" * 50_000
        app.broadcast("chat", "still here")
        assert client.receive() == delivered(CHAT, "still here")
        assert server.output().count("Publication refused: expected") == 9


def test_a_remote_disconnect(redis_: RedisServer) -> None:
    with (
        cable_server(*flags(redis_.url)) as server,
        CableClient(server.cable_url, headers={"X-Request-ID": "unwanted"}) as unwanted,
        listener(server) as other,
        publisher(redis_) as app,
    ):
        unwanted.receive_welcome()
        payload = {"identifier": '{"sid":"unwanted"}', "reconnect": False}
        app.publish(json.dumps({"command": "disconnect", "payload": payload}))
        said = {"type": "disconnect", "reason": "remote", "reconnect": False}
        assert unwanted.receive() == said
        assert unwanted.wait_for_close() == (1000, "Closed remotely")
        other.expect_nothing()


def test_bytes_that_are_no_text(redis_: RedisServer) -> None:
    with (
        cable_server(*flags(redis_.url)) as server,
        listener(server) as client,
        publisher(redis_) as app,
    ):
        app.broadcast("chat", 1)
        with redis.Redis(port=redis_.port) as connection:
            connection.publish("__anycable__", b"\xff\xfe\x00")
            connection.publish("__anycable__", b'{"stream":"chat","data":"\xff"}')
        app.broadcast("chat", 2)
        assert [client.receive()["message"] for _ in range(2)] == [1, 2]
        assert server.output().count("Publication refused") == 2


def test_a_channel_of_its_own(redis_: RedisServer) -> None:
    with (
        cable_server(*flags(redis_.url), "--redis_channel=mine") as server,
        listener(server) as client,
        publisher(redis_, "mine") as app,
    ):
        app.broadcast("chat", 1)
        assert client.receive() == delivered(CHAT, 1)


def test_redis_goes_and_comes_back(redis_: RedisServer) -> None:
    with (
        cable_server(*flags(redis_.url)) as server,
        listener(server) as client,
    ):
        for outage in range(2):
            with publisher(redis_) as app:
                app.broadcast("chat", outage)
                assert client.receive() == delivered(CHAT, outage)
            redis_.stop()
            wait_until(
                lambda n=outage: server.output().count("Redis is away") > n  # type: ignore[misc]
            )
            # Clients notice nothing.
            client.expect_nothing()
            redis_.start()
        with publisher(redis_) as app:
            app.broadcast("chat", "back")
            assert client.receive() == delivered(CHAT, "back")
        assert server.output().count(SUBSCRIBED) == 3
        assert "publications are lost until it is back" in server.output()


def test_a_redis_that_says_nothing_is_noticed(redis_: RedisServer) -> None:
    """Its connection stays open all the time: only a question finds out."""
    with (
        cable_server(*flags(redis_.url), "--redis_keepalive_interval=1") as server,
        listener(server) as client,
    ):
        server.wait_for_output(SUBSCRIBED)
        redis_.freeze()
        try:
            server.wait_for_output("no answer to a ping within 1 s")
        finally:
            redis_.thaw()
        wait_until(lambda: server.output().count(SUBSCRIBED) == 2, timeout_s=20)
        with publisher(redis_) as app:
            app.broadcast("chat", "again")
        assert client.receive() == delivered(CHAT, "again")


def test_the_server_starts_and_stops_while_redis_is_away(redis_: RedisServer) -> None:
    redis_.stop()
    with cable_server(*flags(redis_.url)) as server, listener(server) as client:
        server.wait_for_output("Redis is away")
        redis_.start()
        with publisher(redis_) as app:
            app.broadcast("chat", "at last")
            assert client.receive() == delivered(CHAT, "at last")
        redis_.stop()
        began = time.monotonic()
        client.close()
        assert server.stop() == 0
        assert time.monotonic() - began < 3
        assert "Traceback" not in server.output()


def test_a_wrong_password_is_reported_without_the_password(redis_: RedisServer) -> None:
    with redis.Redis(port=redis_.port) as connection:
        connection.config_set("requirepass", "correct-horse")
    url = f"redis://:battery-staple@127.0.0.1:{redis_.port}"
    with cable_server(*flags(url), "--log_level=debug") as server:
        output = server.wait_for_output("Redis is away")
        server.stop()
    assert "password" in output
    assert "battery-staple" not in output
    url = f"redis://:correct-horse@127.0.0.1:{redis_.port}"
    with cable_server(*flags(url), "--log_level=debug") as server:
        assert "correct-horse" not in server.wait_for_output(SUBSCRIBED)


def test_an_address_that_is_none() -> None:
    with (
        pytest.raises(RuntimeError, match=r"(?s)ended with 1.*redis_url: expected") as failed,
        cable_server(*flags("http://:battery-staple@localhost")),
    ):
        raise AssertionError("expected no start")
    assert "battery-staple" not in str(failed.value)
    assert "Traceback" not in str(failed.value)
