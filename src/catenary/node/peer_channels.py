"""Several parts of a node share the messages between nodes: each has a channel, whose messages begin with a byte of its own.

Knows: bytes. Does not know: what messages mean, how they travel.
"""

from collections.abc import Callable
from typing import Final

from catenary.ports import Peers

POLLS: Final = b""
"""Relayed polls have no byte of their own: nodes of earlier versions know only these messages, which are MessagePack."""

CLUSTER: Final = b"\xc1"
"""No MessagePack begins with this byte."""


class PeerChannel:
    """Satisfies :class:`catenary.ports.Peers` for one part of the node, with messages that are shorter by one byte."""

    __slots__ = ("_peers", "_prefix", "node", "on_message")

    def __init__(self, peers: Peers, prefix: bytes) -> None:
        self.node = peers.node
        self.on_message: Callable[[bytes], None] = _pass_over
        self._peers = peers
        self._prefix = prefix

    def send_to(self, node: str, message: bytes) -> None:
        """Sends a message to a node; it is lost if either node is away."""
        self._peers.send_to(node, self._prefix + message)

    def send_to_all(self, message: bytes) -> None:
        """Sends a message to every node; it is lost for nodes that are away."""
        self._peers.send_to_all(self._prefix + message)


class PeerChannels:
    """The channels of one node. Takes ``on_message`` of the ``peers``."""

    __slots__ = ("cluster", "polls")

    def __init__(self, peers: Peers) -> None:
        self.polls: Final = PeerChannel(peers, POLLS)
        self.cluster: Final = PeerChannel(peers, CLUSTER)
        peers.on_message = self._receive

    def _receive(self, message: bytes) -> None:
        if message.startswith(CLUSTER):
            self.cluster.on_message(message[len(CLUSTER) :])
        else:
            self.polls.on_message(message)


def _pass_over(message: bytes) -> None:
    """No part of this node expects messages of others."""
