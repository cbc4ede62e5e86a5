"""The access log of a hosted ASGI application, in uvicorn's format.

Source: uvicorn, ``--access-log``. Knows: ASGI. Does not know: what the application does. Logs no query, which may contain a
token.
"""

import logging
import time
from typing import Final
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from catenary.edge.addresses import client_of
from catenary.edge.request import requester_of_scope
from catenary.logs.fields import fields, requester_fields

_log: Final = logging.getLogger("catenary.access")

_STATUSES: Final = {"websocket.accept": 101, "websocket.close": 403}
"""The answers to a handshake; a close after it is none."""


class AccessLog:
    """An ASGI application that logs each request to another: ``ADDRESS:PORT - "GET /path HTTP/1.1" 200``."""

    __slots__ = ("_app",)

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        is_answered = False

        async def note(message: Message) -> None:
            nonlocal is_answered
            kind = message["type"]
            if not is_answered and (kind.endswith(".start") or kind in _STATUSES):
                is_answered = True
                _write(scope, message.get("status") or _STATUSES[kind], time.monotonic() - began)
            await send(message)

        await self._app(scope, receive, note)


def _write(scope: Scope, status: int, took_s: float) -> None:
    client = scope.get("client") or ("", 0)
    # Encoded, as uvicorn has it: a decoded space or quote would begin another field of the line.
    path = quote(scope["path"]) + ("?…" if scope.get("query_string") else "")
    method = scope.get("method", "GET") if scope["type"] == "http" else "WebSocket"
    _log.info(
        '%s:%d - "%s %s HTTP/%s" %d',
        client_of(scope),
        client[1],
        method,
        path,
        scope.get("http_version", "1.1"),
        status,
        extra=fields(
            "request",
            **requester_fields(requester_of_scope(scope)),
            status=status,
            took_ms=round(took_s * 1000),
        ),
    )
