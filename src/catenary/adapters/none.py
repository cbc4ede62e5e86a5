"""The ports of a node without a broker and without other nodes: nothing is stored.

The first request that only a broker can answer is logged, with the flag that enables one: neither the client nor the
application would learn why there is no history or no presence.
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
    """Logs once that a broker is needed."""

    __slots__ = ("_is_logged", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._is_logged = False

    def log(self) -> None:
        """Logs the first time."""
        if not self._is_logged:
            self._is_logged = True
            _log.warning("%s needs a broker: --presets=broker", self._text)


class NoHistory:
    """Satisfies :class:`catenary.ports.History`: rejects every request."""

    __slots__ = ("_missing",)

    is_immediate = True

    def __init__(self) -> None:
        self._missing = _Missing("A client asked for history; that, and resuming sessions,")

    def since(
        self, stream: Stream, moment_s: int, limit: int | None = None, *, newest: bool = False
    ) -> tuple[Publication, ...]:
        """Raises :class:`LostPosition`."""
        self._missing.log()
        raise LostPosition("no history is stored (broker)")

    def after(
        self, stream: Stream, position: Position, limit: int | None = None
    ) -> tuple[Publication, ...]:
        """Raises :class:`LostPosition`."""
        return self.since(stream, 0)


class NoSessions:
    """Satisfies :class:`catenary.ports.SessionCache`: no session can be resumed."""

    __slots__ = ("revocations",)

    is_shared = False

    def __init__(self) -> None:
        self.revocations = Revocations(0)

    def save(self, sid: Sid, snapshot: bytes, *, is_new: bool = True) -> None:
        """Does nothing."""

    def amend(self, sid: Sid, lines: Mapping[int, bytes]) -> None:
        """Does nothing."""

    def touch(self, sids: Collection[Sid]) -> None:
        """Does nothing."""

    def take(self, sid: Sid) -> None:
        """Does nothing."""

    def remove(self, sid: Sid) -> None:
        """Does nothing."""

    def expire(self) -> tuple[bytes, ...]:
        """No sessions."""
        return ()

    def give_up(self) -> tuple[bytes, ...]:
        """No sessions."""
        return ()


class NoPresence:
    """Satisfies :class:`catenary.ports.Presence`: there are no members."""

    __slots__ = ("_missing",)

    def __init__(self) -> None:
        self._missing = _Missing("Presence was asked for; that")

    def join(self, stream: Stream, sid: Sid, member_id: str, info: str) -> None:
        """Does nothing."""
        self._missing.log()

    def leave(self, stream: Stream, sid: Sid) -> None:
        """Does nothing."""

    def touch(self, sids: Collection[Sid]) -> None:
        """Does nothing."""

    def members(self, stream: Stream) -> tuple[Member, ...]:
        """No members."""
        self._missing.log()
        return ()

    def streams(self, sid: Sid) -> tuple[Stream, ...]:
        """No streams."""
        return ()

    def expire(self) -> tuple[PresenceChange, ...]:
        """No members."""
        return ()


class NoInterest:
    """Satisfies :class:`catenary.ports.Interest` on a single node: every subscription is in force at once."""

    __slots__ = ()

    def listen(self, stream: Stream) -> None:
        """Does nothing."""

    def unlisten(self, stream: Stream) -> None:
        """Does nothing."""

    def when_live(self, streams: Collection[Stream]) -> None:
        """At once."""

    def has_arrived(self, stream: Stream, position: Position) -> bool:
        """Always."""
        return True

    def call_when_arrived(
        self, stream: Stream, position: Position, call: Callable[[], None]
    ) -> None:
        """Does nothing: :meth:`has_arrived` is always true."""
