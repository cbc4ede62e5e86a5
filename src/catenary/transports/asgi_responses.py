"""HTTP responses as events of ASGI: their heads, and refusals.

Source: ASGI 3.0, https://asgi.readthedocs.io/en/latest/specs/www.html, "Response Start" and "WebSocket Denial Response".
Knows: ASGI events. Does not know: requests.
"""

from collections.abc import Iterable, Sequence

from starlette.types import Message

from catenary.errors import RequestRefused


def response_start(
    status: int, headers: Iterable[tuple[str, str]], *, is_denial: bool = False
) -> Message:
    """The head of a response; ``is_denial`` for the response to a WebSocket's handshake."""
    return {
        "type": f"{'websocket.' if is_denial else ''}http.response.start",
        "status": status,
        "headers": [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers
        ],
    }


def refusal(refused: RequestRefused, *, is_denial: bool = False) -> Sequence[Message]:
    """A whole response, the same as :func:`catenary.wire.http1.refusal` writes."""
    body = f"{refused}\n".encode()
    headers = (
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        *refused.headers,
    )
    start = response_start(refused.status, headers, is_denial=is_denial)
    kind = start["type"].replace("start", "body")
    return start, {"type": kind, "body": body, "more_body": False}
