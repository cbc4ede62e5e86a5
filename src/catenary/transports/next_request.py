"""Gives a connection back for its next request, after a whole response was sent.

The stage before a response, the sniffer, reads the next request. It gets the connection in a turn of its own: the stage that
has responded may be in the middle of a call of the node. Source: RFC 9112, section 9.3 (persistence).
Knows: stages. Does not know: requests, responses.
"""

import asyncio
from collections.abc import Callable

from catenary.edge.connection import ClientConnection, Stage
from catenary.wire.http1 import RequestHead


def keeps_connection(request: RequestHead) -> bool:
    """Whether the client expects to send another request on its connection."""
    return not request.is_http_1_0 and request.headers.get("connection", "").lower() != "close"


class NextRequest:
    """The connection of one stage, which must be its current one when this is built by its endpoint."""

    __slots__ = ("_connection", "_is_expected", "_rest", "_sniffer", "is_due")

    def __init__(self, connection: ClientConnection, *, is_expected: bool) -> None:
        self._connection: ClientConnection | None = connection
        self._sniffer: Stage = connection.stage
        self.is_due = False
        """Whether the connection is given back in the next turn."""
        self._rest = b""
        self._is_expected = is_expected

    def is_expected(self) -> bool:
        """Whether the response, whose head is written now, leaves the connection open."""
        self._is_expected &= self._connection is not None and self._connection.is_kept
        return self._is_expected

    def receive(self, data: bytes) -> None:
        """The client sends its next request. If it has not waited for its response, the connection is closed after that."""
        if self.is_due:
            self._rest += data
        else:
            self._is_expected = False

    def refuse(self) -> None:
        """The response closes the connection, or the server stops."""
        self._is_expected = False

    def await_soon(self, leave: Callable[[], None]) -> bool:
        """Gives the connection back in the next turn of the event loop, after ``leave``. False if the response has not been
        sent yet, or the connection is to be closed: then the stage closes it."""
        connection = self._connection
        if connection is None or not self._is_expected or connection.transport.is_closing():
            return False
        if connection.transport.get_write_buffer_size() > 0:
            return False
        self.is_due = True
        asyncio.get_running_loop().call_soon(self._give_back, leave)
        return True

    def forget(self) -> None:
        """The connection is lost, or closed."""
        self._connection = None

    def _give_back(self, leave: Callable[[], None]) -> None:
        connection, self._connection = self._connection, None
        if connection is None or connection.transport.is_closing():
            return
        leave()
        connection.enter(self._sniffer, self._rest)
