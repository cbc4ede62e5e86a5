"""The metrics endpoint, for Prometheus.

Source: docs/instrumentation.md (anycable).
"""

from collections.abc import Awaitable, Callable

from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from catenary.metrics.prometheus import CONTENT_TYPE


class Metrics:
    """Answers with the text that ``show`` returns."""

    def __init__(self, show: Callable[[], Awaitable[str]]) -> None:
        self._show = show

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = PlainTextResponse(await self._show(), media_type=CONTENT_TYPE)
        await response(scope, receive, send)
