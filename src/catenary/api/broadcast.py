"""The broadcast endpoint: publications over HTTP, and their answers.

Source: docs/broadcasting.md, "HTTP adapter" (anycable).
Knows: methods, keys, bodies. Does not know: connections, which ``intake.py`` and uvicorn have.
"""

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from starlette.types import Receive, Scope, Send

from catenary.api.access import Access, ApiResponse, send_answer
from catenary.api.request_body import read_body
from catenary.auth.keys import BearerKey
from catenary.auth.origins import Origins
from catenary.edge.addresses import client_of
from catenary.edge.publish_limit import PublishLimit
from catenary.errors import (
    BackendError,
    BackendRefused,
    PublicationError,
    RateExceeded,
    RequestRefused,
    TooLarge,
)
from catenary.messages.trace_context import TRACEPARENT, TRACESTATE, checked
from catenary.metrics.counters import Counters
from catenary.wire.http1 import header_text
from catenary.wire.request_memory import RequestMemory

MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""Larger bodies are refused with 413."""


_NO_HEADERS: Final[Mapping[str, str]] = {}


class Publish(Protocol):
    """Publishes what a request brought: :meth:`catenary.node.publications.Publications.publish_in_turns`."""

    def __call__(
        self, raw: bytes, *, trace: str = "", charge: Callable[[int], None] | None = None
    ) -> Awaitable[None] | None: ...


class BroadcastRules:
    """The rules of the endpoint, independent of connections.

    Answers 201 once a publication was sent; 401 without the key; 413 if it is too large for this server, Redis or NATS;
    422 for malformed publications, for those that Redis or NATS refuse for another permanent reason, and for methods
    other than POST (as anycable-go); 503 while Redis or NATS is unavailable, or incomplete requests hold too much memory:
    the publisher should retry. Without a ``key``, anyone may publish; ``pages`` are the origins that browsers may
    publish from (CORS), None for none. With ``is_traced``, publications belong to the trace that the request names
    (``traceparent``). Beyond the ``limit`` of a publisher, requests get 429; each message of a batch counts.
    """

    __slots__ = ("_counters", "_limit", "_publish", "access", "is_traced")

    def __init__(
        self,
        publish: Publish,
        counters: Counters,
        *,
        key: str | BearerKey,
        pages: Origins | None,
        is_traced: bool = False,
        limit: PublishLimit | None = None,
    ) -> None:
        self._publish = publish
        self._limit = limit
        self.is_traced = is_traced
        self._counters = counters
        self.access = Access("POST", key=key, pages=pages)

    @property
    def is_limited(self) -> bool:
        """Whether publishers have a limit, so that they must be known."""
        return self._limit is not None and self._limit.per_second > 0

    def take(
        self, body: bytes, headers: Mapping[str, str] = _NO_HEADERS, publisher: str = ""
    ) -> ApiResponse | Awaitable[None]:
        """Publishes a body, which came with ``headers`` (names in lower case) from a ``publisher``: an address or an app. An
        awaitable that it returns must be passed to :meth:`answer`."""
        try:
            charge = None
            if publisher and self.is_limited and self._limit is not None:
                self._limit.check(publisher)
                charge = functools.partial(self._limit.charge, publisher)
            if self.is_traced and TRACEPARENT in headers:
                trace = checked(headers[TRACEPARENT], headers.get(TRACESTATE, ""))
                return self._publish(body, trace=trace, charge=charge) or ApiResponse(201)
            return self._publish(body, charge=charge) or ApiResponse(201)
        except PublicationError as error:
            return _refused(error)
        except RequestRefused as error:
            return ApiResponse(error.status, str(error), headers=error.headers)

    async def answer(self, waiting: Awaitable[None]) -> ApiResponse:
        """Waits until the publication is stored and sent, and returns the answer."""
        try:
            await waiting
        except PublicationError as error:
            return _refused(error)
        except BackendRefused as error:
            self._counters.refused_publications_total += 1
            return ApiResponse(
                413 if isinstance(error, TooLarge) else 422, f"not published: {error}"
            )
        except BackendError as error:
            return ApiResponse(503, f"not published, try again: {error}")
        return ApiResponse(201)


def _refused(error: PublicationError) -> ApiResponse:
    if isinstance(error, RateExceeded):
        return ApiResponse(429, str(error), headers=(("Retry-After", str(error.retry_after_s)),))
    return ApiResponse(422, str(error))


class BroadcastEndpoint:
    """The endpoint as an ASGI application, for requests of any form."""

    __slots__ = ("_broadcasts", "_memory")

    def __init__(self, broadcasts: BroadcastRules, memory: RequestMemory) -> None:
        self._broadcasts = broadcasts
        self._memory = memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name: header_text(value) for name, value in scope["headers"]}
        publisher = client_of(scope)
        answer = await self._answer(scope["method"], headers, receive, publisher)
        cors = self._broadcasts.access.cors(headers.get(b"origin", ""))
        await send_answer(send, answer, cors)

    async def _answer(
        self, method: str, headers: dict[bytes, str], receive: Receive, publisher: str
    ) -> ApiResponse:
        refusal = self._broadcasts.access.check(method, headers.get(b"authorization", ""))
        if refusal is not None:
            return refusal
        try:
            body = await read_body(receive, self._memory, MAX_BODY_BYTES)
        except RequestRefused as error:
            return ApiResponse(error.status, str(error), headers=error.headers)
        named = {name.decode("latin-1"): value for name, value in headers.items()}
        taken = self._broadcasts.take(body, named, publisher)
        if isinstance(taken, ApiResponse):
            return taken
        return await self._broadcasts.answer(taken)
