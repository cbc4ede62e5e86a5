"""Rosters: the nodes at which a member of a stream has sessions, one record for each member.

A member joins with the first node on its roster and leaves with the last one. A roster changes only if it is still as it
was read (optimistic concurrency: the expected last sequence of a subject, the deletion of a sequence). So of several
nodes that add or remove themselves at the same moment, exactly one finds that the member has joined or left.
Source: ADR-8 of the NATS architecture.
"""

import asyncio
import itertools
import logging
import random
from collections.abc import Callable, Container
from typing import Final

import msgspec

from catenary.adapters.nats.jetstream import Stale
from catenary.adapters.nats.nodes import Nodes
from catenary.adapters.nats.store import Store, Stored
from catenary.adapters.nats.subjects import Subjects
from catenary.errors import BackendError, BackendRefused
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.names import Stream

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.nats"))

ATTEMPTS: Final = 50
"""How often a change is tried while other nodes change the same roster."""

PAUSE_S: Final = 0.002
"""The longest pause before the second attempt; it doubles with each one up to :data:`LONGEST_PAUSE_S`, and is random."""

LONGEST_PAUSE_S: Final = 0.25


class Roster(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """``attempt`` names the attempt with which the member joined. ``came`` is the sequence of the first record of this
    roster, 0 in that record."""

    attempt: str
    came: int
    nodes: tuple[str, ...]


_write: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Roster).decode

Key = tuple[Stream, str]
"""A stream and the id of a member."""


class Rosters:
    """The rosters, as this node changes them. ``records`` raises :class:`BackendError`, as awaiting does."""

    __slots__ = (
        *("_attempts", "_generation", "_node", "_nodes", "_numbers", "_records", "_sole"),
        *("_subjects", "_unsure"),
    )

    def __init__(self, records: Callable[[], Store], subjects: Subjects, nodes: Nodes) -> None:
        self._records = records
        self._subjects = subjects
        self._nodes = nodes
        self._node = nodes.name
        self._numbers = itertools.count(1)
        # The attempts of this node whose result is not known yet
        self._attempts: dict[Key, str] = {}
        # The sequences of rosters that have only this node, as far as it knows, and the connection on which they were noted
        self._sole: dict[Key, int] = {}
        self._generation = 0
        # Rosters whose deletion may have taken effect, although it failed
        self._unsure: set[Key] = set()

    async def add(self, key: Key, node: str = "") -> bool:
        """Adds a node, by default this one. Returns whether the member has joined by that.

        An addition that has failed is to be repeated: it may have taken effect.
        """
        node = node or self._node
        subject = self._subjects.roster(*key)
        attempt = self._attempts.get(key)
        if attempt is None:
            attempt = self._attempts[key] = f"{self._node}:{next(self._numbers)}"
        expected, roster = 0, Roster(attempt, 0, (node,))
        for number in range(ATTEMPTS):
            try:
                sequence = await self._records().put(subject, _write(roster), instead_of=expected)
            except Stale:
                await _pause(number)
            else:
                return self._added(key, sequence, roster, is_first=expected == 0)
            found, before = await self._read(subject)
            if before is None:
                expected, roster = 0, Roster(attempt, 0, (node,))
            elif node in before.nodes:
                return self._added(key, found, before, is_first=before.attempt == attempt)
            else:
                expected = found
                roster = Roster(before.attempt, before.came or found, (*before.nodes, node))
        raise BackendError("NATS: too many nodes change one member at the same time")

    def _added(self, key: Key, sequence: int, roster: Roster, *, is_first: bool) -> bool:
        self._attempts.pop(key, None)
        self._unsure.discard(key)
        self._note(key, sequence, roster.nodes)
        return is_first

    async def remove(self, key: Key, node: str = "") -> bool:
        """Removes a node, by default this one. Returns whether the member has left by that.

        A removal that has failed is to be repeated: it may have taken effect.
        """
        node = node or self._node
        subject = self._subjects.roster(*key)
        if node == self._node:
            self._attempts.pop(key, None)
            sequence = self._known_sole().get(key, 0)
            if sequence and await self._delete(key, sequence):
                return True
        for number in range(ATTEMPTS):
            sequence, roster = await self._read(subject)
            if roster is None:
                self._forget(key)
                is_unsure = key in self._unsure
                self._unsure.discard(key)
                return is_unsure
            if node not in roster.nodes:
                self._forget(key)
                return False
            rest = tuple(each for each in roster.nodes if each != node)
            if not rest:
                if await self._delete(key, sequence):
                    return True
            elif await self._replace(subject, roster, sequence, rest):
                self._forget(key)
                return False
            await _pause(number)
        raise BackendError("NATS: too many nodes change one member at the same time")

    async def renew(self, key: Key) -> None:
        """Writes a roster again, before JetStream drops it for its age."""
        subject = self._subjects.roster(*key)
        sequence, roster = await self._read(subject)
        if roster is not None:
            renewed = await self._replace(subject, roster, sequence, roster.nodes)
            self._note(key, renewed, roster.nodes)

    def settled(self, present: Container[Key]) -> None:
        """All removals that had failed were repeated, except those of members that are ``present``: these are repeated later."""
        if self._unsure:
            self._unsure = {key for key in self._unsure if key in present}

    async def _delete(self, key: Key, sequence: int) -> bool:
        try:
            is_deleted = await self._records().delete(sequence)
        except BackendRefused:
            raise
        except BackendError:
            self._unsure.add(key)
            raise
        if is_deleted:
            self._forget(key)
            self._unsure.discard(key)
        return is_deleted

    async def _replace(
        self, subject: str, roster: Roster, sequence: int, nodes: tuple[str, ...]
    ) -> int:
        """Returns the new sequence; 0 if the roster is another one by now."""
        changed = Roster(roster.attempt, roster.came or sequence, nodes)
        try:
            return await self._records().put(subject, _write(changed), instead_of=sequence)
        except Stale:
            return 0

    async def _read(self, subject: str) -> tuple[int, Roster | None]:
        """Returns a roster with its sequence; None if there is none, with the sequence of what is there instead, or 0."""
        found = await self._records().newest_message(subject)
        if found is None:
            return 0, None
        return found.sequence, read_roster(found) or Roster("", 0, ())

    def _note(self, key: Key, sequence: int, nodes: tuple[str, ...]) -> None:
        if nodes == (self._node,):
            self._known_sole()[key] = sequence
        else:
            self._forget(key)

    def _known_sole(self) -> dict[Key, int]:
        if self._generation != self._nodes.generation:
            # If the JetStream stream was lost with the connection, other records have these sequences now.
            self._sole.clear()
            self._generation = self._nodes.generation
        return self._sole

    def _forget(self, key: Key) -> None:
        self._sole.pop(key, None)
        if not self._sole:
            self._sole.clear()  # frees its memory: dicts do not shrink by themselves


def read_roster(message: Stored) -> Roster | None:
    """Reads the record of a roster; None for anything else, which is logged."""
    try:
        return _decode(message.payload)
    except msgspec.DecodeError as error:
        _limited.warning("JetStream: %s is not a roster: %s", message.subject, error)
        return None


async def _pause(number: int) -> None:
    """Waits before another attempt: the first one follows at once."""
    if number:
        longest_s = min(PAUSE_S * 2**number, LONGEST_PAUSE_S)
        await asyncio.sleep(random.random() * longest_s)  # noqa: S311 - no secret
