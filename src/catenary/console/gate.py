"""The gate of the console: every request passes it, to the pages and to the API below them.

- Without a session there is the login page and nothing else.
- A page of another site can't make a browser change anything, or read anything; without a key, not under a host name of that site either.
- Every response has the headers that forbid a browser to load or run anything from elsewhere.

Source: Content Security Policy Level 3, Fetch Metadata Request Headers, RFC 6265 (W3C and IETF).
Knows: requests, keys. Does not know: what the pages show.
"""

import logging
import os
import re
import time
from collections.abc import Callable
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from catenary.auth.keys import BearerKey
from catenary.console.hosts import OwnHosts
from catenary.console.login_limit import LoginLimit
from catenary.console.sessions import SESSION_S, Sessions
from catenary.logs.fields import fields
from catenary.metrics.counters import Counters
from catenary.wire.http1 import header_text

COOKIE: Final = "catenary_console"
HEADER: Final = "x-catenary-console"
"""Requests that change something must have it: a page of another site can't add a header without being asked first (CORS)."""
LOGIN_FILES: Final = frozenset({"login.html", "login.css", "login.js", "theme.css", "icon.svg"})
"""The files that people without a session may read."""

_OTHER_HOST: Final = (
    "expected an IP address, localhost or a host of allowed_origins as the host of a console without a key, got {!r:.100}; "
    "set allowed_origins, or a key (admin_secret)"
)
_SAFE: Final = frozenset({"GET", "HEAD"})
_HOST: Final = re.compile(r"[A-Za-z0-9.\-_]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
_log: Final = logging.getLogger("catenary.console")


class Gate:
    """Passes requests with a session to ``app``; with an empty ``key``, all requests to ``own_hosts``.

    ``path`` is the console's, without a slash at its end; ``cable_port`` is that of the WebSockets, to which its pages
    connect. ``show_login`` answers with a file of the login page.
    """

    __slots__ = (
        "_app", "_cable_port", "_clock", "_counters", "_key", "_limit", "_own_hosts", "_path", "_sessions", "_show_login"
    )  # fmt: skip

    def __init__(
        self,
        app: ASGIApp,
        *,
        key: str,
        path: str,
        cable_port: int,
        counters: Counters,
        own_hosts: OwnHosts,
        show_login: Callable[[Request, str], Response],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._key = BearerKey(key)
        self._sessions = Sessions(key) if key else None
        self._path = path
        self._cable_port = cable_port
        self._counters = counters
        self._own_hosts = own_hosts
        self._show_login = show_login
        self._limit = LoginLimit()
        self._clock = clock

    def replace_keys(self, *keys: str) -> None:
        """Lets people log in with these keys from now on. Sessions of other keys end."""
        self._key.replace(*keys)
        if self._sessions is not None:
            self._sessions.replace(*keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                for name, value in _headers(request, self._cable_port):
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
                message = {**message, "headers": headers.raw}
            await send(message)

        answer = self._answer(request)
        await (self._app if answer is None else answer)(scope, receive, send_with_headers)

    def _answer(self, request: Request) -> Response | None:
        """The answer of the gate itself; None for a request that may pass."""
        name = request.url.path.removeprefix(self._path).removeprefix("/")
        if self._sessions is None and not self._own_hosts.include(request.headers.get("host", "")):
            return JSONResponse({"error": _OTHER_HOST.format(request.headers.get("host", ""))}, 403)
        if _is_foreign(request):
            return JSONResponse({"error": "expected a request of the console's own page"}, 403)
        if request.method not in _SAFE and HEADER not in request.headers:
            return JSONResponse({"error": f"expected the header {HEADER}"}, 403)
        if self._sessions is None:
            return None
        if (name, request.method) == ("login", "POST"):
            return self._log_in(request)
        if (name, request.method) == ("logout", "POST"):
            return self._with_cookie(Response(status_code=204), request, "", 0)
        has_session = self._sessions.is_valid(request.cookies.get(COOKIE, ""), time.time())
        if name == "session":
            return JSONResponse({"is_valid": has_session})
        if name in LOGIN_FILES or (name == "login" and not has_session):
            return self._show_login(request, "login.html" if name == "login" else name)
        if has_session:
            return RedirectResponse(f"{self._path}/", 303) if name == "login" else None
        if name.startswith("api/") or request.method not in _SAFE:
            return JSONResponse({"error": "expected a session: log in first"}, 401)
        return RedirectResponse(f"{self._path}/login", 303)

    def _log_in(self, request: Request) -> Response:
        address = "" if request.client is None else request.client.host
        assert self._sessions is not None
        wait_s = self._limit.wait_s(address, self._clock())
        if wait_s > 0:
            seconds = int(wait_s) + 1
            self._counters.console_refused_logins_total += 1
            error = f"too many wrong keys, try again in {seconds} s"
            content = {"error": error, "retry_after": seconds}
            return JSONResponse(content, 429, {"retry-after": str(seconds)})
        sent = dict(request.scope["headers"]).get(b"authorization", b"")
        if not self._key.matches(header_text(sent)):
            self._limit.note_wrong_key(address, self._clock())
            self._counters.console_refused_logins_total += 1
            return JSONResponse({"error": "wrong key"}, 401)
        self._limit.note_right_key(address)
        _log.info("Login to the console", extra=fields("console_login", remote=address))
        session = self._sessions.issued(time.time(), os.urandom(16))
        return self._with_cookie(Response(status_code=204), request, session, SESSION_S)

    def _with_cookie(
        self, response: Response, request: Request, session: str, age_s: int
    ) -> Response:
        # The browser knows whether it sees TLS, also where a proxy ends it.
        is_secure = "https" in (request.url.scheme, _scheme(request.headers.get("origin", "")))
        response.set_cookie(
            COOKIE, session, max_age=age_s, path=self._path, secure=is_secure, httponly=True, samesite="strict"
        )  # fmt: skip
        return response


def _is_foreign(request: Request) -> bool:
    """Whether a page of another site has made the browser send this. Links to the console are fine."""
    site = request.headers.get("sec-fetch-site", "")
    if site:
        is_link = request.method in _SAFE and request.headers.get("sec-fetch-mode") == "navigate"
        return site not in ("same-origin", "none") and not is_link
    origin = request.headers.get("origin", "")
    return bool(origin) and origin.partition("://")[2] != request.headers.get("host", "")


def _scheme(origin: str) -> str:
    return origin.partition(":")[0]


def _headers(request: Request, cable_port: int) -> tuple[tuple[str, str], ...]:
    host = request.headers.get("host", "")
    sources = "'self'"
    if _HOST.fullmatch(host):
        # 'self' has no WebSockets in older browsers.
        hosts = {host, f"{host.rpartition(':')[0] if _has_port(host) else host}:{cable_port}"}
        sources += "".join(
            f" {scheme}://{each}" for each in sorted(hosts) for scheme in ("ws", "wss")
        )
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"connect-src {sources}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return (
        ("content-security-policy", policy),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("x-frame-options", "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    )


def _has_port(host: str) -> bool:
    return ":" in host.rpartition("]")[2]
