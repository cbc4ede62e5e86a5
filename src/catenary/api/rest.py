"""The REST API: a table of operations, and the ASGI application that serves them.

An operation states its path, its parameters and its body as types: requests are checked against them, and the OpenAPI
document is written from them (``openapi.py``). Operations that change something are logged, with their requester.
Knows: HTTP requests, types. Does not know: what operations do.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from starlette.datastructures import QueryParams
from starlette.types import ASGIApp, Receive, Scope, Send

from catenary.api.access import Access, ApiResponse, send_answer
from catenary.api.request_body import read_body
from catenary.edge.request import requester_of_scope
from catenary.errors import (
    BackendError,
    BackendRefused,
    CatenaryError,
    LostPosition,
    NotKept,
    RequestRefused,
)
from catenary.logs.fields import requester_fields
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.lenient_json import JSON_ERRORS
from catenary.wire.http1 import header_text
from catenary.wire.request_memory import RequestMemory

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.api"))

MAX_BODY_BYTES: Final = 65_536
"""Larger bodies are refused with 413."""

_STATUSES: Final[tuple[tuple[type[CatenaryError], int], ...]] = (
    (NotKept, 501),
    (LostPosition, 410),
    (BackendRefused, 422),
    (BackendError, 503),
)
"""The status of an error: that of the first class that it is an instance of."""

METHODS: Final = "DELETE, GET, POST"

_T = TypeVar("_T")


class QueryError(ValueError):
    """A malformed request; the message says what was expected."""


class NoParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The query of an operation without parameters."""


class RestRequest(msgspec.Struct, frozen=True):
    """A request that was checked: the parameters of the path, the query and the body, as the operation has asked for them."""

    path: Mapping[str, str]
    query: Any
    body: Any = None


Handler = Callable[[RestRequest], Awaitable[ApiResponse]]


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path. A segment of ``path`` in braces is a parameter; with ``:path`` it may have several segments.

    ``query`` and ``body`` are the types of both, ``answer`` that of a successful answer with ``status``. ``errors`` are other
    statuses, besides those that every operation has. ``app`` serves the request instead of ``handler``, with the whole request.
    ``refuses_methods`` is the status for other methods of the path: 422 where anycable-go has the path.
    """

    name: str
    method: str
    path: str
    summary: str
    text: str = ""
    handler: Handler | None = None
    app: ASGIApp | None = None
    query: type[msgspec.Struct] = NoParameters
    body: Any = None
    answer: Any = None
    status: int = 200
    errors: Mapping[int, str] = {}
    refuses_methods: int = 405


class RestApi:
    """Serves operations below the path ``base``; all of them need the same ``access``."""

    __slots__ = ("_access", "_base", "_memory", "_operations")

    def __init__(
        self, operations: Sequence[Operation], access: Access, memory: RequestMemory, base: str
    ) -> None:
        self._access = access
        self._memory = memory
        self._base = base
        self._operations = [(_segments(each.path), each) for each in operations]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name: header_text(value) for name, value in scope["headers"]}
        found, path = self._find(scope)
        operation = found.get(scope["method"])
        if operation is not None and operation.app is not None:
            await operation.app(scope, receive, send)
            return
        answer = self._refusal(scope["method"], headers, found)
        if answer is None and operation is not None:
            answer = await self._answer(operation, path, scope, receive)
            if operation.method != "GET" and answer.status < HTTPStatus.BAD_REQUEST:
                _limited.info(
                    "Operation",
                    event="operation",
                    operation=operation.name,
                    status=answer.status,
                    **requester_fields(requester_of_scope(scope)),
                )
        cors = self._access.cors(headers.get(b"origin", ""))
        await send_answer(send, answer or ApiResponse(404, "no such path"), cors)

    def _find(self, scope: Scope) -> tuple[dict[str, Operation], dict[str, str]]:
        """The operations of a path by method, and the parameters in it: those of the first path that fits.

        The path is split before it is decoded: a name in it may have slashes.
        """
        raw = scope.get("raw_path") or scope["path"].encode()
        skipped = (scope.get("root_path", "") + self._base).count("/")
        segments = raw.partition(b"?")[0].split(b"/")[1 + skipped :]
        for pattern, operation in self._operations:
            parameters = _match(pattern, segments)
            if parameters is not None:
                return {
                    each.method: each for _, each in self._operations if each.path == operation.path
                }, parameters
        return {}, {}

    def _refusal(
        self, method: str, headers: Mapping[bytes, str], found: Mapping[str, Operation]
    ) -> ApiResponse | None:
        if self._access.is_preflight(method):
            return ApiResponse(200)
        refusal = self._access.authorize(headers.get(b"authorization", ""))
        if refusal is not None or not found or method in found:
            return refusal
        methods = ", ".join(sorted(found))
        status = next(iter(found.values())).refuses_methods
        allow = (("allow", methods),) if status == 405 else ()
        return ApiResponse(status, f"expected {methods}, got {method}", headers=allow)

    async def _answer(
        self, operation: Operation, path: Mapping[str, str], scope: Scope, receive: Receive
    ) -> ApiResponse:
        assert operation.handler is not None
        try:
            if not all(path.values()):
                name = next(name for name, value in path.items() if not value)
                return ApiResponse(404, f"expected a {name} in the path")
            query = read_query(operation.query, scope["query_string"])
            body = None
            if operation.body is not None:
                body = _body(operation, await read_body(receive, self._memory, MAX_BODY_BYTES))
            return await operation.handler(RestRequest(path, query, body))
        except QueryError as error:
            return ApiResponse(422, str(error))
        except RequestRefused as error:
            return ApiResponse(error.status, str(error), headers=error.headers)
        except (NotKept, LostPosition, BackendError) as error:
            status = next(status for kind, status in _STATUSES if isinstance(error, kind))
            return ApiResponse(status, str(error))


def _segments(path: str) -> list[str]:
    return path.split("/")[1:]


def _match(pattern: Sequence[str], segments: Sequence[bytes]) -> dict[str, str] | None:
    """The parameters of a path that fits a pattern; None for another one."""
    parameters: dict[str, str] = {}
    spare = len(segments) - len(pattern)
    at = 0
    for each in pattern:
        many = 1 + spare if each.endswith(":path}") else 1
        if many < 1 or at + many > len(segments):
            return None
        value = b"/".join(segments[at : at + many])
        if each.startswith("{"):
            name = each.strip("{}").removesuffix(":path")
            parameters[name] = unquote_to_bytes(value).decode(errors="replace")
        elif unquote_to_bytes(value) != each.encode():
            return None
        at += many
    return parameters if at == len(segments) else None


def read_query(kind: type[_T], query: bytes) -> _T:
    """Reads the query of a request as this type. Raises :class:`QueryError`."""
    try:
        return msgspec.convert(dict(QueryParams(query)), kind, strict=False)
    except msgspec.ValidationError as error:
        raise QueryError(_located(error)) from error


def _body(operation: Operation, body: bytes) -> Any:
    try:
        return msgspec.json.decode(body, type=operation.body)
    except JSON_ERRORS as error:
        text = _located(error) if isinstance(error, msgspec.ValidationError) else str(error)
        raise QueryError(f"the body: {text}") from error


def _located(error: msgspec.ValidationError) -> str:
    """The message of msgspec, with the name of the field in front."""
    text, at, where = str(error).partition(" - at `$.")
    text = text[0].lower() + text[1:]
    return f"{where.rstrip('`')}: {text}" if at else text
