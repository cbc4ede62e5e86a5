"""Membership: each node writes a heartbeat record every few seconds, and reads those of the others.

The sessions and members of a node live as long as the node, so that no record is written for each of them. A node whose
heartbeat is old is dead: another node ends its sessions and members, and then deletes its heartbeat. Ages are taken by
the server's clock alone.

A node reads a limited number of heartbeats a second, however many nodes there are: in a cluster of more than 124 nodes with
the usual times to live, dead nodes are found later.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Final

from catenary.adapters.nats.store import Store, Stored, TooMany
from catenary.adapters.nats.subjects import ANY, Subjects
from catenary.broker.limits import Limits

LONGEST_INTERVAL_S: Final = 5.0
SHORTEST_INTERVAL_S: Final = 0.25

BEATS: Final = 4
"""Heartbeats within the shortest time to live."""

BEATS_MISSED: Final = 3
"""Missed heartbeats before a node counts as dead, however short the times to live are."""

QUIET_S: Final = 1.0
"""A node that has just started counts no other as dead for so long."""

QUIET_AGAIN_S: Final = 4.0
"""After NATS was away, no node counts another as dead for longer: all have to connect again first. More than the longest
pause between two attempts."""

HEARTBEATS_PER_S: Final = 33
"""Heartbeats that a node reads, at most, on average: 1,000 of them every 30 s."""

HEARTBEATS: Final = 5_000
"""Heartbeats that one reading takes into account, the oldest first, if there are more than JetStream returns at once: another
program may have made them up."""

FORGOTTEN_AT_ONCE: Final = 100
"""Dead nodes without records whose heartbeats are deleted after one reading."""

_is_name: Final = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
"""Anything else would be a pattern of subjects, which matches the records of other nodes."""


class Nodes:
    """The living and the dead nodes. ``clock`` counts the seconds of times to live. Awaiting raises
    :class:`catenary.errors.BackendError`."""

    __slots__ = (
        "_ages_s",
        "_beaten_at",
        "_began_at",
        "_clock",
        "_longest_s",
        "_loop",
        "_node",
        "_now_s",
        "_quiet_s",
        "_read_at",
        "_sequences",
        "_shortest_s",
        "_subjects",
        "generation",
        "interval_s",
    )

    def __init__(
        self,
        subjects: Subjects,
        node: str,
        limits: Limits,
        clock: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._subjects = subjects
        self._node = node
        self._loop = asyncio.get_running_loop()
        self._shortest_s = min(limits.sessions_ttl_s, limits.presence_ttl_s)
        self._longest_s = max(limits.sessions_ttl_s, limits.presence_ttl_s)
        self.interval_s = max(
            SHORTEST_INTERVAL_S, min(self._shortest_s / BEATS, LONGEST_INTERVAL_S)
        )
        self.generation = 0
        """The number of the connection: records of an earlier one may have been lost since."""
        self._began_at = float("-inf")
        self._quiet_s = QUIET_S
        # By the loop's clock
        self._beaten_at = self._read_at = float("-inf")
        # As last read, by the server's clock
        self._now_s = 0.0
        self._ages_s: dict[str, float] = {}
        self._sequences: dict[str, int] = {}

    @property
    def name(self) -> str:
        """The name of this node."""
        return self._node

    async def begin(self, records: Store) -> None:
        """Notes that NATS is connected, for the first time or again."""
        self._read_at = float("-inf")
        await self.beat(records)
        self._began_at = self._clock()
        self._quiet_s = QUIET_S if self.generation == 0 else QUIET_AGAIN_S
        self.generation += 1

    async def beat(self, records: Store) -> None:
        """Writes the heartbeat of this node, and reads those of the others if it is time to."""
        await records.put(self._subjects.heartbeats + self._node, b"")
        self._beaten_at = self._loop.time()
        if self._beaten_at - self._read_at < len(self._ages_s) / HEARTBEATS_PER_S:
            return
        await self._read(records)
        # Side by side: the next heartbeat waits for them.
        over = self.to_end(self._longest_s)[:FORGOTTEN_AT_ONCE]
        await asyncio.gather(*(self._forget(records, name) for name in over))

    async def _read(self, records: Store) -> None:
        subject = self._subjects.heartbeats + ANY
        try:
            found = await records.newest([subject])
        except TooMany:
            found = await records.all_from(subject, 1, HEARTBEATS)
        self._now_s = now_s = max((each.moment_s for each in found), default=0.0)
        named = {each.subject.removeprefix(self._subjects.heartbeats): each for each in found}
        self._ages_s = {
            name: now_s - each.moment_s for name, each in named.items() if _is_name(name)
        }
        self._sequences = {name: named[name].sequence for name in self._ages_s}
        # It may be too new to be among the oldest.
        self._ages_s.setdefault(self._node, 0.0)
        self._read_at = self._loop.time()

    def is_late(self) -> bool:
        """Was the last heartbeat of this node so long ago that others may count it as dead?"""
        return self._loop.time() - self._beaten_at > self._patience_s(self._shortest_s)

    def is_settled(self, ttl_s: float) -> bool:
        """Has NATS been connected for long enough that every living node has sent a heartbeat?"""
        return self._clock() - self._began_at >= max(ttl_s / 3, self._quiet_s)

    def dead(self, ttl_s: float) -> list[str]:
        """Nodes whose records with a time to live of ``ttl_s`` have expired, as far as is known at the moment."""
        if self._loop.time() - self._read_at > 2 * self.interval_s or not self.is_settled(ttl_s):
            return []
        patience_s = self._patience_s(ttl_s)
        return [name for name, age_s in self._ages_s.items() if age_s > patience_s]

    def to_end(self, ttl_s: float) -> list[str]:
        """The dead nodes, if this node is the first of the living, which ends their sessions and members.

        Any node could do so, and several do if they disagree about which nodes live: that only costs requests.
        """
        dead = self.dead(ttl_s)
        return dead if self._node == min(set(self._ages_s) - set(dead), default="") else []

    def is_over(self, record: Stored, name: str, ttl_s: float) -> bool:
        """Was a record left by a dead node? A new record shows that the node has just come back."""
        now_s = self._now_s + self._loop.time() - self._read_at
        return name in self.dead(ttl_s) and now_s - record.moment_s > self._patience_s(ttl_s)

    def _patience_s(self, ttl_s: float) -> float:
        return max(ttl_s, BEATS_MISSED * self.interval_s)

    async def _forget(self, records: Store, name: str) -> None:
        """Deletes the heartbeat of a dead node without records."""
        for kind in (self._subjects.sessions, self._subjects.members):
            if await records.first(f"{kind}{name}.>", 1):
                return
        # Lines of sessions that other nodes had taken before it died.
        await records.purge(f"{self._subjects.lines}{name}.>")
        await records.delete(self._sequences[name])
