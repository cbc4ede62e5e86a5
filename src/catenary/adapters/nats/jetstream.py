"""JetStream as the options place it, and its replies: acknowledgements and errors.

Source: ADR-1 and ADR-2 of the NATS architecture; ``errors.json`` of nats-server; "JetStream" of its documentation.
Knows: JSON, codes. Does not know: connections.
"""

from typing import Any, Final

import msgspec

from catenary.config.options import NatsOptions
from catenary.errors import BackendError, BackendRefused, TooLarge

REPLICAS: Final = 3
"""In a cluster; one in a cluster that is too small."""

TAKEN: Final = (10058, 10065)
"""Another node has created it at the same moment: the name or the subjects are taken."""

GONE: Final = 10043
WRONG_SEQUENCE: Final = 10071
NOT_THERE: Final = 10059
TOO_SMALL: Final = (10005, 10023, 10052, 10074)
"""No peers, no resources, no cluster for so many replicas."""

BAD_REQUEST: Final = 400
"""The code of errors of the request; others (503) are of the state of the server."""
NO_ROOM: Final = (10002, 10023, 10027, 10028, 10047)
"""Limits of the account, of the server or of the disk are used up: there is room again when something is deleted."""
TOO_LARGE: Final = (10054, 10097)
"""A message, or its headers, are larger than the stream takes."""

NO_JETSTREAM: Final = (10035, 10039, 10076)
"""This account, or this server, has no JetStream."""


class JetStream(msgspec.Struct, frozen=True, kw_only=True):
    """Where JetStream is, and where its streams are placed.

    ``domain`` and ``api_prefix`` name another JetStream than that of the server and account of the connection; at most one
    of them is given. ``replicas`` is 0 for 3 in a cluster and 1 otherwise. ``cluster`` and ``tags`` choose servers for the
    streams.
    """

    domain: str = ""
    api_prefix: str = ""
    replicas: int = 0
    cluster: str = ""
    tags: tuple[str, ...] = ()

    @property
    def api(self) -> str:
        """The beginning of the subjects of requests to JetStream, without the dot after it."""
        if self.api_prefix:
            return self.api_prefix
        return f"$JS.{self.domain}.API" if self.domain else "$JS.API"

    @property
    def placement(self) -> dict[str, Any]:
        """The fields of the configuration of a stream: none if any server may have it."""
        chosen: dict[str, Any] = {"cluster": self.cluster} if self.cluster else {}
        if self.tags:
            chosen["tags"] = list(self.tags)
        return {"placement": chosen} if chosen else {}

    def replicas_to_try(self, *, in_cluster: bool) -> tuple[int, ...]:
        """The numbers of replicas of a new stream, the wanted one first."""
        if self.replicas:
            return (self.replicas,)
        return (REPLICAS, 1) if in_cluster else (1,)

    @property
    def missing(self) -> BackendError:
        """The error where nobody answers requests to JetStream."""
        if self.domain:
            return BackendError(
                f"no JetStream of the domain {self.domain} answers (nats_jetstream_domain)"
            )
        if self.api_prefix:
            return BackendError(
                f"no JetStream answers at {self.api_prefix} (nats_jetstream_api_prefix)"
            )
        return BackendError("JetStream does not answer: is it enabled?")


DEFAULT_JETSTREAM: Final = JetStream()
"""That of the server and account of the connection."""


def jetstream_by(options: NatsOptions) -> JetStream:
    """JetStream as the options describe it."""
    return JetStream(
        domain=options.jetstream_domain,
        api_prefix=options.jetstream_api_prefix,
        replicas=options.jetstream_replicas,
        cluster=options.jetstream_cluster,
        tags=options.jetstream_tags,
    )


class Stale(BackendError):
    """A record that was to be replaced has changed."""


class JetStreamError(msgspec.Struct, frozen=True):
    """An error; ``err_code`` is the more precise code."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class ApiReply(msgspec.Struct, frozen=True):
    """A reply to a request about a stream."""

    error: JetStreamError | None = None
    config: dict[str, Any] = {}
    ts: str = ""
    created: str = ""
    message: dict[str, Any] = {}

    @property
    def error_code(self) -> int:
        """0 for a reply that is no error."""
        return 0 if self.error is None else self.error.err_code or self.error.code

    @property
    def words(self) -> str:
        """The description of the error; empty without one."""
        return "" if self.error is None else self.error.description

    def check(self) -> None:
        """Raises :class:`BackendError` for an error."""
        if self.error is not None:
            raise _refusal(self.error)


class Ack(msgspec.Struct, frozen=True, gc=False):
    """The acknowledgement of a stored message, or the error."""

    stream: str = ""
    seq: int = 0
    error: JetStreamError | None = None


_read_reply: Final = msgspec.json.Decoder(ApiReply).decode
_read_ack: Final = msgspec.json.Decoder(Ack).decode


def read_reply(payload: bytes) -> ApiReply:
    """Reads a reply. Raises :class:`BackendError` for anything else."""
    try:
        return _read_reply(payload)
    except msgspec.DecodeError as error:
        raise BackendError(f"JetStream: {error}") from error


def read_ack(payload: bytes) -> Ack:
    """Reads an acknowledgement. Raises :class:`BackendError` where the message was not stored."""
    try:
        ack = _read_ack(payload)
    except msgspec.DecodeError as error:
        raise BackendError(f"JetStream: {error}") from error
    if ack.error is not None:
        raise _refusal(ack.error)
    return ack


def _refusal(error: JetStreamError) -> BackendError:
    """Returns the exception for an error of JetStream: a repetition of the request may help, or not."""
    kind: type[BackendError] = BackendError
    words = error.description
    if error.err_code == WRONG_SEQUENCE:
        kind = Stale
    elif error.err_code in TOO_LARGE:
        kind = TooLarge
    elif error.err_code in NO_JETSTREAM:
        words += " (enable it for the account of this user, or name its domain)"
    elif error.err_code in NO_ROOM:
        words += " (the storage or a limit of JetStream is used up)"
    elif error.code == BAD_REQUEST:
        kind = BackendRefused
    return kind(f"JetStream: {words}")
