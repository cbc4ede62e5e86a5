"""Subjects on NATS for names of any text, and names of JetStream streams.

    <prefix>.p.<epoch>.<stream>                     a publication, for the nodes
    <prefix>.h.<epoch>.<stream>                     a publication for JetStream to store and republish
    <prefix>.c                                      remote commands, for every node
    <prefix>.y.<node>                               a node's canary
    <prefix>.o.<node>                               a message of another node to a node
    <prefix>.a                                      a message of a node to all nodes
    <prefix>.r.n.<node>                             a node's heartbeat
    <prefix>.r.s.<node>.<sid>                       a session that may be resumed
    <prefix>.r.d.<identifiers>                      the last remote disconnect of these identifiers
    <prefix>.r.m.<node>.<stream>.<member>.<sid>     a session of a member
    <prefix>.r.o.<stream>.<member>                  the nodes at which a member has sessions

Source: "Subject-Based Messaging" of the NATS documentation (docs.nats.io).
Knows: names. Does not know: messages.
"""

import re
from base64 import urlsafe_b64encode
from functools import lru_cache
from hashlib import sha256
from typing import Final

from catenary.errors import ConfigError

LONGEST_TOKEN: Final = 128
"""Longer names are hashed: a server reads lines of up to 4,096 bytes, and a subject has several names."""

LONGEST_PREFIX: Final = 64

ANY: Final = "*"

NOWHERE: Final = "0"
"""The epoch of publications that are not kept."""


@lru_cache(maxsize=4096)
def token(name: str) -> str:
    """Encodes a name of any characters as one token of a subject, each name as another."""
    raw = name.encode("utf-8", "surrogatepass")
    encoded = urlsafe_b64encode(raw).rstrip(b"=").decode()
    if len(encoded) > LONGEST_TOKEN:
        # No encoded name begins with "=".
        return "=" + sha256(raw).hexdigest()
    return encoded or "-"


class Subjects:
    """The subjects below a prefix. Raises :class:`ConfigError` for one that NATS does not take."""

    __slots__ = (
        "all_peers",
        "canaries",
        "commands",
        "heartbeats",
        "kept",
        "lines",
        "members",
        "names",
        "peers",
        "published",
        "records",
        "revocations",
        "rosters",
        "sessions",
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
        """The beginning of the names of JetStream streams."""
        self.published = f"{prefix}.p."
        self.kept = f"{prefix}.h."
        self.commands = f"{prefix}.c"
        self.canaries = f"{prefix}.y."
        self.peers = f"{prefix}.o."
        self.all_peers = f"{prefix}.a"
        self.records = f"{prefix}.r.>"
        self.heartbeats = f"{prefix}.r.n."
        self.sessions = f"{prefix}.r.s."
        self.lines = f"{prefix}.r.l."
        self.revocations = f"{prefix}.r.d."
        self.members = f"{prefix}.r.m."
        self.rosters = f"{prefix}.r.o."

    def passing(self, stream: str) -> str:
        """The subject of publications that are not kept."""
        return f"{self.published}{NOWHERE}.{token(stream)}"

    def to_keep(self, epoch: str, stream: str) -> str:
        """The subject of publications for the history of an epoch."""
        return f"{self.kept}{epoch}.{token(stream)}"

    def all_of(self, stream: str) -> str:
        """The subjects of all publications of a stream, kept or not."""
        return f"{self.published}*.{token(stream)}"

    def epoch_of(self, subject: bytes) -> str | None:
        """The epoch of the history that keeps a publication; None: it is not kept."""
        epoch = subject[len(self.published) :].partition(b".")[0].decode()
        return None if epoch == NOWHERE else epoch

    def session(self, node: str, sid: str) -> str:
        """The subject of a session of a node; ``node`` may be :data:`ANY`."""
        return f"{self.sessions}{node}.{token(sid)}"

    def lines_of(self, node: str, sid: str) -> str:
        """The subjects of the lines of a large session after the first; the number of the line is to be appended."""
        return f"{self.lines}{node}.{token(sid)}."

    def lines_beside(self, session: str) -> str:
        """The same, for the session on a subject."""
        return self.lines + session.removeprefix(self.sessions) + "."

    def revocation(self, identifiers: str) -> str:
        """The subject of the last remote disconnect of these identifiers."""
        return f"{self.revocations}{token(identifiers)}"

    def member(self, node: str, stream: str, member_id: str, sid: str | None = None) -> str:
        """The subject of a session of a member; without ``sid`` those of all sessions of the member."""
        return (
            f"{self.members}{node}.{token(stream)}.{token(member_id)}."
            f"{ANY if sid is None else token(sid)}"
        )

    def roster(self, stream: str, member_id: str) -> str:
        """The subject of the nodes at which a member has sessions."""
        return f"{self.rosters}{token(stream)}.{token(member_id)}"

    def rosters_of(self, stream: str) -> str:
        """The subjects of the same for all members of a stream."""
        return f"{self.rosters}{token(stream)}.*"

    def members_of(self, stream: str) -> str:
        """The subjects of all sessions of all members of a stream."""
        return f"{self.members}*.{token(stream)}.>"

    def session_on_all(self, sid: str) -> str:
        """The subjects of a session on all streams."""
        return f"{self.members}*.*.*.{token(sid)}"

    def node_of(self, subject: str) -> str:
        """The node of the record of a session or a member."""
        return subject[len(self.sessions) :].partition(".")[0]
