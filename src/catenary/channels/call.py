"""One call of the application: its arguments, and the effects of its methods so far.

Everything that a method of a channel does to its client is collected here and becomes one Decision.
Source: socket.rb and channel_state.rb of AnyCable's Ruby libraries, for the names of states.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Final, Protocol

from catenary.channels.publishing import Sent
from catenary.channels.writing import write
from catenary.messages.decisions import (
    PRESENCE_STATE,
    WHISPER_STATE,
    Decision,
    PresenceCommand,
    Verdict,
)
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Stream
from catenary.messages.replies import Delivery, Reply


class Broadcaster(Protocol):
    """Publishes for the methods of channels. A cable satisfies it."""

    def broadcast(
        self,
        stream: object,
        message: object,
        *,
        exclude_socket: str | None = None,
        to_others: bool = False,
        transient: bool = False,
    ) -> Sent:
        """Publishes to a stream."""
        ...


class Call:
    """Collects the effects of one call. The connection and the channel of a call live as long as it does."""

    __slots__ = (
        "_replies",
        "_stopped",
        "_stops_all",
        "_streams",
        "broadcaster",
        "closes",
        "cstate",
        "environment",
        "identifier",
        "is_completed",
        "is_rejected",
        "istate",
        "presence",
        "sent",
    )

    def __init__(
        self, environment: Environment, identifier: Identifier, broadcaster: Broadcaster | None
    ) -> None:
        self.environment = environment
        self.identifier = identifier
        self.broadcaster = broadcaster
        self.is_rejected = False
        self.is_completed = False
        """The main method of the call has returned, or it can't be cancelled any more."""
        self.closes = False
        self.cstate: dict[str, str] = {}
        self.istate: dict[str, str] = {}
        self.presence: PresenceCommand | None = None
        self.sent: list[Sent] = []
        """Publications that were not accepted when they were made."""
        self._replies: list[Reply] = []
        self._streams: dict[Stream, None] = {}
        self._stopped: list[Stream] = []
        self._stops_all = False

    @property
    def stored_istate(self) -> Mapping[str, str]:
        """The stored state of this subscription, as it was when the call began."""
        return self.environment.istate_of(self.identifier)

    def complete(self) -> None:
        self.is_completed = True

    def transmit(self, message: object) -> None:
        """Raises TypeError for what JSON can't carry."""
        self._replies.append(Delivery(self.identifier, write(message)))

    # Streams

    def start(self, stream: Stream, *, whisper: bool, presence: bool) -> None:
        self._streams[stream] = None
        if whisper:
            self.istate[WHISPER_STATE] = stream
        if presence:
            self.istate[PRESENCE_STATE] = stream

    def stop(self, stream: Stream) -> None:
        self._streams.pop(stream, None)
        if not self._stops_all:
            self._stopped.append(stream)
        for key in (WHISPER_STATE, PRESENCE_STATE):
            if self._now(key) == stream:
                self.istate[key] = ""

    def stop_all(self) -> None:
        self._streams.clear()
        self._stopped.clear()
        self._stops_all = True
        for key in (WHISPER_STATE, PRESENCE_STATE):
            if self._now(key):
                self.istate[key] = ""

    # Presence

    def join(self, stream: Stream | None, member_id: str, info: object) -> None:
        """Raises ValueError without a presence stream, TypeError for an info that JSON can't carry."""
        where = stream or self._now(PRESENCE_STATE) or next(iter(self._streams), "")
        if not where:
            raise ValueError("expected a stream to be present on, got none")
        if not member_id:
            raise ValueError("expected an id to be present as, got an empty one")
        self.istate[PRESENCE_STATE] = where
        self.presence = PresenceCommand("join", member_id, write(info).decode())

    def leave(self, member_id: str) -> None:
        self.presence = PresenceCommand("leave", member_id)

    def _now(self, key: str) -> str:
        return self.istate.get(key, self.stored_istate.get(key, ""))

    # Decisions

    def decision(
        self,
        *first: Reply,
        identifiers: str = "",
        disconnect_wanted: bool | None = None,
    ) -> Decision:
        """Success, with all effects; the replies ``first`` precede the transmissions."""
        return Decision(
            identifiers=identifiers,
            replies=(*first, *self._replies),
            streams=tuple(self._streams),
            stopped_streams=tuple(self._stopped),
            stop_all_streams=self._stops_all,
            disconnect=self.closes,
            cstate=self.cstate or None,
            istate=self.istate or None,
            presence=self.presence,
            disconnect_wanted=disconnect_wanted,
        )

    def refusal(
        self, *first: Reply, disconnect_wanted: bool | None = None, error: str = ""
    ) -> Decision:
        """A rejection: of the effects, it has the transmissions only. ``error`` says why, for the log."""
        return Decision(
            verdict=Verdict.FAILURE,
            replies=(*first, *self._replies),
            disconnect=self.closes,
            disconnect_wanted=disconnect_wanted,
            error=error,
        )


current: Final[ContextVar[Call | None]] = ContextVar("catenary_call", default=None)
"""The call to which the running method belongs."""
