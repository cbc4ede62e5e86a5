"""Health and readiness checks, for load balancers and orchestrators."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send


async def health(request: Request) -> Response:
    """Answers 200 as long as the event loop runs."""
    return PlainTextResponse("OK\n")


class Readiness:
    """Answers 200 while this node should receive clients, else 503 with the reason.

    ``trouble`` returns the reason, None if there is none.
    """

    def __init__(self, trouble: Callable[[], str | None]) -> None:
        self._trouble = trouble

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        trouble = self._trouble()
        text, status = ("OK", 200) if trouble is None else (trouble, 503)
        await PlainTextResponse(f"{text}\n", status)(scope, receive, send)


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
