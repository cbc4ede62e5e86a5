"""Reads requests for Durable Streams: a name of a stream in the path, how to read it in the query.

Source: PROTOCOL.md of durable-streams/durable-streams; docs/durable_streams.md (anycable/anycable).
Knows: HTTP requests, CORS, admission, signed names. Does not know: connections, histories.
"""

from typing import Final
from urllib.parse import unquote

import msgspec

from catenary.auth.keys import BearerKey
from catenary.auth.origins import Origins
from catenary.auth.streams import StreamNames
from catenary.edge.admission import Admission, Admitted
from catenary.edge.request import Peer, requester_of
from catenary.errors import RequestRefused
from catenary.messages.names import Stream
from catenary.protocols.durable_stream_writes import write_request
from catenary.protocols.durable_streams import ReadRequest, read_request, signed_name
from catenary.protocols.silent import SILENT
from catenary.transports.durable_stream_writes import OpenedWrite
from catenary.transports.http_responses import (
    BriefResponse,
    CrossOrigin,
    Headers,
    with_headers,
)
from catenary.wire.http1 import RequestHead
from catenary.wire.request_bodies import body_of

LARGEST_BYTES: Final = 2**40
"""The largest Content-Length that is read as a number; the stage refuses bodies above its own limit."""

READ_METHODS: Final = "GET, HEAD, OPTIONS"
WRITE_METHODS: Final = "GET, HEAD, PUT, POST, DELETE, OPTIONS"

SIGNED_HEADER: Final = "x-signed"

_ALLOWED_HEADERS: Final = (
    "Origin",
    "X-Requested-With",
    "X-Request-ID",
    "Content-Type",
    "Accept",
    "Authorization",
    "If-None-Match",
    "X-Signed",
)
_WRITE_HEADERS: Final = (
    "Stream-TTL",
    "Stream-Expires-At",
    "Stream-Closed",
    "Stream-Seq",
    "Producer-Id",
    "Producer-Epoch",
    "Producer-Seq",
)
_EXPOSED_HEADERS: Final = (
    "Stream-Next-Offset",
    "Stream-Cursor",
    "Stream-Up-To-Date",
    "Stream-Closed",
    "Stream-SSE-Data-Encoding",
    "Stream-TTL",
    "Stream-Expires-At",
    "Producer-Epoch",
    "Producer-Seq",
    "Producer-Expected-Seq",
    "Producer-Received-Seq",
    "ETag",
    "Location",
)
_SECURITY: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "cross-origin"),
)


class OpenedRead(msgspec.Struct, frozen=True):
    """The request of a client that may read a stream. ``headers`` are those of every response to it; ``is_shared`` says that
    any client gets the same response, so that shared caches may keep it."""

    stream: Stream
    query: ReadRequest
    admitted: Admitted
    headers: Headers
    is_head: bool
    is_shared: bool
    if_none_match: str
    is_http_1_0: bool


class StreamPathRules(msgspec.Struct, frozen=True, kw_only=True):
    """``prefix`` is the path of all streams; ``max_name_size`` limits a name in characters (0: no limit). ``token_header`` may
    carry a client's token, empty for none. ``is_shared``: clients need no authentication."""

    prefix: str
    max_name_size: int
    token_header: str
    is_shared: bool


class WriteAccess(msgspec.Struct, frozen=True, eq=False):
    """Decides who may write a stream: a client that sends the ``key`` of the API may write every stream; any other needs a
    name that was signed for writing, or a public stream (``names``). None as ``key``: there is no such key."""

    key: BearerKey | None
    names: StreamNames


class DurableStreamRequests:
    """Reads the requests of one endpoint. Pages of the origins ``pages`` may read the responses (CORS). Without ``writing``,
    streams are only read."""

    __slots__ = (
        "_admission",
        "_cross_origin",
        "_methods",
        "_names",
        "_pages",
        "_rules",
        "_writing",
    )

    def __init__(
        self,
        admission: Admission,
        names: StreamNames,
        pages: Origins,
        rules: StreamPathRules,
        writing: WriteAccess | None = None,
    ) -> None:
        self._admission = admission
        self._names = names
        self._pages = pages
        self._rules = rules
        self._writing = writing
        self._methods = READ_METHODS if writing is None else WRITE_METHODS
        token = (rules.token_header,) if rules.token_header else ()
        write = () if writing is None else _WRITE_HEADERS
        allowed = (*_ALLOWED_HEADERS, *write, *token)
        self._cross_origin = CrossOrigin(pages, self._methods, allowed, _EXPOSED_HEADERS)

    def accept(self, request: RequestHead, peer: Peer) -> OpenedRead | OpenedWrite | BriefResponse:
        """Checks and reads a request. Raises :class:`RequestRefused`: 400, 401, 403, 405, 413, 501 or 503."""
        headers = (*_SECURITY, *self._cross_origin.headers(request.headers.get("origin", "")))
        method, writing = request.method, self._writing
        if method == "OPTIONS":
            return BriefResponse(204, (("Allow", self._methods), *headers))
        try:
            if method in ("GET", "HEAD"):
                return self._read(request, peer, headers)
            if writing is not None and method in ("PUT", "POST", "DELETE"):
                return self._write(request, peer, writing, headers)
            allow = (("Allow", self._methods),)
            raise RequestRefused(405, f"expected {self._methods}, got {method[:20]}", allow)
        except RequestRefused as refused:
            raise with_headers(refused, headers) from refused

    def _write(
        self, request: RequestHead, peer: Peer, writing: WriteAccess, headers: Headers
    ) -> OpenedWrite:
        stream = self._stream(request.path)
        signed = signed_name(request.query) or request.headers.get(SIGNED_HEADER, "")
        authorization = request.headers.get("authorization", "")
        has_key = writing.key is not None and writing.key.matches(authorization)
        if not has_key and not writing.names.opens(stream, signed):
            raise RequestRefused(
                401,
                "expected Authorization: Bearer with the API key, or a name of this stream that was signed for"
                " writing",
            )
        if not self._pages.allow(request.headers.get("origin", "")):
            raise RequestRefused(403, "expected an allowed origin")
        return OpenedWrite(
            method=request.method,
            stream=stream,
            target=f"{request.scheme or peer.scheme}://{request.headers.get('host', '')}{request.path}",
            request=write_request(request.headers, creates=request.method == "PUT"),
            headers=headers,
            body=body_of(request, LARGEST_BYTES),
            requester=requester_of(request, peer),
        )

    def _read(self, request: RequestHead, peer: Peer, headers: Headers) -> OpenedRead:
        stream = self._stream(request.path)
        query = read_request(request.query)
        signed = query.signed or request.headers.get(SIGNED_HEADER, "")
        if not self._names.opens(stream, signed):
            raise RequestRefused(
                401, "expected a signed name of this stream in ?signed= or X-Signed"
            )
        return OpenedRead(
            stream=stream,
            query=query,
            admitted=self._admission.admit(request, peer, SILENT),
            headers=headers,
            is_head=request.method == "HEAD",
            is_shared=self._rules.is_shared and not signed,
            if_none_match=request.headers.get("if-none-match", ""),
            is_http_1_0=request.is_http_1_0,
        )

    def _stream(self, path: str) -> Stream:
        """The rest of the path is the name, percent-decoded."""
        try:
            name = unquote(path[len(self._rules.prefix) + 1 :], errors="strict")
        except UnicodeDecodeError as error:
            raise RequestRefused(400, "expected the name of a stream in UTF-8") from error
        limit = self._rules.max_name_size
        if not name:
            raise RequestRefused(400, "expected the name of a stream in the path")
        if 0 < limit < len(name):
            raise RequestRefused(400, f"expected a name of up to {limit} characters")
        return Stream(name)
