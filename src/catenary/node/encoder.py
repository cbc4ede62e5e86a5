"""How replies become the bytes that a transport sends.

One encoder serves every session that shares protocol and framing, so a publication is encoded once
for all of them. Knows: a client protocol and a framing. Does not know: sessions.
"""

from collections.abc import Callable

from catenary.messages.commands import Command
from catenary.messages.reasons import Reason
from catenary.messages.replies import Delivery, Ping, Reply
from catenary.ports import ClientProtocol, Goodbye


class Encoder:
    """A client protocol inside a framing, such as Action Cable's JSON in WebSocket text frames."""

    __slots__ = ("_frame", "_native_ping", "_protocol", "decode", "goodbye")

    def __init__(
        self,
        protocol: ClientProtocol,
        frame: Callable[[bytes], bytes],
        native_ping: bytes = b"",
    ) -> None:
        """``native_ping`` is the transport's own ping, empty where it has none."""
        self._protocol = protocol
        self._frame = frame
        self._native_ping = native_ping
        self.decode: Callable[[bytes], Command | None] = protocol.decode
        """See :meth:`catenary.ports.ClientProtocol.decode`."""
        self.goodbye: Callable[[Reason], Goodbye] = protocol.goodbye
        """See :meth:`catenary.ports.ClientProtocol.goodbye`."""

    def encode(self, reply: Reply) -> bytes | None:
        """One reply, ready to be written; None where this client has no word for it."""
        payload = self._protocol.encode(reply)
        return None if payload is None else self._frame(payload)

    def encode_transmission(self, text: str) -> bytes:
        """What the application has written itself, ready to be written."""
        return self._frame(self._protocol.encode_transmission(text))

    def encode_ping(self, timestamp: int, *, is_native: bool) -> bytes | None:
        """A heartbeat, and behind it, where that is wanted, the transport's own."""
        ping = self.encode(Ping(timestamp))
        return (ping or b"") + self._native_ping if is_native else ping

    def encode_delivery(self, delivery: Delivery) -> bytes:
        """A publication for one identifier, ready to be written to all who share it."""
        return self._frame(self._protocol.encode_delivery(delivery))
