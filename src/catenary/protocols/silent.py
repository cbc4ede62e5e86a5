"""The protocol of clients that receive no messages of a session: a transport answers their requests itself.

Their session exists so that the application admits them, and so that a remote disconnect can end them. Knows: nothing.
"""

from collections.abc import Iterator
from typing import Final

from catenary.errors import CommandError
from catenary.messages.commands import Command
from catenary.messages.reasons import Reason
from catenary.messages.replies import Delivery, PresenceState, Reply
from catenary.ports import Goodbye
from catenary.protocols.table import ClientProtocol


class SilentCodec:
    """Satisfies :class:`catenary.ports.Codec`: no reply has a message."""

    __slots__ = ()

    def decode(self, payload: bytes) -> Command | None:
        """Raises :class:`CommandError`: these clients send no messages."""
        raise CommandError("expected no message")

    def encode(self, reply: Reply) -> bytes | None:
        """None."""
        return None

    def encode_pieces(self, reply: PresenceState) -> Iterator[bytes]:
        """No pieces."""
        return iter(())

    def encode_transmission(self, text: str) -> bytes | None:
        """None."""
        return None

    def encode_delivery(self, delivery: Delivery) -> bytes:
        """Empty: these sessions have no subscriptions."""
        return b""

    def goodbye(self, reason: Reason) -> Goodbye:
        """The transport derives a status from the reason."""
        return Goodbye(reason, 1000, reason.description)


_codec: Final = SilentCodec()

SILENT: Final = ClientProtocol(name="durable-streams", subprotocols=(), codec=lambda: _codec)
