"""Streams that an identifier grants without a call to the application.

Source: docs/signed_streams.md and streams/controller.go (anycable). Each of three channels names its stream in
its own params. Knows: identifiers, signatures. Does not know: sessions, decisions.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from catenary.auth.signatures import Signatures
from catenary.messages.lenient_json import reader
from catenary.messages.names import RESERVED, Identifier, Stream


class Grant(msgspec.Struct, frozen=True, gc=False):
    """A stream that the client may receive, and whether it may whisper and be present there."""

    stream: Stream
    whisper: bool = False
    presence: bool = False


Resolve = Callable[[Identifier], Grant | None]
"""Returns the grant of an identifier; None if it grants nothing."""


Reserved = Callable[[Stream], bool]
"""Whether a stream is never public, because another protocol requires a signature for it."""


def nothing_reserved(stream: Stream) -> bool:
    """Every stream may be public."""
    return False


def _may_be_public(stream: Stream, reserved: Reserved) -> bool:
    """Whether anybody may use this stream where streams are public: not if it is reserved, or a node's own."""
    return bool(stream) and stream[0] != RESERVED and not reserved(stream)


class _PubSub(msgspec.Struct, gc=False):
    stream_name: str | None = None
    signed_stream_name: str | None = None


class _Turbo(msgspec.Struct, gc=False):
    signed_stream_name: str


class _CableReady(msgspec.Struct, gc=False):
    identifier: str


_read_pubsub: Final = reader(_PubSub)
_read_turbo: Final = reader(_Turbo)
_read_cable_ready: Final = reader(_CableReady)


class PubSubStreams:
    """The channel ``$pubsub``: signed names, and plain names if streams are public.

    Public streams allow whispers and presence; ``whisper`` and ``presence`` are for signed streams. If both names are
    given, the signed one is used. Without ``signatures``, signed names are refused. ``reserved`` streams are not public.
    """

    __slots__ = ("_is_public", "_presence", "_reserved", "_signatures", "_whisper")

    def __init__(
        self,
        signatures: Signatures | None,
        *,
        is_public: bool,
        whisper: bool,
        presence: bool,
        reserved: Reserved = nothing_reserved,
    ) -> None:
        self._signatures = signatures
        self._is_public = is_public
        self._reserved = reserved
        self._whisper = whisper
        self._presence = presence

    def __call__(self, identifier: Identifier) -> Grant | None:
        try:
            params = _read_pubsub(identifier)
        except msgspec.DecodeError:
            return None
        if params.signed_stream_name:
            if self._signatures is None:
                return None
            name = self._signatures.verified(params.signed_stream_name)
            return Grant(Stream(name), self._whisper, self._presence) if name else None
        stream = Stream(params.stream_name or "")
        if not self._is_public or not _may_be_public(stream, self._reserved):
            return None
        return Grant(stream, whisper=True, presence=True)


class TurboStreams:
    """Turbo's channel, ``Turbo::StreamsChannel``."""

    __slots__ = ("_signatures",)

    def __init__(self, signatures: Signatures) -> None:
        self._signatures = signatures

    def __call__(self, identifier: Identifier) -> Grant | None:
        try:
            signed = _read_turbo(identifier).signed_stream_name
        except msgspec.DecodeError:
            return None
        stream = self._signatures.verified(signed)
        return Grant(Stream(stream)) if stream else None


class CableReadyStreams:
    """CableReady's channel, ``CableReady::Stream``."""

    __slots__ = ("_signatures",)

    def __init__(self, signatures: Signatures) -> None:
        self._signatures = signatures

    def __call__(self, identifier: Identifier) -> Grant | None:
        try:
            signed = _read_cable_ready(identifier).identifier
        except msgspec.DecodeError:
            return None
        stream = self._signatures.verified(signed)
        return Grant(Stream(stream)) if stream else None


class StreamNames:
    """Streams that a client names beside a signature, as in a URL: opened by a signature of that very name, or by the name
    alone if streams are public.

    A signature of another name opens nothing. Without ``signatures``, none is accepted. ``reserved`` streams are not public.
    """

    __slots__ = ("_is_public", "_reserved", "_signatures")

    def __init__(
        self,
        signatures: Signatures | None,
        *,
        is_public: bool,
        reserved: Reserved = nothing_reserved,
    ) -> None:
        self._signatures = signatures
        self._is_public = is_public
        self._reserved = reserved

    def opens(self, stream: Stream, signed: str) -> bool:
        """Whether the client may use the stream; ``signed`` is empty if there is no signature."""
        if not signed:
            return self._is_public and _may_be_public(stream, self._reserved)
        return self._signatures is not None and self._signatures.verified(signed) == stream
