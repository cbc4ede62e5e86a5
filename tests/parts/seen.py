"""A hosted ASGI application that answers with what it sees of its client: ``--asgi=tests.parts.seen:app``."""

import json
from typing import Any

from starlette.types import Receive, Scope, Send


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers each request, and the opening of each WebSocket, with the client, the scheme and the host of its scope as JSON."""
    assert scope["type"] in ("http", "websocket")
    (host,) = (value.decode() for name, value in scope["headers"] if name == b"host")
    seen: dict[str, Any] = {"client": scope["client"], "scheme": scope["scheme"], "host": host}
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": json.dumps(seen)})
        return
    body = json.dumps(seen).encode()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})
