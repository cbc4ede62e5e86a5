"""Is this process alive? For load balancers and orchestrators."""

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response


async def health(request: Request) -> Response:
    """Answers 200 whenever the loop turns."""
    return PlainTextResponse("OK\n")
