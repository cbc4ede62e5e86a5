"""A connection that gets one brief response, such as that to a preflight, and is closed.

Knows: a transport. Does not know: what was requested.
"""

import asyncio
from typing import Final

from catenary.transports.http_responses import BriefResponse, response_head


class BriefResponseStage:
    """Satisfies :class:`catenary.edge.connection.Stage`: writes one response and closes the connection."""

    __slots__ = ("_response", "_transport")

    is_client: Final = False

    def __init__(self, transport: asyncio.WriteTransport, response: BriefResponse) -> None:
        self._transport = transport
        self._response = response

    def begin(self, rest: bytes) -> None:
        headers = (*self._response.headers, ("Connection", "close"))
        self._transport.write(response_head(self._response.status, headers))
        self._transport.close()

    def receive(self, data: bytes) -> None:
        """Does nothing: no further request is served."""

    def eof(self) -> bool:
        return False

    def pause_writing(self) -> None:
        """Does nothing: the response is short."""

    def resume_writing(self) -> None:
        """See :meth:`pause_writing`."""

    def lost(self, exc: Exception | None) -> None:
        """Does nothing."""

    def shutdown(self) -> None:
        self._transport.close()
