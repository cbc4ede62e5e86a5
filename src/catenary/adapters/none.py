"""No broker, no other nodes: nothing is kept, and nobody has to ask whether something is.

What only a broker can answer is logged at the first time, with the flag that brings one: a client is not
told why it sees nobody, and an application that lets it join is not told anything.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Final

from catenary.broker.revocations import Revocations
from catenary.errors import LostPosition
from catenary.messages.names import Sid, Stream
from catenary.messages.presence import Member, PresenceChange
from catenary.messages.publications import Position, Publication

_log: Final = logging.getLogger("catenary.node")


class _Missing:
    """A broker that somebody needs."""

    __slots__ = ("_is_logged", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._is_logged = False

    def log(self) -> None:
        """Once."""
        if not self._is_logged:
            self._is_logged = True
            _log.warning("%s needs a broker: --presets=broker", self._text)


class NoHistory:
    """Satisfies :class:`catenary.ports.History`: whoever asks for history is told that there is none."""

    __slots__ = ("_missing",)

    is_immediate = True

    def __init__(self) -> None:
        self._missing = _Missing("A client asked for history; that, and resuming sessions,")

    def since(
        self, stream: Stream, moment_s: int, limit: int | None = None, *, newest: bool = False
    ) -> tuple[Publication, ...]:
        """Raises :class:`LostPosition`."""
        self._missing.log()
        raise LostPosition("no history is kept (broker)")

    def after(
        self, stream: Stream, position: Position, limit: int | None = None
    ) -> tuple[Publication, ...]:
        """Raises :class:`LostPosition`."""
        return self.since(stream, 0)


class NoSessions:
    """Satisfies :class:`catenary.ports.SessionCache`: nobody can be resumed."""

    __slots__ = ("revocations",)

    is_shared = False

    def __init__(self) -> None:
        self.revocations = Revocations(0)

    def save(self, sid: Sid, snapshot: bytes, *, is_new: bool = True) -> None:
        """Nothing."""

    def amend(self, sid: Sid, lines: Mapping[int, bytes]) -> None:
        """Nothing."""

    def touch(self, sids: Collection[Sid]) -> None:
        """Nothing."""

    def take(self, sid: Sid) -> None:
        """Nothing."""

    def remove(self, sid: Sid) -> None:
        """Nothing."""

    def expire(self) -> tuple[bytes, ...]:
        """Nobody."""
        return ()

    def give_up(self) -> tuple[bytes, ...]:
        """Nobody."""
        return ()


class NoPresence:
    """Satisfies :class:`catenary.ports.Presence`: nobody is seen."""

    __slots__ = ("_missing",)

    def __init__(self) -> None:
        self._missing = _Missing("Presence was asked for; that")

    def join(self, stream: Stream, sid: Sid, member_id: str, info: str) -> None:
        """Nothing."""
        self._missing.log()

    def leave(self, stream: Stream, sid: Sid) -> None:
        """Nothing."""

    def touch(self, sids: Collection[Sid]) -> None:
        """Nothing."""

    def members(self, stream: Stream) -> tuple[Member, ...]:
        """Nobody."""
        self._missing.log()
        return ()

    def expire(self) -> tuple[PresenceChange, ...]:
        """Nobody."""
        return ()


class NoInterest:
    """Satisfies :class:`catenary.ports.Interest`, for a node that is alone: everything arrives."""

    __slots__ = ()

    def listen(self, stream: Stream) -> None:
        """Nothing."""

    def unlisten(self, stream: Stream) -> None:
        """Nothing."""

    def when_live(self, streams: Collection[Stream]) -> None:
        """Now."""

    def has_arrived(self, stream: Stream, position: Position) -> bool:
        """Everything has."""
        return True

    def call_when_arrived(
        self, stream: Stream, position: Position, call: Callable[[], None]
    ) -> None:
        """Nothing: everything has arrived."""
