"""The HTTP endpoint of a running server: what may be asked, and every answer."""

import contextlib
import hashlib
import hmac
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from catenary.channels.publishers.http import HttpPublisher
from catenary.errors import BackendError
from tests.parts.cable_client import CableClient, confirmed, delivered, identifier
from tests.parts.raw_socket import RawSocket
from tests.parts.redis import redis_server
from tests.parts.server import CableServer, cable_server

FLAGS = ("--noauth", "--public_streams", "--norpc", "--broadcast_adapter=http")
CHAT = identifier("$pubsub", stream_name="chat")

Answer = tuple[int, dict[str, str], bytes]


def request(
    body: bytes | object = b"", *headers: str, method: str = "POST", path: str = "/_broadcast"
) -> bytes:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: test", f"Content-Length: {len(raw)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + raw


def ask(port: int, *requests: bytes) -> list[Answer]:
    """All answers on one connection."""
    with RawSocket(port) as connection:
        connection.send(b"".join(requests))
        return [connection.answer() for _ in requests]


def one(data: object, stream: str = "chat") -> dict[str, Any]:
    return {"stream": stream, "data": json.dumps(data)}


def cpu_s(server: CableServer) -> float:
    """The processor time that a server has used, in seconds; proc(5)."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until(holds: Callable[[], bool], timeout_s: float = 30) -> None:
    """Returns once it holds. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    with cable_server(*FLAGS) as server:
        yield server


@pytest.fixture
def client(server: CableServer) -> Iterator[CableClient]:
    with CableClient(server.cable_url) as client:
        client.receive_welcome()
        assert client.subscribe(CHAT) == confirmed(CHAT)
        yield client


# Requests


def test_a_publication_is_created_and_heard(server: CableServer, client: CableClient) -> None:
    ((status, headers, body),) = ask(server.broadcast_port, request(one({"text": "é"})))
    assert (status, body) == (201, b"")
    assert "access-control-allow-origin" not in headers
    assert client.receive() == delivered(CHAT, {"text": "é"})


def test_a_batch_in_its_order(server: CableServer, client: CableClient) -> None:
    batch = [one(n) for n in range(50)] + [one("no", "elsewhere")]
    ((status, _, _),) = ask(server.broadcast_port, request(batch))
    assert status == 201
    assert [client.receive()["message"] for _ in range(50)] == list(range(50))


def test_a_large_batch_in_its_order_before_what_is_asked_next(
    server: CableServer, client: CableClient
) -> None:
    batch = [one(n) for n in range(3_000)]
    answers = ask(server.broadcast_port, request(batch), request(one("next")))
    assert [status for status, _, _ in answers] == [201, 201]
    received = [client.receive()["message"] for _ in range(3_001)]
    assert received == [*range(3_000), "next"]


def test_a_large_batch_is_published_whole_or_not_at_all(
    server: CableServer, client: CableClient
) -> None:
    batch = [*(one(n) for n in range(3_000)), {"stream": "chat"}]
    ((status, _, body),) = ask(server.broadcast_port, request(batch))
    assert status == 422
    assert b"got message 3001: Object missing required field `data`" in body
    client.expect_nothing()


def test_meta(server: CableServer, client: CableClient) -> None:
    with CableClient(server.cable_url, headers={"X-Request-ID": "author"}) as author:
        author.receive_welcome()
        author.subscribe(CHAT)
        ask(
            server.broadcast_port,
            request({**one(1), "meta": {"exclude_socket": "author", "broadcast_type": "note"}}),
            request(one(2)),
        )
        assert client.receive() == {"type": "note", **delivered(CHAT, 1)}
        assert author.receive() == delivered(CHAT, 2)


@pytest.mark.parametrize("reconnect", [True, False])
def test_a_remote_disconnect(server: CableServer, client: CableClient, reconnect: bool) -> None:
    with CableClient(server.cable_url, headers={"X-Request-ID": "unwanted"}) as unwanted:
        unwanted.receive_welcome()
        payload = {"identifier": '{"sid":"unwanted"}', "reconnect": reconnect}
        ((status, _, _),) = ask(
            server.broadcast_port, request({"command": "disconnect", "payload": payload})
        )
        assert status == 201
        said = {"type": "disconnect", "reason": "remote", "reconnect": reconnect}
        assert unwanted.receive() == said
        assert unwanted.wait_for_close() == (1000, "Closed remotely")
    client.expect_nothing()


# Refused requests


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"garbage",
        b"{}",
        b"[{}]",
        b"7",
        b"\xff\xfe",
        b'{"stream":"","data":"1"}',
        b'{"stream":"chat","data":{"no":"string"}}',
        b'{"stream":"chat","data":"1"',
        b'[{"stream":"chat","data":"1"},{"stream":"chat"}]',
        b'{"command":"dance","payload":{}}',
        b'{"command":"disconnect"}',
        b"[" * 100_000,
    ],
    ids=lambda body: repr(body[:24]),
)
def test_what_is_no_publication(server: CableServer, client: CableClient, body: bytes) -> None:
    first, second = ask(server.broadcast_port, request(body), request(one("next")))
    status, headers, answer = first
    assert status == 422
    assert headers["content-type"] == "application/json"
    assert json.loads(answer)["error"].startswith("expected")
    # Nothing of it was published, and the connection is as good as before.
    assert second[0] == 201
    assert client.receive() == delivered(CHAT, "next")


def test_deep_data_is_a_string(server: CableServer, client: CableClient) -> None:
    deep = "[" * 300_000 + "]" * 300_000
    ((status, _, _),) = ask(server.broadcast_port, request({"stream": "chat", "data": deep}))
    assert status == 201
    assert client.receive() == delivered(CHAT, deep)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_everything_but_post(server: CableServer, method: str) -> None:
    ((status, _, body),) = ask(server.broadcast_port, request(method=method))
    assert status == 422
    assert json.loads(body) == {"error": f"expected POST, got {method}"}


@pytest.mark.parametrize("path", ["/", "/_broadcast/x", "/cable"])
def test_other_paths(server: CableServer, path: str) -> None:
    with RawSocket(server.broadcast_port) as connection:
        connection.send(request(one(1), path=path))
        assert connection.head().split()[1] == "404"


def test_a_body_that_is_too_large(server: CableServer) -> None:
    size = 16 * 1024 * 1024 + 1
    head = f"POST /_broadcast HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
    with RawSocket(server.broadcast_port) as connection:
        try:
            connection.send(head, b"x" * size)
        except (BrokenPipeError, ConnectionResetError):
            pass
        status, _, body = connection.answer()
        assert status == 413
        assert json.loads(body) == {"error": "expected a body of up to 16777216 bytes"}


def test_a_large_body_that_is_not_too_large(server: CableServer, client: CableClient) -> None:
    large = "x" * 900_000
    assert ask(server.broadcast_port, request(one(large)))[0][0] == 201
    assert client.receive()["message"] == large


# Keys


def derived(secret: str) -> str:
    return hmac.new(secret.encode(), b"broadcast-cable", hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("flags", "key", "port"),
    [
        (("--broadcast_key=open-sesame",), "open-sesame", "broadcast"),
        (("--secret=qwerty",), derived("qwerty"), "broadcast"),
        (("--secret=qwerty", "--broadcast_key=open-sesame"), "open-sesame", "broadcast"),
        (("--http_broadcast_secret=open-sesame",), "open-sesame", "broadcast"),
        (("--broadcast_key=open-sesame", "--http_broadcast_port=0"), "open-sesame", "main"),
    ],
)
def test_the_key(flags: tuple[str, ...], key: str, port: str) -> None:
    with cable_server(*FLAGS, *flags) as server, CableClient(server.cable_url) as client:
        client.receive_welcome()
        client.subscribe(CHAT)
        at = server.port if port == "main" else server.broadcast_port
        for wrong in (
            (),
            ("Authorization: Bearer wrong",),
            (f"Authorization: {key}",),
            (f"Authorization: Bearer {key}x",),
            ("Authorization: Bearer é",),
            ("Authorization: Bearer ",),
        ):
            ((status, _, body),) = ask(at, request(one("no"), *wrong))
            assert status == 401
            assert json.loads(body)["error"].startswith("expected Authorization")
        ((status, _, _),) = ask(at, request(one("yes"), f"Authorization: Bearer {key}"))
        assert status == 201
        assert client.receive() == delivered(CHAT, "yes")
        client.expect_nothing()
        assert key not in server.output()


@pytest.mark.parametrize("form", ["usual", "chunked"])
def test_a_key_that_is_not_ascii(form: str) -> None:
    body = json.dumps(one("yes")).encode()
    framed = b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    if form == "chunked":
        framed = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    head = b"POST /_broadcast HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer %b\r\n"
    with cable_server(*FLAGS, "--broadcast_key=schl\u00fcssel") as server:
        for key, status in (
            ("schl\u00fcssel".encode(), 201),
            (b"schl\xfcssel", 201),
            ("\u043a\u043b\u044e\u0447".encode(), 401),
            (b"schl\xc3", 401),
            (b"\xff", 401),
        ):
            assert ask(server.broadcast_port, head % key + framed)[0][0] == status
        with closing(HttpPublisher(server.broadcast_url, key="schl\u00fcssel")) as publisher:
            publisher.publish(body)
        with (
            closing(
                HttpPublisher(server.broadcast_url, key="\u043a\u043b\u044e\u0447")
            ) as publisher,
            pytest.raises(BackendError, match="HTTP 401"),
        ):
            publisher.publish(body)
        assert "Traceback" not in server.output()


@pytest.mark.parametrize("flag", ["--broadcast_key", "--http_broadcast_secret"])
def test_public_mode_asks_for_no_key_and_says_so(flag: str) -> None:
    """As anycable-go 1.6.16, which forgets the key without a word."""
    with cable_server(*FLAGS, "--public", f"{flag}=open-sesame") as server:
        for shown in ((), ("Authorization: Bearer wrong",), ("Authorization: Bearer open-sesame",)):
            ((status, _, _),) = ask(server.broadcast_port, request(one("yes"), *shown))
            assert status == 201
        assert "broadcast_key is set, but not required" in server.output()


@pytest.mark.parametrize("flags", [(), ("--secret=qwerty",), ("--broadcast_key=none",)])
def test_public_mode_says_nothing_of_a_key_that_was_not_given(flags: tuple[str, ...]) -> None:
    with cable_server(*FLAGS, "--public", *flags) as server:
        assert "broadcast_key" not in server.output()


# Requests that are not complete


def unfinished(size: int, *headers: str, path: str = "/_broadcast") -> bytes:
    """The head of a request whose body is to follow."""
    lines = [f"POST {path} HTTP/1.1", "Host: test", f"Content-Length: {size}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.fixture(scope="module")
def guarded() -> Iterator[CableServer]:
    """A server whose publishers need a key."""
    with cable_server(*FLAGS, "--secret=qwerty", "--metrics_http=/metrics") as server:
        yield server


@pytest.mark.parametrize("size", [1_000_000, 10_000_000])
@pytest.mark.parametrize("path", ["/_broadcast", "/api/publish"])
def test_a_publisher_without_the_key_is_refused_before_it_sends_the_body(
    guarded: CableServer, size: int, path: str
) -> None:
    port = guarded.port if path == "/api/publish" else guarded.broadcast_port
    with RawSocket(port) as client:
        client.send(unfinished(size, "Authorization: Bearer wrong", path=path))
        assert client.answer()[0] == 401
        for _ in range(10):
            client.send(b"x" * (size // 10))
            assert guarded.figure("pending_requests_bytes") == 0
        # The refused body is skipped, and the connection is still served.
        client.send(unfinished(2, "Connection: close", path=path) + b"{}")
        assert client.answer()[0] == 401
        assert client.wait_for_end() == b""


def test_a_refused_body_that_does_not_come_ends_the_connection() -> None:
    flags = (*FLAGS, "--broadcast_key=k", "--handshake_timeout=1")
    with cable_server(*flags) as server, RawSocket(server.broadcast_port) as client:
        client.send(unfinished(1_000_000) + b"x")
        assert client.answer()[0] == 401
        assert client.wait_for_end(5) == b""


def holds_and_refused(server: CableServer) -> int:
    """Bytes of all incomplete requests, 400,000 for each that was refused."""
    refused = 400_000 * server.figure("refused_requests_total")
    return server.figure("pending_requests_bytes") + refused


@pytest.mark.parametrize(
    ("start", "rest"),
    [
        (unfinished(500_000) + b"x" * 399_900, b"x" * 100_100),
        (unfinished(1_100_000) + b"x" * 399_900, b"x" * 700_100),
        (
            b"POST /_broadcast HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"61A80\r\n" + b"x" * 400_000,
            b"\r\n0\r\n\r\n",
        ),
    ],
    ids=["usual", "large", "chunked"],
)
def test_what_all_incomplete_requests_hold_is_limited(start: bytes, rest: bytes) -> None:
    """Those that have waited longest are refused, those that came last are served."""
    flags = ("--max_pending_requests_size=2000000", "--metrics_http=/metrics")
    with cable_server(*FLAGS, *flags) as server, contextlib.ExitStack() as stack:
        clients: list[RawSocket] = []
        for _ in range(12):
            client = stack.enter_context(RawSocket(server.broadcast_port))
            client.send(start)
            clients.append(client)
            wait_until(lambda: holds_and_refused(server) >= 399_000 * len(clients))
            assert server.figure("pending_requests_bytes") <= 2_000_000
        refused = server.figure("refused_requests_total")
        assert refused == 7
        for client in clients[:refused]:
            status, headers, _ = client.answer()
            assert status == 503
            assert 5 <= int(headers["retry-after"]) <= 15
            client.wait_for_end()
        clients[-1].send(rest)
        assert clients[-1].answer()[0] == 422, "it was read to its end"
        for client in clients[refused:]:
            client.socket.close()
        wait_until(lambda: server.figure("pending_requests_bytes") == 0)


def test_a_body_byte_by_byte_costs_no_copy_for_each(server: CableServer) -> None:
    """A megabyte that is copied for each of 5,000 bytes would cost a second and more."""
    body = json.dumps(one("x" * 1_000_000)).encode()
    with RawSocket(server.broadcast_port) as client:
        client.send(unfinished(len(body)) + body[:-5_000])
        before = cpu_s(server)
        for at in range(len(body) - 5_000, len(body)):
            client.send(body[at : at + 1])
        assert client.answer()[0] == 201
        assert cpu_s(server) - before < 0.6


# Browsers


def test_cors() -> None:
    with cable_server(*FLAGS, "--http_broadcast_cors", "--allowed_origins=*.example.com") as server:
        preflight, right, wrong = ask(
            server.broadcast_port,
            request(b"", "Origin: https://a.example.com", method="OPTIONS"),
            request(one(1), "Origin: https://a.example.com"),
            request(one(1), "Origin: https://evil.test"),
        )
        # Neither browsers nor this test's reader of answers take it for more than bytes.
        with RawSocket(server.broadcast_port) as odd:
            odd.send(request(one(1), "Origin: https://\u043a\u043b\u044e\u0447.example.com"))
            assert odd.head().startswith("HTTP/1.1 201 ")
        assert "Traceback" not in server.output()
    for (status, headers, _), expected in ((preflight, 200), (right, 201)):
        assert status == expected
        assert headers["access-control-allow-origin"] == "https://a.example.com"
        assert "POST" in headers["access-control-allow-methods"]
        assert "Authorization" in headers["access-control-allow-headers"]
        assert headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in wrong[1]


# Connections


def test_a_connection_serves_many_requests_in_order(
    server: CableServer, client: CableClient
) -> None:
    requests = [request(one(n)) if n % 5 else request(b"garbage") for n in range(100)]
    statuses = [status for status, _, _ in ask(server.broadcast_port, *requests)]
    assert statuses == [201 if n % 5 else 422 for n in range(100)]
    received = [client.receive()["message"] for _ in range(80)]
    assert received == [n for n in range(100) if n % 5]


@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_request_in_pieces(server: CableServer, client: CableClient, size: int) -> None:
    whole = request(one("pieces")) * 2
    with RawSocket(server.broadcast_port) as connection:
        connection.send(*(whole[i : i + size] for i in range(0, len(whole), size)))
        assert [connection.answer()[0] for _ in range(2)] == [201, 201]
    assert [client.receive()["message"] for _ in range(2)] == ["pieces", "pieces"]


def test_a_request_of_another_form_between_the_usual_ones(
    server: CableServer, client: CableClient
) -> None:
    body = json.dumps(one("chunked")).encode()
    chunked = (
        b"POST /_broadcast HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    )
    with RawSocket(server.broadcast_port) as connection:
        connection.send(request(one("usual")), chunked, request(one("usual again")))
        assert [connection.answer()[0] for _ in range(3)] == [201, 201, 201]
    received = [client.receive()["message"] for _ in range(3)]
    assert received == ["usual", "chunked", "usual again"]


def test_a_connection_is_closed_where_that_is_asked_for(server: CableServer) -> None:
    with RawSocket(server.broadcast_port) as connection:
        connection.send(request(one(1), "Connection: close"))
        assert connection.answer()[0] == 201
        assert connection.wait_for_end() == b""


def test_on_the_port_of_the_cable() -> None:
    with cable_server(*FLAGS, "--broadcast_key=k", "--http_broadcast_port=0") as server:
        key = "Authorization: Bearer k"
        answers = ask(server.port, request(one(1), key), request(b"x", key), request(one(2), key))
        assert [status for status, _, _ in answers] == [201, 422, 201]
        with RawSocket(server.port) as connection:
            connection.send(request(one(1), key), b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert [connection.answer()[0] for _ in range(2)] == [201, 200]


# Redis or NATS is unavailable


@pytest.mark.parametrize("header", ["X-Usual: 1", "Origin: http://page"])
def test_only_what_is_on_its_way_is_accepted(header: str) -> None:
    """Whether the request skips the HTTP framework or not."""
    with redis_server() as redis:
        flags = (*FLAGS, "--broker=redis", f"--redis_url={redis.url}")
        with cable_server(*flags) as server, CableClient(server.cable_url) as client:
            server.wait_until_it_hears_others()
            client.receive_welcome()
            client.subscribe(CHAT)
            (before,) = ask(server.broadcast_port, request(one(1), header))
            assert client.receive()["message"] == 1
            redis.stop()
            refused, again = ask(server.broadcast_port, *[request(one(2), header)] * 2)
            assert (before[0], refused[0], again[0]) == (201, 503, 503)
            assert "try again" in json.loads(refused[2])["error"]
            redis.start()
            server.wait_for_output("Publications arrive again")
            (after,) = ask(server.broadcast_port, request(one(3), header))
            assert after[0] == 201
            assert client.receive()["message"] == 3
