"""Requests of one connection that wait for replies. Each has a reply subject of its own, below the connection's inbox.

Knows: statuses, deadlines. Does not know: how requests are sent, what time it is.
Source: "Request-Reply" of the NATS documentation; ADR-4 and ADR-31 of the NATS architecture.
"""

import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from catenary.adapters.nats import wire
from catenary.errors import BackendError

NO_RESPONDERS: Final = 503
"""The status of a request to a subject without subscribers (ADR-4)."""

OnReply = Callable[[bytes, bytes, BackendError | None], None]
"""Receives a reply: headers and payload; or the error."""


class NoResponders(BackendError):
    """A request had no responders: the JetStream stream is gone, or has no leader."""


class _Request:
    __slots__ = ("deadline", "is_long", "on_reply", "subject")

    def __init__(self, subject: str, on_reply: OnReply, deadline: float, *, is_long: bool) -> None:
        self.subject = subject
        self.on_reply = on_reply
        self.deadline = deadline
        self.is_long = is_long


class PendingRequests:
    """The requests, in the order of their deadlines."""

    __slots__ = ("_inbox", "_waiting", "requests_total")

    def __init__(self, prefix: str = "_INBOX") -> None:
        self._inbox: Final = f"{prefix}.{secrets.token_hex(11)}."
        # A plain dict looks for its first key past all those that were deleted.
        self._waiting: OrderedDict[bytes, _Request] = OrderedDict()
        self.requests_total = 0
        """The number of requests since the connection was made."""

    @property
    def subjects(self) -> str:
        """The reply subjects of all requests."""
        return self._inbox + "*"

    def add(self, subject: str, on_reply: OnReply, deadline: float, *, is_long: bool) -> str:
        """Adds a request on a subject, and returns its reply subject.

        ``on_reply`` is called once; if the request ``is_long``, for each message until one has a status. A deadline must
        not be before one that was given earlier.
        """
        self.requests_total += 1
        number = str(self.requests_total)
        self._waiting[number.encode()] = _Request(subject, on_reply, deadline, is_long=is_long)
        return self._inbox + number

    def receive(self, subject: bytes, headers: bytes, payload: bytes) -> None:
        """Receives a message on a reply subject."""
        number = subject[len(self._inbox) :]
        request = self._waiting.get(number)
        if request is None:
            return
        status = wire.status_of(headers) if headers else 0
        if not request.is_long or status:
            del self._waiting[number]
        if status == NO_RESPONDERS:
            request.on_reply(
                b"", b"", NoResponders("NATS: no responders; JetStream has no such stream")
            )
        else:
            request.on_reply(headers, payload, None)

    def refuse(self, subject: str, error: BackendError) -> None:
        """Fails the requests that were sent to a subject, or name it for replies: the server does not allow it."""
        for number, request in list(self._waiting.items()):
            is_meant = subject in (request.subject, self._inbox + number.decode())
            if is_meant and self._waiting.pop(number, None) is not None:
                request.on_reply(b"", b"", error)

    def postpone(self, deadline: float) -> None:
        """Moves all deadlines: no reply could be received for a while."""
        for request in self._waiting.values():
            request.deadline = deadline

    def expire(self, now: float, error: BackendError) -> None:
        """Fails the requests whose deadline has passed."""
        while self._waiting:
            number, request = next(iter(self._waiting.items()))
            if request.deadline > now:
                return
            del self._waiting[number]
            request.on_reply(b"", b"", error)

    def fail_all(self, error: BackendError) -> None:
        """Fails every request: the connection has ended."""
        waiting, self._waiting = self._waiting, OrderedDict()
        for request in waiting.values():
            request.on_reply(b"", b"", error)
