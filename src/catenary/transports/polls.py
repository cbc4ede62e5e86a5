"""The requests of long polling, as sessions see them: a poll, its response, and the holder that is notified of its delivery.

The poll may be a request on a connection of this server, one in another ASGI server, or one that another node relays.
Knows: nothing else. Does not know: sessions, how requests and responses are written.
"""

from typing import Protocol

import msgspec


class PollResponse(msgspec.Struct, frozen=True):
    """The response to a poll; ``messages`` are lines. ``poll_id`` is set in the one that opens a session."""

    status: int
    messages: bytes = b""
    number: int = 0
    poll_id: str = ""


class Poll(Protocol):
    """One request, until its response is delivered. Two objects for the same request are equal."""

    def answer(self, response: PollResponse) -> None:
        """Sends the response; called once, not after :meth:`PollHolder.lost`. :meth:`PollHolder.delivered` or
        :meth:`PollHolder.lost` reports what becomes of it."""
        ...

    def is_unread(self) -> bool:
        """Whether the response has not reached the client's machine, or its connection is broken, as far as is known now.
        True if another node has to be asked, which reports
        :meth:`catenary.transports.long_polling.PollSession.arrived` if it has."""
        ...


class PollHolder(Protocol):
    """Where a poll waits: its session, or the relay to the node that has the session."""

    def delivered(self, poll: Poll) -> None:
        """The response has reached the client, or a proxy before it."""
        ...

    def lost(self, poll: Poll) -> None:
        """The client has gone without the response."""
        ...

    def shutdown(self) -> None:
        """The server stops: the poll is answered as soon as possible."""
        ...
