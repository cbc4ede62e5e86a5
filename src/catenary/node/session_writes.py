"""Writes of sessions to a shared cache, and what a node knows of their results.

Knows: sessions, snapshots. Does not know: when anything is written.
"""

import enum
from collections.abc import Awaitable

import msgspec

from catenary.messages.names import Sid
from catenary.node.disconnector import Ended
from catenary.node.session import Session
from catenary.node.snapshot import Snapshot


class CacheState(enum.Enum):
    """State of a session in the cache, as far as this node knows. A session without a state was never sent there."""

    SENT = enum.auto()
    """It may be stored: the answer to the first write is pending, or was lost."""
    KEPT = enum.auto()
    """It is stored, unless another node has taken it."""
    UNCERTAIN = enum.auto()
    """It was stored before the cache was away."""


class Save(msgspec.Struct, frozen=True):
    """The write of a session that left: as it was then."""

    snapshot: Snapshot


class SaveAlias(msgspec.Struct, frozen=True):
    """The write of an alias (:func:`catenary.node.session_aliases.alias_key`): the sid that it stands for."""

    sid: Sid


class Remove(msgspec.Struct, frozen=True):
    """The removal of a session that no client may resume.

    ``ended`` is reported to the application once it is removed, unless another node was quicker. ``living`` is the
    session if it continues and only can't be stored any more.
    """

    ended: Ended | None
    living: Session | None = None


FinalWrite = Save | SaveAlias | Remove
"""The last write of a sid: its session has left, or must not be resumed."""

Write = Session | FinalWrite
"""A session stands for a write of its state at the time of the write."""

Sent = dict[Sid, tuple[Write, Awaitable[bytes | None] | bytes | None]]
"""Writes that were sent, with the answers to await."""
