"""What things are called on NATS: subjects for names of any text, and names of JetStream streams.

    <prefix>.p.<epoch>.<stream>                     published, to whoever listens
    <prefix>.h.<epoch>.<stream>                     published, to be kept and then published
    <prefix>.c                                      remote commands, for every node
    <prefix>.y.<node>                               a node's canary
    <prefix>.r.n.<node>                             a node's heartbeat
    <prefix>.r.s.<node>.<sid>                       a session that may be resumed
    <prefix>.r.d.<identifiers>                      the last remote disconnect of these identifiers
    <prefix>.r.m.<node>.<stream>.<member>.<sid>     a session by which a member is there

Source: "Subject-Based Messaging" of the NATS documentation (docs.nats.io).
Knows: names. Does not know: what is sent.
"""

import re
from base64 import urlsafe_b64encode
from functools import lru_cache
from hashlib import sha256
from typing import Final

from catenary.errors import ConfigError

LONGEST_TOKEN: Final = 128
"""Longer names are hashed: a server reads lines of 4,096 bytes, and a subject has several names."""

LONGEST_PREFIX: Final = 64

ANY: Final = "*"

NOWHERE: Final = "0"
"""In the place of an epoch, for what is not kept."""


@lru_cache(maxsize=4096)
def token(name: str) -> str:
    """A name as one token of a subject: another one for each name, whatever characters it has."""
    raw = name.encode("utf-8", "surrogatepass")
    encoded = urlsafe_b64encode(raw).rstrip(b"=").decode()
    if len(encoded) > LONGEST_TOKEN:
        # No encoded name begins so.
        return "=" + sha256(raw).hexdigest()
    return encoded or "-"


class Subjects:
    """The subjects below a prefix. Raises :class:`ConfigError` for one that NATS does not take."""

    __slots__ = (
        "commands",
        "heartbeats",
        "kept",
        "lines",
        "members",
        "names",
        "published",
        "records",
        "revocations",
        "sessions",
        "yelps",
    )

    def __init__(self, prefix: str) -> None:
        words = prefix.split(".")
        if len(prefix) > LONGEST_PREFIX or not all(re.fullmatch(r"[!-~]+", each) for each in words):
            raise ConfigError(
                f"nats_pubsub.channel: expected a subject of at most {LONGEST_PREFIX} characters, "
                f"got {prefix!r}"
            )
        if any(character in prefix for character in "*>"):
            raise ConfigError(
                f"nats_pubsub.channel: expected a subject without wildcards, got {prefix!r}"
            )
        self.names = re.sub(r"[^A-Za-z0-9-]", "_", prefix)
        """What the JetStream streams' names begin with."""
        self.published = f"{prefix}.p."
        self.kept = f"{prefix}.h."
        self.commands = f"{prefix}.c"
        self.yelps = f"{prefix}.y."
        self.records = f"{prefix}.r.>"
        self.heartbeats = f"{prefix}.r.n."
        self.sessions = f"{prefix}.r.s."
        self.lines = f"{prefix}.r.l."
        self.revocations = f"{prefix}.r.d."
        self.members = f"{prefix}.r.m."

    def passing(self, stream: str) -> str:
        """Where is published what is not kept."""
        return f"{self.published}{NOWHERE}.{token(stream)}"

    def to_keep(self, epoch: str, stream: str) -> str:
        """Where is published what is to be kept in the history of an epoch."""
        return f"{self.kept}{epoch}.{token(stream)}"

    def heard(self, stream: str) -> str:
        """All that is published on a stream, kept or not."""
        return f"{self.published}*.{token(stream)}"

    def epoch_of(self, subject: bytes) -> str | None:
        """The epoch of the history that something published is kept in; None: it is not kept."""
        epoch = subject[len(self.published) :].partition(b".")[0].decode()
        return None if epoch == NOWHERE else epoch

    def session(self, node: str, sid: str) -> str:
        """Where a node keeps a session; ``node`` may be :data:`ANY`."""
        return f"{self.sessions}{node}.{token(sid)}"

    def lines_of(self, node: str, sid: str) -> str:
        """Where a node keeps the lines of a large session behind the first: their numbers follow."""
        return f"{self.lines}{node}.{token(sid)}."

    def lines_beside(self, session: str) -> str:
        """The same, for the record of a session on this subject."""
        return self.lines + session.removeprefix(self.sessions) + "."

    def revocation(self, identifiers: str) -> str:
        """Where the last remote disconnect of these identifiers is kept."""
        return f"{self.revocations}{token(identifiers)}"

    def member(self, node: str, stream: str, member_id: str, sid: str | None = None) -> str:
        """Where a node keeps a member's session; without a sid all of that member's."""
        return (
            f"{self.members}{node}.{token(stream)}.{token(member_id)}."
            f"{ANY if sid is None else token(sid)}"
        )

    def everybody(self, stream: str) -> str:
        """All sessions of all members of a stream."""
        return f"{self.members}*.{token(stream)}.>"

    def node_of(self, subject: str) -> str:
        """The node that a record of a session or a member belongs to."""
        return subject[len(self.sessions) :].partition(".")[0]
