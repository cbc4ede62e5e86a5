"""Describes the client of a trusted proxy in the scope of its request, for everything that Starlette serves.

Source: ASGI 3.0, https://asgi.readthedocs.io/en/latest/specs/www.html.
Knows: ASGI scopes. Does not know: which proxies are trusted, what is served.
"""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from catenary.edge.addresses import client_of
from catenary.edge.proxies import PROXY_HEADERS, TrustedProxies, proxy_headers_of

_NAMES: Final = frozenset(name.encode() for name in PROXY_HEADERS)
_WEBSOCKETS: Final = {"http": "ws", "https": "wss"}


class ProxiedRequests:
    """An ASGI application that passes requests to another with the client's address, scheme and host. The headers of
    proxies are removed from the requests of other peers."""

    __slots__ = ("_app", "_proxies")

    def __init__(self, app: ASGIApp, proxies: TrustedProxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            self._describe(scope)
        await self._app(scope, receive, send)

    def _describe(self, scope: Scope) -> None:
        address = client_of(scope)
        fields = scope["headers"]
        if not self._proxies.trust(address):
            if any(name in _NAMES for name, _ in fields):
                scope["headers"] = [each for each in fields if each[0] not in _NAMES]
            return
        origin = self._proxies.origin(proxy_headers_of(fields), address)
        if origin.address != address:
            # The port of a client is not known: uvicorn, too, shows 0 then.
            scope["client"] = (origin.address, 0)
        if origin.scheme:
            is_request = scope["type"] == "http"
            scope["scheme"] = origin.scheme if is_request else _WEBSOCKETS[origin.scheme]
        if origin.host:
            others = [each for each in fields if each[0] != b"host"]
            scope["headers"] = [(b"host", origin.host.encode("latin-1")), *others]
