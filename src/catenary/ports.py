"""The ports: what the heart asks of the rooms around it, with the contract on each method.

Both sides import this file and not each other.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from catenary.messages.commands import Command
from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier
from catenary.messages.publications import Publishable
from catenary.messages.replies import Delivery, Reply


class Channels(Protocol):
    """Takes the decisions about subscriptions.

    A decision that needs no waiting is returned as it is, without a task. The node makes one call
    at a time for each session, in the order of the client's commands, and cancels the awaitable of
    a client that left. Methods and awaitables raise :class:`catenary.errors.AppError` where no
    decision could be had; nothing else.
    """

    def subscribe(
        self, environment: Environment, identifier: Identifier
    ) -> Decision | Awaitable[Decision]:
        """May it subscribe? A successful decision carries the streams and a confirmation."""
        ...

    def unsubscribe(
        self, environment: Environment, identifier: Identifier
    ) -> Decision | Awaitable[Decision]:
        """It gives a subscription back: the node stops its streams whatever is answered."""
        ...

    def perform(
        self, environment: Environment, identifier: Identifier, data: str
    ) -> Decision | Awaitable[Decision]:
        """It calls an action; ``data`` is JSON text."""
        ...


class Application(Channels, Protocol):
    """Takes all decisions, under the contract of :class:`Channels`."""

    def connect(self, environment: Environment) -> Decision | Awaitable[Decision]:
        """May this client connect? A successful decision carries its identifiers.

        An awaitable that is cancelled while its question is under way may return the answer all the
        same: who was let in, and has left, is then ended like everybody else.
        """
        ...

    def disconnect(
        self, environment: Environment, subscriptions: tuple[Identifier, ...]
    ) -> Awaitable[None]:
        """The session is over. Called at most once for each."""
        ...


class Outbound(Protocol):
    """The way to one client. A transport implements it; the session alone holds it."""

    write: Callable[[bytes], None]
    """Sends one encoded message. Never calls back synchronously, never raises, ignored after close."""

    def close(self, code: int, text: str) -> None:
        """Says goodbye after everything written so far, then ends the connection.

        ``code`` and ``text`` follow RFC 6455, section 7.4; other transports say what they can of it.
        """
        ...

    def hold(self) -> None:
        """Stops reading: the client has more commands under way than it may."""
        ...

    def resume(self) -> None:
        """Reads on."""
        ...


class Waiting(Protocol):
    """A connection that waits for its client to speak."""

    def time_out(self) -> None:
        """The client took too long."""
        ...


class Watch(Protocol):
    """Ends connections on which nothing is said for too long."""

    def watch(self, connection: Waiting) -> None:
        """From now on its time runs; once more for one that is watched already."""
        ...

    def forget(self, connection: Waiting) -> None:
        """It has spoken, or it is gone; nothing happens for one that is not watched."""
        ...


class ClientProtocol(Protocol):
    """What a client speaks: bytes ↔ commands and replies. Pure."""

    def decode(self, payload: bytes) -> Command | None:
        """Reads one message; None where there is nothing to do.

        Raises :class:`catenary.errors.CommandError`.
        """
        ...

    def encode(self, reply: Reply) -> bytes | None:
        """Writes one reply; None where this protocol has no word for it."""
        ...

    def encode_delivery(self, delivery: Delivery) -> bytes:
        """Writes a publication for one identifier: the hot path, once for all who share it."""
        ...


class PubSub(Protocol):
    """Carries publications to every node, this one too.

    Built with ``deliver``, which it calls for each publication in the order of its stream.
    """

    def send(self, publications: tuple[Publishable, ...]) -> Awaitable[None] | None:
        """Hands publications to all nodes, in order; None where that is done already."""
        ...
