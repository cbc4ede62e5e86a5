"""Redis Cluster: the slots of keys, which server has each slot, and redirections.

Knows: names of keys, replies as bytes. Does not know: connections.
Source: redis.io, "Redis Cluster specification", sections "Key distribution model", "Hash tags", "Redirection and
resharding".
"""

from binascii import crc_hqx
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

SLOTS: Final = 16_384


class Place(NamedTuple):
    """The address of a server."""

    host: str
    port: int


class Redirection(NamedTuple):
    """A refused command has to be sent to ``place``: for good (MOVED), or once, after ASKING (ASK)."""

    is_lasting: bool
    slot: int
    place: Place


class SlotRange(NamedTuple):
    """Slots from ``first`` to ``last``, both included, their primary, and its replicas."""

    first: int
    last: int
    primary: Place
    replicas: tuple[Place, ...]


def slot_of(key: bytes) -> int:
    """The slot of a key: the CRC16 (XMODEM) of its hash tag, or of all of it if it has none."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) % SLOTS


def beside(key: str, rest: str) -> str:
    """The name of another key, in the slot of ``key``: all of it is the hash tag, unless it has one.

    Raises ValueError for a key that can't be one: it has a "}" and no hash tag.
    """
    for name in (f"{key}{rest}", f"{{{key}}}{rest}"):
        if slot_of(name.encode()) == slot_of(key.encode()):
            return name
    raise ValueError("expected a name without }, or with a hash tag such as {name}")


def read_slots(reply: Sequence[Any], asked: Place) -> list[SlotRange]:
    """Reads the reply to CLUSTER SLOTS. A server that has no name of its own for a host means the one that was ``asked``.

    Raises ValueError if a slot has no primary, or if it is no such reply.
    """
    ranges = []
    served = 0
    for first, last, *servers in reply:
        primary, *replicas = [_place(host, port, asked) for host, port, *_ in servers]
        ranges.append(SlotRange(int(first), int(last), primary, tuple(replicas)))
        served += int(last) - int(first) + 1
    if served != SLOTS:
        raise ValueError(f"{SLOTS - served} of {SLOTS} slots are served by no node")
    return ranges


def read_redirection(error: str, asked: Place) -> Redirection | None:
    """Reads an error such as ``MOVED 3999 127.0.0.1:6381``; None for any other error."""
    words = error.split(" ")
    if len(words) != 3 or words[0] not in ("MOVED", "ASK"):
        return None
    host, _, port = words[2].rpartition(":")
    return Redirection(words[0] == "MOVED", int(words[1]), _place(host, port, asked))


def _place(host: bytes | str | None, port: int | str, asked: Place) -> Place:
    name = host.decode() if isinstance(host, bytes) else host or ""
    return Place(asked.host if name in ("", "?") else name, int(port))
