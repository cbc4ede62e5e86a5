"""``@anycable/core`` with tokens: where it puts them, and how it comes by a new one."""

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.parts.node import NodeClient
from tests.parts.server import CableServer, cable_server
from tests.parts.tokens import SECRET, signed_name, token

FLAGS = ("--norpc", "--broadcast_adapter=http", f"--secret={SECRET}", "--broadcast_key=none")
GOOD = token({"ext": "{}", "exp": int(time.time()) + 3600})
EXPIRED = token({"ext": "{}", "exp": int(time.time()) - 3600})

each_strategy = pytest.mark.parametrize("strategy", ["param", "header", "sub-protocol"])


@pytest.fixture(scope="module")
def server(server_command: tuple[str, ...]) -> Iterator[CableServer]:
    """Nobody is let in without a token."""
    with cable_server(*FLAGS, command=server_command) as server:
        yield server


@contextmanager
def client_with(
    server: CableServer, strategy: str, first: str, following: str = ""
) -> Iterator[NodeClient]:
    options: dict[str, object] = {
        "url": server.cable_url,
        "strategy": strategy,
        "token": first,
        "next": following,
    }
    client = NodeClient("anycable_token.mjs", options)
    try:
        yield client
    finally:
        client.stop()


@each_strategy
def test_a_token_and_a_signed_stream_need_no_application(
    server: CableServer, strategy: str
) -> None:
    with client_with(server, strategy, GOOD) as client:
        client.do("subscribe", name=signed_name("news"))
        client.wait_for("subscribed")
        body = json.dumps({"stream": "news", "data": '"hello"'}).encode()
        urllib.request.urlopen(server.broadcast_url, body, timeout=5).close()
        assert client.wait_for("received")["message"] == "hello"
        assert client.told("open")[0]["protocol"] == "actioncable-v1-json"


def test_a_stream_with_a_wrong_signature_is_rejected(server: CableServer) -> None:
    with client_with(server, "param", GOOD) as client:
        client.do("subscribe", name=signed_name("news")[:-1])
        assert client.wait_for("rejected")["error"] == "SubscriptionRejectedError"


@each_strategy
def test_an_expired_token_is_refreshed(server: CableServer, strategy: str) -> None:
    with client_with(server, strategy, EXPIRED, GOOD) as client:
        client.do("connect")
        client.wait_for_frame(type="disconnect", reason="token_expired", reconnect=False)
        client.wait_for("refresh")
        client.wait_for("connected")


@each_strategy
def test_a_bad_token_is_given_up(server: CableServer, strategy: str) -> None:
    with client_with(server, strategy, "garbage", GOOD) as client:
        client.do("connect")
        client.wait_for_frame(type="disconnect", reason="unauthorized", reconnect=False)
        client.wait_for("closed")
        assert client.told("refresh") == []


def test_a_token_that_expires_while_connected_is_refreshed() -> None:
    """The client subscribes again with its new token, and is not interrupted after that."""
    with cable_server(*FLAGS, "--jwt_enforce_expiry", "--jwt_expiry_grace=0") as server:
        short = token({"ext": "{}", "exp": int(time.time()) + 3})
        with client_with(server, "param", short, GOOD) as client:
            client.do("subscribe", name=signed_name("news"))
            client.wait_for("subscribed")
            client.wait_for_frame(type="disconnect", reason="token_expired", reconnect=False)
            client.wait_for("refresh")
            client.wait_for("subscribed")
            body = json.dumps({"stream": "news", "data": '"hello"'}).encode()
            urllib.request.urlopen(server.broadcast_url, body, timeout=5).close()
            assert client.wait_for("received")["message"] == "hello"
            assert len(client.told("open")) == 2
