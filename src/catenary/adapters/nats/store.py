"""A JetStream stream: found by its name, created if there is none, with the wanted limits.

Each has an epoch, which is new whenever the stream is created: one that was lost and created again by another node is
never taken for the one before. Of several nodes that create it at the same moment one succeeds, because the names are
equal and the epochs differ. (With different names, a server that gets two requests at the same moment would create two
streams of the same subjects.)
Source: ADR-2, ADR-8 and ADR-31 of the NATS architecture; "Streams" of its documentation.
"""

import logging
import re
import secrets
import time
from base64 import b64decode
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec

from catenary.adapters.nats import wire
from catenary.adapters.nats.connection import NatsConnection, Reply
from catenary.adapters.nats.jetstream import (
    DEFAULT_JETSTREAM,
    GONE,
    NOT_THERE,
    REPLICAS,
    TAKEN,
    TOO_SMALL,
    ApiReply,
    JetStream,
    read_ack,
    read_reply,
)
from catenary.adapters.nats.pending_requests import NoResponders
from catenary.adapters.pacing import paced
from catenary.errors import BackendError

_log: Final = logging.getLogger("catenary.nats")

OLDEST_SERVER: Final = (2, 11)
"""The first nats-server that answers a request with many messages (ADR-31)."""

S: Final = 1_000_000_000
"""One second in nanoseconds, the unit of JetStream."""

DUPLICATES_S: Final = 30
"""How long JetStream remembers message ids, to store each message once: longer than the election of a leader and the
takeover of a queue together. Each id costs some 100 bytes."""

SUBJECTS_AT_ONCE: Final = 1_000
"""Subjects whose last messages are read with one request: the server's limit is 1,024."""

MESSAGES_AT_ONCE: Final = 1_000

UNLIMITED: Final = 2**63

SEQUENCE_BITS: Final = 32
"""The bits of a number for the sequence; those before them are the second in which the stream was created."""

EPOCH: Final = "catenary.epoch"
"""The key of the epoch in the metadata of a stream."""

END: Final = 204
NOT_FOUND: Final = 404
TOO_MANY: Final = 413
"""Statuses (ADR-31)."""

Start = int | datetime
"""The start of a read: a sequence, or a time."""


class TooMany(BackendError):
    """More messages match than JetStream returns at once."""


class Stored(msgspec.Struct, frozen=True, gc=False):
    """A message of the stream. ``moment_s`` counts on the server's clock."""

    subject: str
    sequence: int
    moment_s: float
    payload: bytes


class Newest(msgspec.Struct, frozen=True, gc=False):
    """The sequence and the time (seconds since 1970) of a newest message; 0 where there is none."""

    sequence: int = 0
    moment_s: float = 0.0


_write: Final = msgspec.json.Encoder().encode


class Store:
    """One stream, over one connection. Awaiting raises :class:`BackendError`."""

    __slots__ = (
        "_connection",
        "_jetstream",
        "_limits",
        "_shape",
        "clock_ahead_s",
        "epoch",
        "first_number",
        "max_message_bytes",
        "name",
        "replicas",
    )

    def __init__(
        self,
        connection: NatsConnection,
        name: str,
        limits: dict[str, Any],
        subjects: Callable[[str], dict[str, Any]],
        jetstream: JetStream = DEFAULT_JETSTREAM,
    ) -> None:
        """Fields of the configuration: ``limits`` may change; ``subjects`` returns those of a new stream, by its epoch."""
        self._connection = connection
        self._jetstream = jetstream
        self._limits = {"allow_direct": True, **limits, **jetstream.placement}
        self._shape = subjects
        self.name = name
        self.epoch = ""
        """Identifies the stream among all that ever had this name."""
        self.first_number = 0
        """Added to a sequence makes a number, which grows over all streams that ever had this name."""
        self.max_message_bytes = UNLIMITED
        """The largest message that the stream takes, if its configuration limits that."""
        self.replicas = 1
        self.clock_ahead_s = 0.0
        """How far the server's clock is ahead of ours."""

    # The stream

    async def open(self) -> None:
        """Finds the stream, or creates it."""
        _check_version(self._connection.info.version)
        try:
            for _ in range(3):
                if await self._find() or await self._make():
                    return
        except NoResponders as error:
            raise self._jetstream.missing from error
        raise BackendError(f"JetStream: others are making the stream {self.name}")

    @property
    def may_lag(self) -> bool:
        """May the replica that answers lag? In a cluster, other nodes may add replicas."""
        return bool(self._connection.info.cluster)

    async def is_there(self) -> bool:
        """Does the stream that was opened still exist?"""
        reply = await self._call(f"STREAM.INFO.{self.name}", {})
        if reply.error_code == NOT_THERE:
            return False
        reply.check()
        return _epoch(reply) == self.epoch

    async def change_limits(self, limits: dict[str, Any]) -> None:
        """Applies other limits to the stream that was opened; does nothing if they are the present ones."""
        limits = {"allow_direct": True, **limits}
        if limits == self._limits:
            return
        before, self._limits = self._limits, limits
        try:
            await self._find()
        except BackendError:
            self._limits = before
            raise

    async def _find(self) -> bool:
        reply = await self._call(f"STREAM.INFO.{self.name}", {})
        if reply.error_code == NOT_THERE:
            return False
        reply.check()
        if not _epoch(reply):
            raise BackendError(f"JetStream: the stream {self.name} is not ours")
        await self._adjust(reply.config)
        self._opened(reply)
        return True

    async def _make(self) -> bool:
        epoch = secrets.token_hex(4)
        config = {
            "name": self.name,
            "retention": "limits",
            "storage": "file",
            "discard": "old",
            "max_consumers": -1,
            "max_msgs": -1,
            "max_bytes": -1,
            "metadata": {EPOCH: epoch},
            **self._limits,
            **self._shape(epoch),
        }
        in_cluster = bool(self._connection.info.cluster)
        numbers = self._jetstream.replicas_to_try(in_cluster=in_cluster)
        for replicas in numbers:
            reply = await self._call(
                f"STREAM.CREATE.{self.name}", {**config, "num_replicas": replicas}
            )
            if reply.error_code in TAKEN:
                return False
            if reply.error_code in TOO_SMALL and replicas != numbers[-1]:
                _log.warning("JetStream can't have %d replicas: %s", replicas, reply.words)
                continue
            reply.check()
            self.replicas = replicas
            self._opened(reply)
            _log.info("Made the JetStream stream %s, replicas: %d", self.name, replicas)
            return True
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _adjust(self, config: dict[str, Any]) -> None:
        """Applies changed limits and another place, and adds replicas in a cluster that has grown."""
        self.replicas = config.get("num_replicas", 1)
        wanted = self._jetstream.replicas
        if wanted and wanted != self.replicas:
            config = await self._update({**config, "num_replicas": wanted})
            self.replicas = wanted
        elif not wanted and self._connection.info.cluster and self.replicas < REPLICAS:
            grown = {**config, "num_replicas": REPLICAS}
            if (await self._call(f"STREAM.UPDATE.{self.name}", grown)).error is None:
                config, self.replicas = grown, REPLICAS
        if any(not _has(config.get(key), value) for key, value in self._limits.items()):
            await self._update({**config, **self._limits})

    async def _update(self, config: dict[str, Any]) -> dict[str, Any]:
        (await self._call(f"STREAM.UPDATE.{self.name}", config)).check()
        _log.info("Changed the configuration of the JetStream stream %s", self.name)
        return config

    def _opened(self, reply: ApiReply) -> None:
        self.epoch = _epoch(reply)
        self.first_number = int(moment_s(reply.created)) << SEQUENCE_BITS if reply.created else 0
        limit = int(reply.config.get("max_msg_size", -1))
        self.max_message_bytes = limit if limit >= 0 else UNLIMITED
        if reply.ts:
            self.clock_ahead_s = moment_s(reply.ts) - time.time()

    # Messages

    async def put(self, subject: str, payload: bytes, *, instead_of: int | None = None) -> int:
        """Stores a message and returns its sequence.

        With ``instead_of``, only where that is the newest of the subject, or 0 and there is none.
        Raises :class:`Stale` otherwise.
        """
        headers = b""
        if instead_of is not None:
            headers = wire.header("Nats-Expected-Last-Subject-Sequence", instead_of)
        answer = await self._connection.request(subject, payload, headers)
        return read_ack(answer.payload).seq

    async def delete(self, sequence: int) -> bool:
        """Deletes a message; returns whether it existed, which is true for one of several callers."""
        query = {"seq": sequence, "no_erase": True}
        reply = await self._call(f"STREAM.MSG.DELETE.{self.name}", query)
        if reply.error_code == GONE:
            return False
        reply.check()
        return True

    async def purge(self, subject: str) -> None:
        """Deletes all messages of a subject; it may have wildcards."""
        (await self._call(f"STREAM.PURGE.{self.name}", {"filter": subject})).check()

    async def at(self, sequence: int) -> Stored | None:
        """Returns the message of a sequence; None if it no longer exists."""
        answer = await self._connection.request(self._direct, _write({"seq": sequence}))
        if answer.status == NOT_FOUND:
            return None
        return _stored(answer)

    async def newest(self, subjects: list[str]) -> list[Stored]:
        """Returns the newest message of each subject that has any; subjects may have wildcards.

        Raises :class:`TooMany`.
        """
        found: list[Stored] = []
        for start in range(0, len(subjects), SUBJECTS_AT_ONCE):
            part = subjects[start : start + SUBJECTS_AT_ONCE]
            messages, _ = await self._many(
                {"multi_last": part, "batch": len(part) + MESSAGES_AT_ONCE}
            )
            found += messages
        return found

    async def first(self, subject: str, limit: int, sequence: int = 1) -> list[Stored]:
        """Returns the first messages of a subject from a sequence on; it may have wildcards.

        At most ``limit``, and fewer where they are large.
        """
        messages, _ = await self._next(subject, sequence, limit)
        return messages

    async def oldest(self, subject: str) -> tuple[Stored | None, int]:
        """Returns the oldest message of a subject, if there is one, and the number of its messages."""
        messages, remaining = await self._next(subject, 1, 1)
        return (messages[0], 1 + remaining) if messages else (None, 0)

    async def all_from(self, subject: str, start: Start, limit: int) -> list[Stored]:
        """Returns the first ``limit`` messages of a subject from a sequence or a time on."""
        found: list[Stored] = []
        while True:
            messages, pending = await self._next(subject, start, limit - len(found))
            found += messages
            if not messages or pending == 0 or len(found) >= limit:
                return found
            start = messages[-1].sequence + 1

    async def _next(self, subject: str, start: Start, limit: int) -> tuple[list[Stored], int]:
        from_ = (
            {"seq": max(start, 1)} if isinstance(start, int) else {"start_time": start.isoformat()}
        )
        return await self._many({**from_, "next_by_subj": subject, "batch": limit})

    async def newest_certainly(self, subject: str) -> Newest:
        """Returns the newest message of a subject, which may have wildcards, after everything that was acknowledged
        before: a replica may not have it yet, or still have what was deleted."""
        if self.may_lag:
            return await self.newest_of_leader(subject)
        found = await self.newest([subject])
        last = max(found, key=lambda each: each.sequence, default=None)
        return Newest() if last is None else Newest(last.sequence, last.moment_s)

    async def newest_message(self, subject: str) -> Stored | None:
        """Returns the newest message of a subject without wildcards, after everything that was acknowledged before."""
        if not self.may_lag:
            found = await self.newest([subject])
            return found[0] if found else None
        reply = await self._call(f"STREAM.MSG.GET.{self.name}", {"last_by_subj": subject})
        if reply.error is not None and reply.error.code == NOT_FOUND:
            return None
        reply.check()
        message = reply.message
        payload = b64decode(message.get("data", ""))
        return Stored(subject, int(message["seq"]), moment_s(message["time"]), payload)

    async def newest_of_leader(self, subject: str) -> Newest:
        """Returns the newest message of a subject as the leader knows it."""
        reply = await self._call(f"STREAM.MSG.GET.{self.name}", {"last_by_subj": subject})
        if reply.error is not None and reply.error.code == NOT_FOUND:
            return Newest()
        reply.check()
        return Newest(int(reply.message["seq"]), moment_s(reply.message["time"]))

    @property
    def _direct(self) -> str:
        return f"{self._jetstream.api}.DIRECT.GET.{self.name}"

    async def _many(self, query: dict[str, Any]) -> tuple[list[Stored], int]:
        """Returns as many messages as the server sends at once, and how many follow them."""
        *messages, end = await self._connection.request_many(self._direct, _write(query))
        if end.status == TOO_MANY:
            raise TooMany("JetStream: too many messages match")
        if end.status not in (END, NOT_FOUND):
            raise BackendError(f"JetStream: {end.headers[9:80].decode(errors='replace')}")
        pending = int(wire.value_of(end.headers, b"Nats-Num-Pending") or 0)
        return [_stored(each) async for each in paced(messages)], pending

    async def _call(self, what: str, body: dict[str, Any]) -> ApiReply:
        answer = await self._connection.request(f"{self._jetstream.api}.{what}", _write(body))
        return read_reply(answer.payload)


def moment_s(text: str) -> float:
    """Reads a moment of JetStream (RFC 3339) as seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


def _stored(answer: Reply) -> Stored:
    headers = answer.headers
    try:
        return Stored(
            (wire.value_of(headers, b"Nats-Subject") or b"").decode(),
            int(wire.value_of(headers, b"Nats-Sequence") or b""),
            moment_s((wire.value_of(headers, b"Nats-Time-Stamp") or b"").decode()),
            answer.payload,
        )
    except ValueError as error:
        raise BackendError(f"JetStream: {error}") from error


def _epoch(reply: ApiReply) -> str:
    return str((reply.config.get("metadata") or {}).get(EPOCH, ""))


def _has(found: Any, wanted: Any) -> bool:
    """Whether a field of the configuration is as wanted; the server adds fields to some of them."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(found.get(key) == value for key, value in wanted.items())
    return bool(found == wanted)


def _check_version(version: str) -> None:
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) < OLDEST_SERVER:
        raise BackendError(f"expected nats-server 2.11 or newer for the broker, got {version}")
