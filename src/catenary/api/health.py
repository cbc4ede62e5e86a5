"""Health and readiness checks, for load balancers, orchestrators and people.

The representation follows the Accept header (RFC 9110, section 12.5.1): text for probes, JSON for programs, a page for
browsers. The port is that of the clients, so anyone may read it: only checks that decide about readiness are shown, without
details.
"""

import html
from base64 import b64encode
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from catenary.supervision.health import CheckResult, is_ready

TEXT: Final = "text/plain"
JSON: Final = "application/json"
HTML: Final = "text/html"

_MEDIA: Final = {each: each for each in (TEXT, JSON, HTML)} | {
    "*/*": TEXT,
    "text/*": TEXT,
    "application/*": JSON,
}

_STYLE: Final = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:10vh auto;padding:0 1rem}"
    "h1{font-size:1.5rem}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;vertical-align:top;padding:.4rem .8rem .4rem 0;border-top:1px solid #8886}"
    "th{font-weight:normal}time{white-space:nowrap}"
    "@media(max-width:40rem){thead{display:none}tr{display:block;border-top:1px solid #8886;padding:.4rem 0}"
    "th,td{display:block;border:0;padding:0}td:empty{display:none}}"
    ".ok{color:#176b35}.failing{color:#b3261e;font-weight:bold}.off{color:#666}"
    "@media(prefers-color-scheme:dark){"
    "body{background:#16181c;color:#e8e8ea}.ok{color:#6fd394}.failing{color:#ff8a80}.off{color:#a8a8ad}}"
)
_POLICY: Final = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'"
)
_COMMON: Final = {"Cache-Control": "no-store", "Vary": "Accept"}
_REFRESH_S: Final = 5
_ORDER: Final = {"failing": 0, "ok": 1, "off": 2}


async def health(request: Request) -> Response:
    """Answers 200 as long as the event loop runs."""
    return _response(request.headers, "alive", is_good=True, reasons=(), results=())


class Readiness:
    """Answers 200 while this node should receive clients, else 503 with the reasons.

    ``results`` returns the present results of the node's checks.
    """

    def __init__(self, results: Callable[[], Sequence[CheckResult]]) -> None:
        self._results = results

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        results = [each for each in self._results() if each.is_blocking]
        is_good = is_ready(results)
        reasons = [each.summary for each in results if each.summary]
        status = "ready" if is_good else "not ready"
        response = _response(
            Headers(scope=scope), status, is_good=is_good, reasons=reasons, results=results
        )
        await response(scope, receive, send)


def _response(
    headers: Headers,
    status: str,
    *,
    is_good: bool,
    reasons: Sequence[str],
    results: Sequence[CheckResult],
) -> Response:
    code = 200 if is_good else 503
    match wanted(headers.get("accept", "")):
        case "text/html":
            page = _page(status, results)
            more = {"Content-Security-Policy": _POLICY, "Refresh": str(_REFRESH_S)}
            return HTMLResponse(page, code, _COMMON | more)
        case "application/json":
            content: dict[str, Any] = {"status": status}
            if results:
                content["checks"] = [_public(each) for each in results]
            return Response(msgspec.json.encode(content), code, _COMMON, JSON)
        case _:
            text = "OK" if is_good else "\n".join(reasons)
            return PlainTextResponse(f"{text}\n", code, _COMMON)


def wanted(accept: str) -> str:
    """The media type that an Accept header prefers, of text, JSON and HTML; text without a preference."""
    best, best_weight = TEXT, 0.0
    for part in accept.split(","):
        name, *parameters = (each.strip().lower() for each in part.split(";"))
        weight = next((_weight(each[2:]) for each in parameters if each.startswith("q=")), 1.0)
        if name in _MEDIA and weight > best_weight:
            best, best_weight = _MEDIA[name], weight
    return best


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _public(result: CheckResult) -> dict[str, str]:
    """A check as anyone may see it."""
    return {
        "name": result.name,
        "state": result.state,
        "reason": result.summary,
        "since": result.since,
    }


def _page(status: str, results: Sequence[CheckResult]) -> str:
    shown = sorted(results, key=lambda each: _ORDER[each.state])
    rows = "".join(map(_row, shown))
    columns = "".join(f"<th scope=col>{each}" for each in ("Check", "State", "Reason", "Since"))
    table = f"<table><thead><tr>{columns}<tbody>{rows}</table>" if rows else ""
    title = f"Catenary: {status}"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        '<meta name=viewport content="width=device-width">'
        f"<style>{_STYLE}</style><main><h1>{title}</h1>{table}</main>"
    )


def _row(result: CheckResult) -> str:
    since = f"{result.since[:10]} {result.since[11:19]} UTC"
    return (
        f"<tr><th scope=row>{html.escape(result.name)}<td class={result.state}>{result.state}"
        f"<td>{html.escape(result.summary)}<td><time datetime={result.since}>{since}</time>"
    )


def with_server_options(app: ASGIApp) -> ASGIApp:
    """Answers ``OPTIONS *``, which asks for the server and not for one of its resources (RFC 9110, section
    9.3.7), with an empty 200; passes everything else on."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "*" and scope["method"] == "OPTIONS":
            headers = [(b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body"})
        else:
            await app(scope, receive, send)

    return answer
