"""Each kind of refusal is one line of a real server, with the reason, the address, the path and the origin."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.parts.raw_socket import RawSocket, command, masked, upgrade
from tests.parts.server import CableServer, cable_server
from tests.parts.tokens import SECRET, token

ORIGIN = "https://www.good.test"
# Valid for a day: other tests may run for long between the import and the first of these.
GOOD = token({"ext": "{}", "exp": time.time() + 86_400})
FLAGS = (
    *("--log_format=json", "--norpc", "--broker=memory", "--sse", "--ds", "--node_id=blue"),
    *(
        f"--secret={SECRET}",
        f"--streams_secret={SECRET}",
        "--broadcast_key=key",
        "--api_secret=key",
    ),
    *("--allowed_origins=www.good.test", "--broadcast_adapter=http", "--max_identifier_size=200"),
    '--pusher_apps=[{"id":"app","key":"appkey","secret":"s"}]',
)


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    with cable_server(*FLAGS) as server:
        yield server


def handshake(target: str, *headers: str) -> Callable[[CableServer], None]:
    def send(server: CableServer) -> None:
        with RawSocket(server.port) as client:
            client.send(upgrade(target, *headers))
            client.head()

    return send


def request(
    port: str, method: str, target: str, body: str = "", *headers: str
) -> Callable[[CableServer], None]:
    def send(server: CableServer) -> None:
        with RawSocket(getattr(server, port)) as client:
            lines = (
                f"{method} {target} HTTP/1.1",
                "Host: x",
                f"Content-Length: {len(body)}",
                *headers,
            )
            client.send(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
            client.answer()

    return send


def later(*head: str) -> Callable[[CableServer], None]:
    """The second request of a connection, which uvicorn reads."""

    def send(server: CableServer) -> None:
        with RawSocket(server.port) as client:
            client.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.answer()[0] == 200
            client.send(("\r\n".join(head) + "\r\n\r\n").encode())
            client.answer()

    return send


def said(*messages: bytes, target: str = f"/cable?jid={GOOD}") -> Callable[[CableServer], None]:
    def send(server: CableServer) -> None:
        with RawSocket(server.port) as client:
            client.send(upgrade(target, f"Origin: {ORIGIN}"))
            client.head()
            client.send(*messages)
            client.send(masked(b"\x03\xe8", 0x8))
            client.wait_for_end()

    return send


def identifier(**params: str) -> str:
    return json.dumps({"channel": "$pubsub", **params})


SUBSCRIPTION = json.dumps(
    {"event": "pusher:subscribe", "data": {"channel": "private-a", "auth": "appkey:x"}}
)

CASES: dict[str, tuple[Callable[[CableServer], None], str, str, str, str]] = {
    "origin": (
        handshake("/cable", "Origin: https://evil.test"),
        "request_refused", "expected an allowed origin", "/cable", "https://evil.test",
    ),
    "no upgrade": (
        request("port", "GET", "/cable"), "request_refused", "expected Upgrade: websocket", "/cable", "",
    ),
    "malformed head": (
        handshake("/cable", "no colon"), "request_refused", "expected header lines: NAME: VALUE", "/cable", "",
    ),
    "token": (
        handshake("/cable?jid=bad", f"Origin: {ORIGIN}"),
        "connection_rejected", "a token that is malformed", "/cable", ORIGIN,
    ),
    "application": (
        handshake("/cable", f"Origin: {ORIGIN}"),
        "connection_rejected", "there is no application (norpc)", "/cable", ORIGIN,
    ),
    "signed stream": (
        said(command("subscribe", identifier(signed_stream_name="x--y"))),
        "subscription_rejected", "the stream is not public, and its signature is missing or invalid", "/cable", ORIGIN,
    ),
    "limit of identifiers": (
        said(command("subscribe", identifier(x="y" * 300))),
        "subscription_rejected", "expected an identifier of up to 200 characters", "/cable", ORIGIN,
    ),
    "command without a subscription": (
        said(command("message", "none", data="{}")), "message_refused", "not subscribed to none", "/cable", ORIGIN,
    ),
    "unknown command": (
        said(command("jump")), "message_refused", "expected a known command, got 'jump'", "/cable", ORIGIN,
    ),
    "Pusher's signature": (
        said(masked(SUBSCRIPTION.encode()), target="/app/appkey?protocol=7"),
        "message_refused", "subscription to private-a: The signature is invalid", "/app/appkey", ORIGIN,
    ),
    "broadcast key": (
        request("broadcast_port", "POST", "/_broadcast", "{}"),
        "request_refused", "expected Authorization: Bearer with the key", "/_broadcast", "",
    ),
    "broadcast key of a page": (
        request("broadcast_port", "POST", "/_broadcast", "{}", f"Origin: {ORIGIN}"),
        "request_refused", "expected Authorization: Bearer with the key", "/_broadcast", ORIGIN,
    ),
    "publication": (
        request("broadcast_port", "POST", "/_broadcast", "{}", "Authorization: Bearer key"),
        "request_refused", "expected {stream, data}", "/_broadcast", "",
    ),
    "API key": (
        request("port", "GET", "/api/connections"),
        "request_refused", "expected Authorization: Bearer with the key", "/api/connections", "",
    ),
    "signature of Pusher's API": (
        request("port", "POST", "/apps/app/events?auth_key=no", "{}"),
        "request_refused", "auth_key is not a key of this app", "/apps/app/events", "",
    ),
    "event stream": (
        request("port", "GET", f"/events?jid={GOOD}&stream=a", "", f"Origin: {ORIGIN}"),
        "subscription_rejected", "the stream is not public", "/events", ORIGIN,
    ),
    "malformed later head": (
        later("GET /page?token=secret HTTP/1.1", "no colon"),
        "request_refused", "expected an HTTP/1.1 request: ", "/page", "",
    ),
    "method of a later head": (
        later("JUMP /page HTTP/1.1", "Host: x"), "request_refused", "expected another method", "", "",
    ),
    "durable stream": (
        request("port", "GET", "/ds/a"), "request_refused", "expected a signed name of this stream", "/ds/a", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CASES)
def test_a_refusal_is_one_line(kind: str, server: CableServer) -> None:
    send, event, reason, path, origin = CASES[kind]
    before = server.output()
    send(server)
    handshake("/marker")(server)
    marker = '"path":"/marker"'
    after = server.wait_for_output(marker, times=before.count(marker) + 1)
    found = [json.loads(each) for each in after.removeprefix(before).splitlines()]
    refusals: list[dict[str, Any]] = [each for each in found if each.get("path") != "/marker"]
    assert [each["event"] for each in refusals] == [event]
    (line,) = refusals
    assert line["reason"].startswith(reason)
    assert (line["remote"], line.get("path", ""), line.get("origin", "")) == (
        "127.0.0.1",
        path,
        origin,
    )
    assert (line["level"], line["node"]) == ("INFO", "blue")
    if event != "request_refused":
        assert line["sid"]


def test_the_start_says_who_is_asked_and_listened_to(server: CableServer) -> None:
    said = [json.loads(each)["msg"] for each in server.output().splitlines()]
    assert "There is no application (norpc)" in said
    assert "Publishers over HTTP need a key" in said
    assert f"Serving cable at ws://127.0.0.1:{server.port}/cable" in said
