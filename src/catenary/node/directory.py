"""The directory of the nodes of a cluster, by their announcements.

Every node announces itself to all others every few seconds, and says goodbye when it shuts down; one that has been silent
for longer is forgotten, unless the node does not receive its own announcements either: then it is cut off, and their silence
says nothing about them. A node that receives the first announcement of another one announces itself to that one, so
that both know each other at once. Nothing is stored outside the nodes.

In a large cluster the announcements are rarer, so that a node receives at most :data:`ANNOUNCEMENTS` of them in
:data:`ANNOUNCE_S`, however many nodes there are. Each announcement says when the next one follows.
Knows: messages between nodes, time. Does not know: questions, how messages travel.
"""

import logging
import random
from collections.abc import Callable
from typing import Final

from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.nodes import NodeEntry
from catenary.metrics.counters import Counters
from catenary.ports import Peers
from catenary.protocols.cluster_messages import ANNOUNCE_S, Announced, Left, pack

_log: Final = logging.getLogger("catenary.cluster")
_limited: Final = RateLimitedLogger(_log)

ANNOUNCEMENTS: Final = 100
"""Announcements that a node receives in :data:`ANNOUNCE_S` at most; and announcements to single new nodes that it sends."""

SILENT: Final = 10 / 3
"""A node that has sent no announcement for so many of its intervals counts as ended."""

SILENT_S: Final = SILENT * ANNOUNCE_S
"""The same in seconds, in a cluster of up to :data:`ANNOUNCEMENTS` nodes."""

CUT_OFF_S: Final = 2 * ANNOUNCE_S
"""A node that has not received its own announcements for so long is cut off from the others."""

NODES: Final = 1_000
"""Limit of the directory: further nodes are refused, so that another program that makes up nodes costs a limited amount
of memory and time. Those that are known stay."""

LONGEST_S: Final = ANNOUNCE_S * NODES / ANNOUNCEMENTS
"""The longest interval of announcements."""


class _Known:
    """Another node. ``silent_s`` is the silence after which it counts as ended."""

    __slots__ = ("announced_at", "entry", "silent_s")

    def __init__(self, entry: NodeEntry, announced_at: float, silent_s: float) -> None:
        self.entry = entry
        self.announced_at = announced_at
        self.silent_s = silent_s


class Directory:
    """The nodes as one node knows them. ``peers`` is None for a node that is alone; ``clock`` counts seconds.
    ``on_end`` is called with the id of a node that has ended, and why."""

    __slots__ = (
        "_announce_at",
        "_clock",
        "_counters",
        "_has_left",
        "_left",
        "_nodes",
        "_on_end",
        "_own",
        "_peers",
        "_receives_since",
        "_replies",
        "received_own_at",
    )

    def __init__(
        self,
        own: NodeEntry,
        peers: Peers | None,
        counters: Counters,
        clock: Callable[[], float],
        on_end: Callable[[str, str], None],
    ) -> None:
        self._own = own
        self._peers = peers
        self._counters = counters
        self._clock = clock
        self._on_end = on_end
        self._has_left = False
        self._announce_at = float("-inf")
        # Announcements to single nodes that may still be sent before the next call of announce()
        self._replies = ANNOUNCEMENTS
        # The other nodes, by id
        self._nodes: dict[str, _Known] = {}
        # The ids of those that said goodbye last: an announcement of before may arrive after that
        self._left: dict[str, None] = {}
        # Since when announcements arrive without a gap
        self._receives_since = clock()
        self.received_own_at = clock()
        """When the last announcement of this node came back to it, by ``clock``."""

    def nodes(self) -> tuple[NodeEntry, ...]:
        """The nodes that are known to live, in the order of their names; this one is among them."""
        found = (self._own, *(each.entry for each in self._nodes.values()))
        return tuple(sorted(found, key=lambda each: (each.name, each.worker, each.id)))

    @property
    def is_cut_off(self) -> bool:
        """Whether messages between nodes do not arrive here at present."""
        return self._clock() - self.received_own_at > CUT_OFF_S

    @property
    def interval_s(self) -> float:
        """The time between two announcements of this node to all others."""
        return ANNOUNCE_S * max(1.0, (len(self._nodes) + 1) / ANNOUNCEMENTS)

    def announce_again(self) -> None:
        """Announces this node to all: it has started, or was not connected to the others.

        After an outage all nodes do so at the same moment; those of a large cluster keep their intervals.
        """
        if self.interval_s == ANNOUNCE_S:
            self._announce_at = float("-inf")
        self.announce()

    def announce(self) -> None:
        """Announces this node, and forgets nodes that are silent. To be called every :data:`ANNOUNCE_S`."""
        if self._peers is None or self._has_left:
            return
        now = self._clock()
        self._replies = ANNOUNCEMENTS
        if now >= self._announce_at:
            # Less half a tick: timers are late. Spread: many nodes may have started at the same moment.
            spread_s = self.interval_s * random.uniform(0.8, 1.0)  # noqa: S311
            self._announce_at = now + spread_s - ANNOUNCE_S / 2
            self._peers.send_to_all(self._announcement())
        else:
            # Only to itself: the node notices that messages arrive.
            self._peers.send_to(self._own.id, self._announcement())
        if not self.is_cut_off:
            self._forget_silent(now)

    def leave(self) -> None:
        """Says goodbye to the other nodes."""
        self._has_left = True
        if self._peers is not None:
            self._peers.send_to_all(pack(Left(self._own.id)))

    # Messages of nodes

    def note_announcement(self, announced: Announced) -> None:
        """A node has announced itself, perhaps this one."""
        entry = announced.entry
        if entry.id == self._own.id:
            self._note_own_announcement()
            return
        # In this order NaN becomes the shortest interval.
        silent_s = SILENT * min(LONGEST_S, max(ANNOUNCE_S, announced.interval_s))
        if entry.id in self._left:
            return
        known = self._nodes.get(entry.id)
        if known is not None:
            known.entry, known.announced_at, known.silent_s = entry, self._clock(), silent_s
            return
        if len(self._nodes) >= NODES:
            self._counters.cluster_refused_nodes_total += 1
            _limited.warning(
                "Node %s is not listed: the limit of %d other nodes is reached", entry.id, NODES
            )
            return
        _limited.debug("Node %s has appeared", entry.id)
        self._nodes[entry.id] = _Known(entry, self._clock(), silent_s)
        if self._peers is not None and not self._has_left and self._replies > 0:
            # Others learn of this node by its next announcement to all.
            self._replies -= 1
            self._peers.send_to(entry.id, self._announcement())

    def note_goodbye(self, node: str) -> None:
        """A node has shut down: its announcements that arrive after this are ignored. On a Redis Cluster, messages to one
        node and to all nodes have no common order."""
        self._left[node] = None
        if len(self._left) > NODES:
            del self._left[next(iter(self._left))]
        self.forget(node, "the node has shut down")

    def forget(self, node: str, why: str) -> None:
        """A node has ended."""
        if self._nodes.pop(node, None) is not None:
            _limited.debug("Node %s has left: %s", node, why)
            self._on_end(node, why)

    def _announcement(self) -> bytes:
        return pack(Announced(self._own.id, self._own, self.interval_s))

    def _note_own_announcement(self) -> None:
        if self.is_cut_off:
            self._receives_since = self._clock()
        self.received_own_at = self._clock()

    def _forget_silent(self, now: float) -> None:
        silent = [
            node
            for node, known in self._nodes.items()
            if max(known.announced_at, self._receives_since) < now - known.silent_s
        ]
        for node in silent:
            self.forget(node, f"the node has been silent for {self._nodes[node].silent_s:g} s")
