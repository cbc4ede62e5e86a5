"""A small HTTP/1.1 client: POST to one origin, over connections that stay open.

Parsing is httptools' (llhttp), which uvicorn needs anyway. No redirects, no proxies, no cookies: an
application's subchannel needs none of them. Sources: RFC 9110, RFC 9112.
Knows: connections. Does not know: what is posted.
"""

import asyncio
import zlib
from typing import Final, cast

import httptools
import msgspec

from catenary.auth.keys import key_bytes
from catenary.config.urls import http_url
from catenary.errors import ConfigError
from catenary.rpc.tls import Tls, client_context
from catenary.wire.http1 import header_text

_MAX_BODY_BYTES: Final = 16 * 2**20


class ConnectionBroken(Exception):
    """The connection ended before the response did."""


class ResponseUnusable(Exception):
    """The server sent something else than an HTTP response, or a body that is too large."""


class HttpResponse(msgspec.Struct, frozen=True):
    """Status code, body, and the Location of a redirect (status 3xx): "" without one."""

    status: int
    body: bytes
    location: str = ""


class HttpClient:
    """A pool of connections to one origin: one for each request under way."""

    __slots__ = (
        "_context",
        "_fixed_headers",
        "_host",
        "_idle",
        "_is_closed",
        "_open",
        "_path",
        "_port",
        "_query",
    )

    def __init__(
        self, url: str, tls: Tls, headers: dict[str, str], *, option: str = "rpc_host"
    ) -> None:
        """Paths are appended to ``url``; ``headers`` are sent with every request.

        ``tls`` is used with https only. ``option`` names the option that has the URL, for errors.

        Raises :class:`ConfigError` for what is no URL of http or https.
        """
        try:
            found = http_url(url)
        except ValueError as error:
            raise ConfigError(
                f"{option}: expected http://host… or https://host…, {error}"
            ) from None
        self._host = found.host
        self._port = found.port
        self._path = found.path or "/"
        self._query = f"?{found.query}" if found.query else ""
        self._context = client_context(tls) if found.is_encrypted else None
        self._open: set[_Connection] = set()
        self._idle: list[_Connection] = []
        self._is_closed = False
        fixed = {
            "Host": found.authority,
            "Content-Type": "application/json",
            # Without this header, any coding would be acceptable (RFC 9110, section 12.5.3).
            "Accept-Encoding": "identity",
        }
        if found.authorization:
            fixed["Authorization"] = found.authorization
        self._fixed_headers = {**fixed, **headers}

    def replace_headers(self, headers: dict[str, str]) -> None:
        """Sends other values of fixed headers from now on."""
        self._fixed_headers.update(headers)

    async def post(self, path: str, body: bytes, headers: dict[str, str]) -> HttpResponse:
        """Posts and returns the response, whatever its status. An empty path is that of the URL itself.

        Raises OSError where no connection can be made, :class:`ConnectionBroken` where one ends
        too early and :class:`ResponseUnusable`. A kept connection that turns out to be closed is replaced without a word.
        """
        request = self._request(path, body, headers)
        while True:
            connection = self._idle.pop() if self._idle else await self._dial()
            try:
                return await self._exchange(connection, request)
            except ConnectionBroken:
                if not connection.was_stale or self._is_closed:
                    raise

    async def connect(self) -> None:
        """Opens a connection in advance."""
        if not self._idle:
            self._idle.append(await self._dial())

    async def close(self) -> None:
        """Aborts every connection with its exchange; makes no new ones."""
        self._is_closed = True
        connections = tuple(self._open)
        for connection in connections:
            connection.abort()
        await asyncio.gather(*(connection.lost for connection in connections))

    async def _dial(self) -> "_Connection":
        if self._is_closed:
            raise ConnectionBroken("the client is closed")
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: _Connection(loop.create_future()), self._host, self._port, ssl=self._context
        )
        self._open.add(connection)
        connection.lost.add_done_callback(lambda _: self._forget(connection))
        return connection

    def _forget(self, connection: "_Connection") -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    async def _exchange(self, connection: "_Connection", request: bytes) -> HttpResponse:
        try:
            response = await connection.exchange(request)
        except BaseException:
            # Failed, or cancelled midway: a late answer must not be taken for that of another request.
            connection.abort()
            raise
        if connection.is_open:
            self._idle.append(connection)
        return response

    def _request(self, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        fields = {**self._fixed_headers, **headers, "Content-Length": str(len(body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        target = f"{self._path.rstrip('/')}/{path}" if path else self._path
        start = f"POST {target}{self._query} HTTP/1.1\r\n"
        # UTF-8: a key need not be ASCII.
        return key_bytes(f"{start}{lines}\r\n") + body


class _Connection(asyncio.Protocol):
    """One connection, one exchange at a time. httptools calls its on_… methods."""

    __slots__ = (
        "_body",
        "_coding",
        "_ends_with_connection",
        "_has_received",
        "_has_served",
        "_is_framed",
        "_location",
        "_parser",
        "_response",
        "_size",
        "_transport",
        "is_open",
        "lost",
    )

    def __init__(self, lost: asyncio.Future[None]) -> None:
        self.lost = lost
        """Done when the connection is closed."""
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._response: asyncio.Future[HttpResponse] | None = None
        self._body: list[bytes] = []
        self._coding = ""
        self._location = ""
        self._size = 0
        self._is_framed = False
        self._ends_with_connection = False
        self._has_received = False
        self._has_served = False
        self.is_open = False
        """May another request be sent?"""

    async def exchange(self, request: bytes) -> HttpResponse:
        """Sends a request and waits for its response. Raises :class:`ConnectionBroken`."""
        if self._transport is None or self._transport.is_closing() or not self.is_open:
            raise ConnectionBroken("the connection is closed")
        self._forget()
        self._has_received = False
        self._response = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._response

    @property
    def was_stale(self) -> bool:
        """Did the server close it after an earlier exchange, before it said anything to this one?"""
        return self._has_served and not self._has_received

    def abort(self) -> None:
        """Ends the connection at once."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    # asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        if self._response is None or self._response.done():
            self.abort()  # without a request
            return
        self._has_received = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ResponseUnusable(f"expected an HTTP response, got {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if not self.lost.done():
            self.lost.set_result(None)
        if self._ends_with_connection:
            self._finish()
        reason = "by the application" if error is None else str(error)
        self._fail(ConnectionBroken(f"the connection was closed: {reason}"))

    # httptools calls

    def on_header(self, name: bytes, value: bytes) -> None:
        """Notes the framing and the coding of the body, and the Location of a redirect."""
        match name.lower():
            case b"content-length" | b"transfer-encoding":
                self._is_framed = True
            case b"content-encoding":
                self._coding += ("," if self._coding else "") + value.decode("latin-1").lower()
            case b"location":
                self._location = header_text(value)

    def on_headers_complete(self) -> None:
        """A final response without a length is complete when the connection ends."""
        self._ends_with_connection = not self._is_framed and self._parser.get_status_code() >= 200

    def on_body(self, chunk: bytes) -> None:
        """Collects the body, up to a limit."""
        self._size += len(chunk)
        if self._size > _MAX_BODY_BYTES:
            self._fail(
                ResponseUnusable(f"expected a body of at most {_MAX_BODY_BYTES} bytes, got more")
            )
            return
        self._body.append(chunk)

    def on_message_complete(self) -> None:
        """Completes the exchange. An interim response (100 Continue …) is ignored."""
        if self._parser.get_status_code() < 200:
            self._forget()
            return
        self.is_open = self.is_open and self._parser.should_keep_alive()
        self._finish()
        if not self.is_open:
            self.abort()

    def _forget(self) -> None:
        self._body = []
        self._coding = ""
        self._location = ""
        self._size = 0
        self._is_framed = False
        self._ends_with_connection = False

    def _finish(self) -> None:
        if self._response is not None and not self._response.done():
            self._has_served = True
            try:
                body = _decoded(b"".join(self._body), self._coding)
            except ResponseUnusable as error:
                self._response.set_exception(error)
                return
            status = self._parser.get_status_code()
            self._response.set_result(HttpResponse(status, body, self._location))

    def _fail(self, error: ConnectionBroken | ResponseUnusable) -> None:
        if self._response is not None and not self._response.done():
            self._response.set_exception(error)
        self.abort()


def _decoded(body: bytes, coding: str) -> bytes:
    """Returns the decoded body: a proxy may have compressed it without being asked to.

    Raises :class:`ResponseUnusable` for another coding than gzip (RFC 9110, section 8.4.1).
    """
    codings = [each.strip() for each in coding.split(",") if each.strip() not in ("", "identity")]
    if not codings:
        return body
    if codings not in (["gzip"], ["x-gzip"]):
        raise ResponseUnusable(f"expected a body without Content-Encoding, got {coding[:100]}")
    reader = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        plain = reader.decompress(body, _MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise ResponseUnusable(f"expected a body in gzip: {error}") from error
    if len(plain) > _MAX_BODY_BYTES:
        raise ResponseUnusable(f"expected a body of at most {_MAX_BODY_BYTES} bytes, got more")
    if not reader.eof:
        raise ResponseUnusable("expected a body in gzip, got a part of one")
    return plain
