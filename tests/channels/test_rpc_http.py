"""HTTP RPC as ASGI and as WSGI: statuses, keys, bodies."""

import asyncio
import contextlib
import functools
import io
import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from catenary.auth.keys import RPC_PHRASE, bearer, derived_key
from catenary.channels import rpc_http
from catenary.channels.rpc_http import MAX_BODY_BYTES, AsgiRpc, WsgiRpc, rpc_key
from catenary.errors import ConfigError
from tests.channels.chat import chat

KEY = "s3cret"
CONNECT = b'{"env":{"url":"ws://test/cable?name=jack"}}'

Answer = tuple[int, bytes]
Ask = Callable[..., Answer]


def ask_asgi(application: AsgiRpc, method: str, path: str, body: bytes, key: str = KEY) -> Answer:
    """One request, its body in pieces; what a server would have got."""
    pieces = [body[at : at + 7] for at in range(0, len(body), 7)] or [b""]
    if len(body) > MAX_BODY_BYTES:
        pieces = [body[:-1], body[-1:]]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"X-AnyCable-Meta-Sid", b"s1"), (b"authorization", f"Bearer {key}".encode())]
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    asyncio.run(application(scope, receive, send))
    start, rest = sent
    assert dict(start["headers"])[b"content-length"] == str(len(rest["body"])).encode()
    return start["status"], rest["body"]


def ask_wsgi(application: WsgiRpc, method: str, path: str, body: bytes, key: str = KEY) -> Answer:
    statuses: list[str] = []

    def start_response(status: str, headers: list[tuple[str, str]]) -> None:
        statuses.append(status)

    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "CONTENT_LENGTH": str(len(body)),
        # PEP 3333: the bytes of a header, read as Latin-1.
        "HTTP_AUTHORIZATION": f"Bearer {key}".encode().decode("latin-1"),
        "HTTP_X_ANYCABLE_META_SID": "s1",
        "wsgi.input": io.BytesIO(body),
    }
    answer = b"".join(application(environ, start_response))
    return int(statuses[0].split()[0]), answer


@pytest.fixture(params=["asgi", "wsgi"])
def ask(request: pytest.FixtureRequest) -> Iterator[Ask]:
    """Asks one cable in either way."""
    cable = chat()
    if request.param == "asgi":
        yield functools.partial(ask_asgi, cable.http_rpc(key=KEY))
        return
    wsgi = cable.wsgi_http_rpc(key=KEY)
    yield functools.partial(ask_wsgi, wsgi)
    wsgi.close()


@pytest.mark.parametrize("path", ["/connect", "connect", "/deep/below/connect"])
def test_calls_are_answered_under_any_mount_path(ask: Ask, path: str) -> None:
    status, body = ask("POST", path, CONNECT)
    assert status == 200
    answer = json.loads(body)
    assert answer["status"] == 1
    assert json.loads(answer["identifiers"]) == {"name": "jack"}
    assert json.loads(answer["transmissions"][0]) == {"type": "welcome", "sid": "s1"}


@pytest.mark.parametrize("key", ["schl\u00fcssel", "\u043a\u043b\u044e\u0447"])
def test_a_key_that_is_not_ascii(key: str) -> None:
    cable = chat()
    assert ask_asgi(cable.http_rpc(key=key), "POST", "/connect", CONNECT, key)[0] == 200
    with contextlib.closing(cable.wsgi_http_rpc(key=key)) as wsgi:
        assert ask_wsgi(wsgi, "POST", "/connect", CONNECT, key)[0] == 200


@pytest.mark.parametrize(
    "what",
    [
        ("POST", "/connect", CONNECT, "wrong", 401),
        ("POST", "/connect", CONNECT, "", 401),
        ("POST", "/connect", CONNECT, "\u043a\u043b\u044e\u0447", 401),
        ("POST", "/connect", CONNECT, "schl\u00fcssel", 401),
        ("GET", "/connect", b"", KEY, 404),
        ("POST", "/", CONNECT, KEY, 404),
        ("POST", "/connect/", CONNECT, KEY, 404),
        ("POST", "/_connect", CONNECT, KEY, 404),
        ("POST", "/connect", b"", KEY, 422),
        ("POST", "/connect", b"<html>", KEY, 422),
        ("POST", "/command", b'{"command":"dance"}', KEY, 422),
        ("POST", "/connect", b" " * (MAX_BODY_BYTES + 1), KEY, 413),
    ],
)
def test_invalid_calls_are_refused(ask: Ask, what: tuple[str, str, bytes, str, int]) -> None:
    method, path, body, key, status = what
    assert ask(method, path, body, key)[0] == status


def test_the_memory_of_all_bodies_is_limited_in_asgi(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call that waits longest is answered 503, and does not wait for the rest of its body."""
    monkeypatch.setattr(rpc_http, "MAX_PENDING_BYTES", 1_000)
    application = chat().http_rpc(key=KEY)
    headers = [(b"authorization", bearer(KEY))]
    scope = {"type": "http", "method": "POST", "path": "/connect", "headers": headers}

    async def call(pieces: "asyncio.Queue[bytes]") -> int:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": await pieces.get(), "more_body": True}

        async def send(message: Any) -> None:
            sent.append(message)

        await application(scope, receive, send)
        status: int = sent[0]["status"]
        return status

    async def scenario() -> None:
        first, second = asyncio.Queue[bytes](), asyncio.Queue[bytes]()
        calls = [asyncio.create_task(call(each)) for each in (first, second)]
        first.put_nowait(b"x" * 600)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        second.put_nowait(b"x" * 600)
        assert await asyncio.wait_for(calls[0], 5) == 503
        assert not calls[1].done()
        calls[1].cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    asyncio.run(scenario())


def test_the_memory_of_all_bodies_is_limited_in_wsgi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_http, "MAX_PENDING_BYTES", len(CONNECT) + 10)
    inner: list[int] = []

    class Body(io.BytesIO):
        """While it is read, another call comes."""

        def read(self, size: int | None = -1, /) -> bytes:
            inner.append(ask_wsgi(wsgi, "POST", "/connect", CONNECT)[0])
            return super().read(size)

    with contextlib.closing(chat().wsgi_http_rpc(key=KEY)) as wsgi:
        environ = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/connect",
            "CONTENT_LENGTH": str(len(CONNECT)),
            "HTTP_AUTHORIZATION": f"Bearer {KEY}",
            "wsgi.input": Body(CONNECT),
        }
        statuses: list[str] = []
        list(wsgi(environ, lambda status, _: statuses.append(status)))
        assert (inner, statuses) == ([503], ["200 OK"])
        assert ask_wsgi(wsgi, "POST", "/connect", CONNECT)[0] == 200


def test_plain_methods_and_publications_work_in_wsgi() -> None:
    class Recorder:
        taken: list[bytes] = []  # noqa: RUF012

        def publish(self, raw: bytes) -> None:
            self.taken.append(raw)

    cable = chat(Recorder())
    wsgi = cable.wsgi_http_rpc(key="")
    env = {"istate": {"count": "3"}}
    message = {
        "command": "unsubscribe",
        "identifier": '{"channel":"RoomChannel","id":1}',
        "connection_identifiers": '{"name":"jack"}',
        "env": env,
    }
    status, body = ask_wsgi(wsgi, "POST", "/command", json.dumps(message).encode(), "")
    assert (status, json.loads(body)["status"]) == (200, 1)
    assert [json.loads(json.loads(each)["data"]) for each in Recorder.taken] == [
        ["jack", "left 1", 3]
    ]
    wsgi.close()
    cable.application.release()


def test_a_forked_process_has_its_own_event_loop() -> None:
    wsgi = chat().wsgi_http_rpc(key=KEY)
    assert ask_wsgi(wsgi, "POST", "/connect", CONNECT, KEY)[0] == 200
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        status = ask_wsgi(wsgi, "POST", "/connect", CONNECT, KEY)[0]
        os._exit(0 if status == 200 else 1)
    assert os.waitpid(child, 0)[1] == 0
    wsgi.close()


def test_the_key_is_given_or_derived_and_access_without_one_is_explicit() -> None:
    assert rpc_key("k", None) == "k"
    assert rpc_key("", "secret") == ""
    assert rpc_key(None, "secret") == derived_key("secret", RPC_PHRASE)
    with pytest.raises(ConfigError, match="key='' allows every caller"):
        chat().http_rpc()


def test_asgi_lifespan_and_other_scopes() -> None:
    application = chat().http_rpc(key=KEY)
    events = ["lifespan.startup", "lifespan.shutdown"]
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": events.pop(0)}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    asyncio.run(application({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    with pytest.raises(RuntimeError, match="expected an HTTP request, got websocket"):
        asyncio.run(application({"type": "websocket"}, receive, send))


def test_an_event_loop_that_ended_is_replaced() -> None:
    """Otherwise a thread of the server would wait for an answer for ever."""
    with contextlib.closing(chat().wsgi_http_rpc(key=KEY)) as wsgi:
        assert ask_wsgi(wsgi, "POST", "/connect", CONNECT)[0] == 200
        loop, thread = wsgi._loop, wsgi._thread
        assert loop is not None
        assert thread is not None
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        assert ask_wsgi(wsgi, "POST", "/connect", CONNECT)[0] == 200
