"""The part of the node that a transport calls for its clients. Something in front of the node can implement it, too.

Knows: sessions. Does not know: how clients are admitted.
"""

from typing import Protocol, TypeVar

from catenary.messages.environment import Environment
from catenary.messages.reasons import Reason
from catenary.node.encoder import Encoder
from catenary.node.session import Traits
from catenary.ports import Outbound

_S = TypeVar("_S")


class ClientSession(Protocol):
    """A client as its transport sees it."""

    def close(self, reason: Reason) -> None:
        """See :meth:`catenary.node.session.Session.close`."""
        ...


class Clients(Protocol[_S]):
    """Implemented by :class:`catenary.node.node.Node`, and by :class:`catenary.edge.introductions.Introductions` in front of
    it. See the methods of the node."""

    def admit(
        self, environment: Environment, encoder: Encoder, outbound: Outbound, traits: Traits
    ) -> _S:
        """Takes a client whose transport is open."""
        ...

    def receive(self, session: _S, payload: bytes) -> None:
        """Takes a message from a client."""
        ...

    def receive_pong(self, session: _S) -> None:
        """The client has answered a ping of its transport."""
        ...

    def leave(self, session: _S, how: str = "") -> None:
        """The transport is closed or lost."""
        ...
