"""Publications that Redis or NATS refuse for good: the publisher gets the refusal, and no other is delayed."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any, NamedTuple

import pytest
import redis as redis_library

from tests.api.test_broadcast import ask, one, request
from tests.parts.cable_client import CableClient, identifier
from tests.parts.nats_node import jetstream_server
from tests.parts.redis import RedisServer, RedisStreamPublisher, redis_server
from tests.parts.server import CableServer, cable_server

FLAGS = ("--public", "--norpc", "--metrics_http=/metrics")
CHAT = identifier("$pubsub", stream_name="chat")
LARGE = "x" * 1_100_000


class Setting(NamedTuple):
    """A server with a broker, a Redis stream that it reads, and publications that the broker always refuses."""

    server: CableServer
    redis: RedisServer
    poison: dict[str, Any]
    status: int
    reason: str


def on_nats(stack: ExitStack) -> Setting:
    nats = stack.enter_context(jetstream_server())
    redis = stack.enter_context(redis_server())
    server = stack.enter_context(
        cable_server(
            *(*FLAGS, "--broker=nats", "--broadcast_adapter=http,redisx"),
            *(f"--nats_servers={nats.url}", f"--redis_url={redis.url}"),
        )
    )
    return Setting(server, redis, one(LARGE), 413, "max_payload")


def on_redis(stack: ExitStack) -> Setting:
    redis = stack.enter_context(redis_server())
    server = stack.enter_context(
        cable_server(
            *(*FLAGS, "--broker=redis", "--broadcast_adapter=http,redisx"),
            f"--redis_url={redis.url}",
        )
    )
    with redis_library.Redis(port=redis.port) as connection:
        connection.set("catenary:__anycable_internal__:meta:bad", "not ours")
    return Setting(server, redis, one("refused", "bad"), 422, "WRONGTYPE")


@pytest.fixture(params=[on_nats, on_redis])
def setting(request: pytest.FixtureRequest) -> Iterator[Setting]:
    with ExitStack() as stack:
        build: Callable[[ExitStack], Setting] = request.param
        setting = build(stack)
        setting.server.wait_until_it_hears_others()
        yield setting


@pytest.fixture
def client(setting: Setting) -> Iterator[CableClient]:
    with CableClient(setting.server.cable_url) as client:
        client.receive_welcome()
        client.subscribe(CHAT)
        yield client


def heard(client: CableClient) -> Any:
    return client.receive()["message"]


def figure(server: CableServer, name: str) -> int:
    ((_, _, body),) = ask(server.port, request(path="/metrics", method="GET"))
    for line in body.decode().splitlines():
        if line.startswith(f"anycable_go_{name} "):
            return int(float(line.split()[-1]))
    raise AssertionError(f"no figure {name}")


def test_over_http_the_status_does_not_say_try_again(setting: Setting, client: CableClient) -> None:
    port = setting.server.broadcast_port
    answers = ask(
        port,
        request(setting.poison),
        request([one(1), setting.poison, one(3)]),
        request(one("next")),
    )
    assert [status for status, _, _ in answers] == [setting.status, setting.status, 201]
    error = json.loads(answers[0][2])["error"]
    assert error.startswith("not published: ")
    assert setting.reason in error
    # A batch is taken whole or not at all: nothing of it arrives.
    assert heard(client) == "next"
    assert figure(setting.server, "refused_publications_total") == 2


def test_in_a_redis_stream_it_is_dropped_and_what_is_behind_it_arrives(
    setting: Setting, client: CableClient
) -> None:
    with closing(RedisStreamPublisher(setting.redis)) as app:
        app.broadcast("chat", "before")
        app.publish(json.dumps(setting.poison))
        app.publish(json.dumps([one("no"), setting.poison]))
        app.broadcast("chat", "behind")
        assert [heard(client), heard(client)] == ["before", "behind"]
    setting.server.wait_for_output("Publication refused", times=2)
    assert figure(setting.server, "redisx_retries_total") == 0
    assert figure(setting.server, "refused_publications_total") == 2
    with redis_library.Redis(port=setting.redis.port) as connection:
        deadline = time.monotonic() + 10
        while connection.xlen("__anycable__"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
