"""Encodes replies as the bytes that a transport sends: a codec and a framing.

One encoder serves every session that shares protocol and framing, so that a publication is encoded once for all of
them. Knows: codecs and framings. Does not know: sessions.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final, cast

from catenary.messages.commands import CloseConnection, DirectReply
from catenary.messages.reasons import Reason
from catenary.messages.replies import Delivery, Ping, PresenceState, Reply
from catenary.node.observers import ObserverGroup
from catenary.ports import Codec, Decode, Goodbye, IntroducedCodec, Introduction
from catenary.protocols.table import ClientProtocol
from catenary.wire.framing import Framing, separated_framing

_NOBODY: Final = ObserverGroup()


class Encoder:
    """One codec in one framing, such as Action Cable's JSON in WebSocket text frames.

    What it returns can be joined: a batch of encoded messages is their concatenation.
    """

    __slots__ = (
        "_codec",
        "_frame_pieces",
        "decode",
        "frame",
        "goodbye",
        "native_ping",
        "observers",
    )

    def __init__(self, codec: Codec, framing: Framing, observers: ObserverGroup = _NOBODY) -> None:
        self._codec = codec
        self.observers = observers
        """Those of the node: sessions find them here, where they take no memory for each."""
        self._frame_pieces = framing.frame_pieces
        self.native_ping = framing.ping
        """The transport's own ping, which clients answer automatically; empty if the transport has none."""
        self.frame: Callable[[bytes], bytes] = framing.frame
        """Frames an encoded payload."""
        self.decode: Decode = codec.decode
        """See :meth:`catenary.ports.Codec.decode`."""
        self.goodbye: Callable[[Reason], Goodbye] = codec.goodbye
        """See :meth:`catenary.ports.Codec.goodbye`."""

    def introduce(self, payload: bytes) -> Introduction | tuple[DirectReply | CloseConnection, ...]:
        """See :meth:`catenary.ports.IntroducedCodec.introduce`. Only for protocols whose codec is one."""
        return cast("IntroducedCodec", self._codec).introduce(payload)

    def encode(self, reply: Reply) -> bytes | None:
        """Encodes and frames a reply; None if this protocol has no message for it."""
        payload = self._codec.encode(reply)
        return None if payload is None else self.frame(payload)

    def encode_slices(self, reply: PresenceState) -> Iterator[bytes]:
        """Encodes a reply that may be large: batches for :meth:`catenary.ports.Outbound.write_slices`, each encoded
        on demand. A small reply is one batch, the same as :meth:`encode` returns; no batch if this protocol has no
        message for it."""
        pieces = self._codec.encode_pieces(reply)
        first, second = next(pieces, None), next(pieces, None)
        if first is not None and second is None:
            yield self.frame(first)
        elif first is not None and second is not None:
            yield from self._frame_pieces(chain((first, second), pieces))

    def encode_transmission(self, text: str) -> bytes | None:
        """Encodes and frames a message that the application wrote itself; None if this protocol has no message
        for it."""
        payload = self._codec.encode_transmission(text)
        return None if payload is None else self.frame(payload)

    def encode_ping(self, timestamp: int, *, is_native: bool) -> bytes | None:
        """Encodes and frames a ping of the protocol, followed by the transport's own if ``is_native``."""
        ping = self.encode(Ping(timestamp))
        return (ping or b"") + self.native_ping if is_native else ping

    def encode_delivery(self, delivery: Delivery) -> bytes:
        """Encodes and frames a publication for one identifier, for all its subscribers that use this encoder. An empty
        batch if this protocol has no message for it."""
        payload = self._codec.encode_delivery(delivery)
        return b"" if payload is None else self.frame(payload)


class Encoders:
    """The encoders of one server: one for each pair of codec and framing, shared by all sessions that use it."""

    __slots__ = ("_observers", "_shared")

    def __init__(self, observers: ObserverGroup = _NOBODY) -> None:
        self._observers = observers
        self._shared: dict[tuple[Codec, Framing], Encoder] = {}

    def encoder(self, protocol: ClientProtocol, framing: Framing) -> Encoder:
        """The encoder for a new session: one of its own if the protocol keeps state for each session."""
        codec = protocol.codec()
        if protocol.has_state:
            if protocol.separator:
                framing = separated_framing(framing, protocol.separator)
            return Encoder(codec, framing, self._observers)
        encoder = self._shared.get((codec, framing))
        if encoder is None:
            encoder = Encoder(codec, framing, self._observers)
            self._shared[codec, framing] = encoder
        return encoder
