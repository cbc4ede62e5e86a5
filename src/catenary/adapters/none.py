"""No broker: nothing is kept, and nobody has to ask whether something is."""

from catenary.errors import LostPosition
from catenary.messages.names import Sid, Stream
from catenary.messages.presence import Member, PresenceChange
from catenary.messages.publications import Position, Publication


class NoHistory:
    """Satisfies :class:`catenary.ports.History`: whoever asks for history is told that there is none."""

    is_immediate = True

    def append(self, publication: Publication) -> Publication:
        """As it came."""
        return publication

    def since(self, stream: Stream, moment_s: int) -> tuple[Publication, ...]:
        """Raises :class:`LostPosition`."""
        raise LostPosition("no history is kept (broker)")

    def after(self, stream: Stream, position: Position) -> tuple[Publication, ...]:
        """Raises :class:`LostPosition`."""
        raise LostPosition("no history is kept (broker)")


class NoSessions:
    """Satisfies :class:`catenary.ports.SessionCache`: nobody can be resumed."""

    __slots__ = ()

    def save(self, sid: Sid, snapshot: bytes) -> None:
        """Nothing."""

    def touch(self, sid: Sid) -> None:
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

    def touch(self, sid: Sid) -> None:
        """Nothing."""

    def members(self, stream: Stream) -> tuple[Member, ...]:
        """Nobody."""
        return ()

    def expire(self) -> tuple[PresenceChange, ...]:
        """Nobody."""
        return ()
