"""No broker, no other nodes: nothing is kept, and nobody has to ask whether something is."""

from collections.abc import Collection

from catenary.errors import LostPosition
from catenary.messages.names import Sid, Stream
from catenary.messages.presence import Member, PresenceChange
from catenary.messages.publications import Position, Publication


class NoHistory:
    """Satisfies :class:`catenary.ports.History`: whoever asks for history is told that there is none."""

    is_immediate = True

    def since(self, stream: Stream, moment_s: int) -> tuple[Publication, ...]:
        """Raises :class:`LostPosition`."""
        raise LostPosition("no history is kept (broker)")

    def after(self, stream: Stream, position: Position) -> tuple[Publication, ...]:
        """Raises :class:`LostPosition`."""
        raise LostPosition("no history is kept (broker)")


class NoSessions:
    """Satisfies :class:`catenary.ports.SessionCache`: nobody can be resumed."""

    __slots__ = ()

    is_shared = False

    def save(self, sid: Sid, snapshot: bytes, *, is_new: bool = True) -> None:
        """Nothing."""

    def touch(self, sids: Collection[Sid]) -> None:
        """Nothing."""

    def take(self, sid: Sid) -> None:
        """Nothing."""

    def expire(self) -> tuple[bytes, ...]:
        """Nobody."""
        return ()

    def give_up(self) -> tuple[bytes, ...]:
        """Nobody."""
        return ()


class NoPresence:
    """Satisfies :class:`catenary.ports.Presence`: nobody is seen."""

    __slots__ = ()

    def join(self, stream: Stream, sid: Sid, member_id: str, info: str) -> None:
        """Nothing."""

    def leave(self, stream: Stream, sid: Sid) -> None:
        """Nothing."""

    def touch(self, sids: Collection[Sid]) -> None:
        """Nothing."""

    def members(self, stream: Stream) -> tuple[Member, ...]:
        """Nobody."""
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

    def when_heard(self, stream: Stream, position: Position) -> None:
        """Now."""
