"""A cable behind HTTP RPC: as an ASGI application, and as a WSGI application.

Each call is a POST of JSON to ``…/connect``, ``…/command`` or ``…/disconnect``, under any mount path.
Source: docs/rpc.md and etc/rpc-openapi.yml (anycable/anycable); statuses as lib/anycable/httrpc of
AnyCable's Ruby library. Knows: HTTP. Does not know: the calls.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final

import msgspec

from catenary.auth.keys import RPC_PHRASE, BearerKey, derived_key
from catenary.channels.rpc_handler import RpcHandler
from catenary.errors import ConfigError, ProtocolError, RequestRefused
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.metrics.counters import Counters
from catenary.ports import Application
from catenary.protocols import rpc_json
from catenary.wire.http1 import header_text
from catenary.wire.request_memory import PendingBody, RequestMemory, too_many

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.channels"))

MAX_BODY_BYTES: Final = 16 * 2**20
"""The largest body; servers accept responses of the same size."""

MAX_PENDING_BYTES: Final = 64 * 2**20
"""The memory of all bodies of one application that are being read."""

_META: Final = "x-anycable-meta-"
_REASONS: Final = {
    200: "OK",
    401: "Unauthorized",
    404: "Not Found",
    413: "Content Too Large",
    422: "Unprocessable Content",
    500: "Internal Server Error",
    503: "Service Unavailable",
}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
StartResponse = Callable[[str, list[tuple[str, str]]], object]


class _Answer(msgspec.Struct, frozen=True):
    status: int
    body: bytes


class _Calls:
    """Authentication and calls, for ASGI and WSGI."""

    def __init__(self, application: Application, key: str) -> None:
        self._procedures = RpcHandler(application, rpc_json).procedures
        self._key = BearerKey(key)

    def refusal(self, method: str, path: str, authorization: str, size: int) -> _Answer | None:
        """The response without reading the body; None if the call is allowed."""
        if method != "POST" or path.rpartition("/")[2] not in self._procedures:
            return _Answer(404, b"Not found")
        if not self._key.matches(authorization):
            return _Answer(401, b"Unauthorized")
        return _Answer(413, b"Body too large") if size > MAX_BODY_BYTES else None

    async def answer(self, path: str, body: bytes, metadata: Mapping[str, str]) -> _Answer:
        """Makes an allowed call."""
        try:
            return _Answer(200, await self._procedures[path.rpartition("/")[2]](body, metadata))
        except ProtocolError as error:
            return _Answer(422, f"Invalid request body: {error}".encode())
        except (Exception, SystemExit):  # noqa: BLE001
            # A fault in this code, but the server must not wait for ever.
            _limited.exception("A call failed unexpectedly", sid=metadata.get("sid"))
            return _Answer(500, b"Internal error")


class AsgiRpc:
    """An ASGI 3.0 application: see :meth:`catenary.channels.cable.Cable.http_rpc`."""

    def __init__(self, application: Application, key: str) -> None:
        self._calls = _Calls(application, key)
        self._memory = RequestMemory(MAX_PENDING_BYTES, Counters())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"expected an HTTP request, got {scope['type']}")
        headers = {name.decode("latin-1").lower(): value for name, value in scope["headers"]}
        size = _number(headers.get("content-length", b"0").decode("latin-1"))
        authorization = header_text(headers.get("authorization", b""))
        path = scope["path"]
        answer = self._calls.refusal(scope["method"], path, authorization, size)
        if answer is None:
            metadata = {
                name.removeprefix(_META): value.decode("latin-1")
                for name, value in headers.items()
                if name.startswith(_META)
            }
            try:
                body = await self._body(receive)
            except RequestRefused as error:
                answer = _Answer(error.status, str(error).encode())
            else:
                answer = await self._calls.answer(path, body, metadata)
        fields = [(name.lower().encode(), value.encode()) for name, value in _fields(answer)]
        await send({"type": "http.response.start", "status": answer.status, "headers": fields})
        await send({"type": "http.response.body", "body": answer.body})

    async def _body(self, receive: Receive) -> bytes:
        """The whole body. Raises :class:`RequestRefused` if it is too large, or displaced by other bodies."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as wait:
                body = PendingBody(
                    self._memory, MAX_BODY_BYTES, lambda: wait.reschedule(loop.time())
                )
                try:
                    while True:
                        message = await receive()
                        body.add(message.get("body", b""))
                        if not message.get("more_body", False):
                            return body.taken()
                finally:
                    body.close()
        except TimeoutError:
            raise too_many() from None


class WsgiRpc:
    """A WSGI application (PEP 3333): see :meth:`catenary.channels.cable.Cable.wsgi_http_rpc`.

    Each process has one thread with an event loop for coroutines; the server's threads wait for it.
    """

    def __init__(self, application: Application, key: str) -> None:
        self._calls = _Calls(application, key)
        self._lock = threading.Lock()
        self._reading_bytes = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._process = 0

    def __call__(
        self, environ: Mapping[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        size = _number(environ.get("CONTENT_LENGTH") or "0")
        authorization = header_text(environ.get("HTTP_AUTHORIZATION", "").encode("latin-1"))
        answer = self._calls.refusal(environ["REQUEST_METHOD"], path, authorization, size)
        if answer is None:
            answer = self._answer(environ, path, size)
        start_response(f"{answer.status} {_REASONS[answer.status]}", _fields(answer))
        return [answer.body]

    def _answer(self, environ: Mapping[str, Any], path: str, size: int) -> _Answer:
        """Reads the body and makes the call, unless other threads are reading too much."""
        with self._lock:
            if self._reading_bytes + size > MAX_PENDING_BYTES:
                return _Answer(503, b"Too many unfinished requests")
            self._reading_bytes += size
        try:
            body = environ["wsgi.input"].read(size)
        finally:
            with self._lock:
                self._reading_bytes -= size
        prefix = "HTTP_" + _META.upper().replace("-", "_")
        metadata = {
            name.removeprefix(prefix).lower(): value
            for name, value in environ.items()
            if name.startswith(prefix)
        }
        work = self._calls.answer(path, body, metadata)
        return asyncio.run_coroutine_threadsafe(work, self._running_loop()).result()

    def close(self) -> None:
        """Stops the thread of the event loop."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None and self._process == os.getpid():
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        # Threads do not survive a fork.
        with self._lock:
            is_running = self._thread is not None and self._thread.is_alive()
            if self._loop is None or not is_running or self._process != os.getpid():
                self._loop = asyncio.new_event_loop()
                self._process = os.getpid()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="catenary-rpc", daemon=True
                )
                self._thread.start()
            return self._loop


def rpc_key(key: str | None, secret: str | None) -> str:
    """The key of callers: given, or derived from the application's secret.

    Raises :class:`ConfigError` if neither is given: access without a key requires ``key=""``.
    """
    if key is not None:
        return key
    if not secret:
        raise ConfigError("expected a key or a secret for HTTP RPC; key='' allows every caller")
    return derived_key(secret, RPC_PHRASE)


def _fields(answer: _Answer) -> list[tuple[str, str]]:
    kind = "application/json" if answer.status == 200 else "text/plain; charset=utf-8"
    return [("Content-Type", kind), ("Content-Length", str(len(answer.body)))]


def _number(text: str) -> int:
    """A content length; 0 for an invalid one."""
    return int(text) if text.isascii() and text.isdigit() else 0


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return
