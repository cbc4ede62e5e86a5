"""Questions of one connection that wait for their answers.

Each has a subject of its own to be answered on, below the connection's inbox. Knows: statuses,
deadlines. Does not know: how questions are sent, what time it is.
Source: "Request-Reply" of the NATS documentation; ADR-4 and ADR-31 of the NATS architecture.
"""

import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from catenary.adapters.nats import wire
from catenary.errors import BackendError

NOBODY: Final = 503
"""The status of a question that nobody listens to (ADR-4)."""

Answered = Callable[[bytes, bytes, BackendError | None], None]
"""Takes an answer: headers, payload; or why there is none."""


class Nobody(BackendError):
    """Nobody listens to what was asked: the JetStream stream is gone, or has no leader."""


class _Question:
    __slots__ = ("answered", "deadline", "is_long", "subject")

    def __init__(self, subject: str, answered: Answered, deadline: float, *, is_long: bool) -> None:
        self.subject = subject
        self.answered = answered
        self.deadline = deadline
        self.is_long = is_long


class Questions:
    """What was asked and not answered yet, in the order of the deadlines."""

    __slots__ = ("_inbox", "_waiting", "asked_total")

    def __init__(self) -> None:
        self._inbox: Final = f"_INBOX.{secrets.token_hex(11)}."
        # A plain dict looks for its first key past all those that were deleted.
        self._waiting: OrderedDict[bytes, _Question] = OrderedDict()
        self.asked_total = 0
        """Questions that were ever asked."""

    @property
    def subjects(self) -> str:
        """All subjects on which answers come."""
        return self._inbox + "*"

    def ask(self, subject: str, answered: Answered, deadline: float, *, is_long: bool) -> str:
        """Adds a question on a subject, and returns the subject on which it is to be answered.

        ``answered`` is called once; where the question ``is_long``, for each message until one
        comes with a status. No deadline may be before one of those that were given earlier.
        """
        self.asked_total += 1
        number = str(self.asked_total)
        self._waiting[number.encode()] = _Question(subject, answered, deadline, is_long=is_long)
        return self._inbox + number

    def hear(self, subject: bytes, headers: bytes, payload: bytes) -> None:
        """Takes a message that came on one of the subjects."""
        number = subject[len(self._inbox) :]
        question = self._waiting.get(number)
        if question is None:
            return
        status = wire.status_of(headers) if headers else 0
        if not question.is_long or status:
            del self._waiting[number]
        if status == NOBODY:
            question.answered(
                b"", b"", Nobody("NATS: nobody answers; JetStream has no such stream")
            )
        else:
            question.answered(headers, payload, None)

    def refuse(self, subject: str, error: BackendError) -> None:
        """Ends those that were sent on a subject, or are answered on it: the server lets nobody."""
        for number, question in list(self._waiting.items()):
            is_meant = subject in (question.subject, self._inbox + number.decode())
            if is_meant and self._waiting.pop(number, None) is not None:
                question.answered(b"", b"", error)

    def postpone(self, deadline: float) -> None:
        """All have time until then: nothing could be heard for a while."""
        for question in self._waiting.values():
            question.deadline = deadline

    def end_late(self, now: float, error: BackendError) -> None:
        """Ends those whose deadline is over."""
        while self._waiting:
            number, question = next(iter(self._waiting.items()))
            if question.deadline > now:
                return
            del self._waiting[number]
            question.answered(b"", b"", error)

    def end_all(self, error: BackendError) -> None:
        """Ends all: nothing will be heard any more."""
        waiting, self._waiting = self._waiting, OrderedDict()
        for question in waiting.values():
            question.answered(b"", b"", error)
