"""Reads the body of a request, within the memory for incomplete requests.

Knows: ASGI. Does not know: what a body contains.
"""

import asyncio

from starlette.types import Receive

from catenary.wire.request_memory import PendingBody, RequestMemory, too_many


async def read_body(receive: Receive, memory: RequestMemory, limit_bytes: int) -> bytes:
    """Reads the whole body; empty if the client has left. Raises :class:`catenary.errors.RequestRefused`: 413 for a body
    over the limit, 503 if incomplete requests hold too much memory."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as wait:
            body = PendingBody(memory, limit_bytes, lambda: wait.reschedule(loop.time()))
            try:
                while (message := await receive())["type"] == "http.request":
                    body.add(message.get("body", b""))
                    if not message.get("more_body", False):
                        return body.taken()
                return b""
            finally:
                body.close()
    except TimeoutError:
        raise too_many() from None
