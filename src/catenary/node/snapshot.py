"""Snapshots: the stored form of a session that may be resumed, in JSON.

Knows: sessions. Does not know: where snapshots are stored, for how long.
"""

import logging
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid, Stream
from catenary.node.disconnector import Ended
from catenary.node.session import Session, Subscription

Read = TypeVar("Read")

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.node"))


NEWLINE: Final = b"\n"
"""Between the lines of a large session (:mod:`catenary.node.snapshot_lines`): JSON as we write it has none."""


class Subscribed(msgspec.Struct, frozen=True, omit_defaults=True):
    """One subscription."""

    streams: tuple[Stream, ...]
    whisper_stream: Stream | None = None
    presence_stream: Stream | None = None


class Snapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything that is needed to resume a session, or to report its end to the application.

    ``revision`` is the number of the newest revocation that the node knew when it wrote the snapshot
    (:class:`catenary.broker.revocations.Revocations`). ``expires_at`` is that of the session.
    """

    environment: Environment
    subscriptions: dict[Identifier, Subscribed]
    disconnect_wanted: bool
    revision: int = 0
    expires_at: float | None = None

    @property
    def ended(self) -> Ended | None:
        """The report of the session's end for the application; None if the application does not want one."""
        if not self.disconnect_wanted:
            return None
        return Ended(self.environment, tuple(self.subscriptions))


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """Some subscriptions of a large session, with their state: a line after its first."""

    subscriptions: dict[Identifier, Subscribed]
    istate: dict[Identifier, dict[str, str]] = {}


write: Final = msgspec.json.Encoder().encode
"""Writes a snapshot, or the name of one: the sid under which it is kept."""

_read_line: Final = msgspec.json.Decoder(Snapshot).decode
_read_part: Final = msgspec.json.Decoder(Part).decode
_read_name: Final = msgspec.json.Decoder(str).decode


def read(raw: bytes | None) -> Snapshot | None:
    """Reads a snapshot; None if there is none.

    Also None for one that another version wrote in another format: it can neither be resumed nor reported.
    """
    return None if raw is None or _is_name(raw) else _readable(_read, raw)


def read_name(raw: bytes | None) -> Sid | None:
    """Reads the name of a snapshot; None if there is none, or it is not readable."""
    name = None if raw is None or not _is_name(raw) else _readable(_read_name, raw)
    return None if name is None else Sid(name)


def read_all(kept: tuple[bytes, ...]) -> list[Snapshot]:
    """Reads the snapshots among stored values."""
    return [each for each in map(read, kept) if each is not None]


def _read(raw: bytes) -> Snapshot:
    first, *others = raw.split(NEWLINE)
    snapshot = _read_line(first)
    if not others:
        return snapshot
    environment, subscriptions = snapshot.environment, snapshot.subscriptions
    istate = environment.istate or {}
    for part in map(_read_part, others):
        subscriptions |= part.subscriptions
        istate |= part.istate
    environment.istate = istate or None
    return snapshot


def _is_name(raw: bytes) -> bool:
    return raw.startswith(b'"')


def _readable(read: Callable[[bytes], Read], raw: bytes) -> Read | None:
    try:
        return read(raw)
    except msgspec.DecodeError as error:
        _limited.error("A stored session can't be read: %s", error)
        return None


def subscribed(subscription: Subscription) -> Subscribed:
    """A subscription as it is now."""
    return Subscribed(
        tuple(subscription.streams), subscription.whisper_stream, subscription.presence_stream
    )


def snapshot_of(session: Session, revision: int) -> Snapshot:
    """A session as it is now."""
    session.environment.written = b""  # a memo, which is not stored
    return Snapshot(
        session.environment,
        {identifier: subscribed(each) for identifier, each in session.subscriptions.items()},
        session.disconnect_wanted,
        revision,
        session.expires_at,
    )
