"""Reports the refused requests of the HTTP endpoints: those without the key, with an invalid signature, malformed ones.

Knows: statuses, the form of errors. Does not know: what an endpoint does.
"""

from http import HTTPStatus
from typing import Final

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from catenary.edge.request import requester_of_scope
from catenary.messages.environment import Requester
from catenary.metrics.counters import Counters
from catenary.node.observers import ObserverGroup


class _Error(msgspec.Struct):
    error: str = ""


_read: Final = msgspec.json.Decoder(_Error).decode


def is_refusal(status: int) -> bool:
    """Whether a response refuses its request. 404 does not: it is also the answer for what does not exist."""
    return 400 <= status < 500 and status != HTTPStatus.NOT_FOUND


class ApiRefusals:
    """Counts refused requests, and reports them to observers."""

    __slots__ = ("_counters", "_observers")

    def __init__(self, counters: Counters, observers: ObserverGroup) -> None:
        self._counters = counters
        self._observers = observers

    def note(self, requester: Requester, status: int, why: str) -> None:
        """Called once for each refused request."""
        self._counters.refused_api_requests_total += 1
        if self._observers.request_refused is not None:
            self._observers.request_refused(requester, status, why)


class RefusalReporter:
    """An ASGI application that reports the refusals of another."""

    __slots__ = ("_app", "_refusals")

    def __init__(self, app: ASGIApp, refusals: ApiRefusals) -> None:
        self._app = app
        self._refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = 0

        async def report(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif is_refusal(status):
                why = _reason(status, message.get("body", b""))
                self._refusals.note(requester_of_scope(scope), status, why)
                status = 0
            await send(message)

        await self._app(scope, receive, report)


def _reason(status: int, body: bytes) -> str:
    """The error in the body of a response: in JSON, or as text."""
    try:
        found = _read(body).error
    except msgspec.DecodeError:
        found = body.decode(errors="replace").strip()
    return found or f"status {status}"
