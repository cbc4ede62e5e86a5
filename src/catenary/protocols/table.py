"""The client protocols that this server speaks: one value each.

Knows: names of subprotocols, what each protocol's clients are capable of. Does not know: frames, paths, sessions.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from catenary.errors import RequestRefused
from catenary.ports import Codec
from catenary.protocols import actioncable_json, actioncable_msgpack, actioncable_protobuf
from catenary.protocols.actioncable_json import ActionCableJson
from catenary.protocols.actioncable_msgpack import ActionCableMessagePack
from catenary.protocols.actioncable_protobuf import ActionCableProtobuf


class ClientProtocol(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """One protocol that clients speak.

    ``subprotocols`` are its names in Sec-WebSocket-Protocol. ``codec`` returns the codec of a session:
    always the same one, unless ``has_state``; then a new one for each session. Payloads that are not
    text in UTF-8 are ``is_binary``. ``is_resumable`` clients can resume a session on another
    connection, ``answers_pings`` says that they answer each ping.
    """

    subprotocols: tuple[str, ...]
    codec: Callable[[], Codec]
    has_state: bool = False
    is_binary: bool = False
    is_resumable: bool = False
    answers_pings: bool = False


class ProtocolSet:
    """The protocols of one endpoint, in the order in which the server prefers them."""

    __slots__ = ("_by_name", "_fallback")

    def __init__(
        self, protocols: Sequence[ClientProtocol], *, fallback: ClientProtocol | None = None
    ) -> None:
        """``fallback`` is spoken with clients that offer none of these; without it they are refused."""
        self._by_name = {name: each for each in protocols for name in each.subprotocols}
        self._fallback = fallback

    def choose(self, offered: Sequence[str]) -> tuple[ClientProtocol, str | None]:
        """The protocol for a client that offers these subprotocols, and the one to confirm, if any.

        Raises :class:`RequestRefused` with 400 if there is none.
        """
        for name, protocol in self._by_name.items():
            if name in offered:
                return protocol, name
        if self._fallback is None:
            names = ", ".join(self._by_name)
            raise RequestRefused(400, f"expected Sec-WebSocket-Protocol with one of: {names}")
        return self._fallback, None


def _shared(codec: Codec) -> Callable[[], Codec]:
    """For a codec without state."""
    return lambda: codec


_json: Final = _shared(ActionCableJson())
_message_pack: Final = _shared(ActionCableMessagePack())

ACTION_CABLE_JSON: Final = ClientProtocol(subprotocols=(actioncable_json.SUBPROTOCOL,), codec=_json)

ACTION_CABLE_EXTENDED_JSON: Final = ClientProtocol(
    subprotocols=(actioncable_json.EXTENDED,), codec=_json, is_resumable=True, answers_pings=True
)

ACTION_CABLE_MESSAGE_PACK: Final = ClientProtocol(
    subprotocols=(actioncable_msgpack.SUBPROTOCOL,), codec=_message_pack, is_binary=True
)

ACTION_CABLE_EXTENDED_MESSAGE_PACK: Final = ClientProtocol(
    subprotocols=(actioncable_msgpack.EXTENDED,),
    codec=_message_pack,
    is_binary=True,
    is_resumable=True,
    answers_pings=True,
)

ACTION_CABLE_PROTOBUF: Final = ClientProtocol(
    subprotocols=(actioncable_protobuf.SUBPROTOCOL,),
    codec=_shared(ActionCableProtobuf(is_extended=False)),
    is_binary=True,
)

ACTION_CABLE_EXTENDED_PROTOBUF: Final = ClientProtocol(
    subprotocols=(actioncable_protobuf.EXTENDED,),
    codec=_shared(ActionCableProtobuf(is_extended=True)),
    is_binary=True,
    is_resumable=True,
    answers_pings=True,
)

ACTION_CABLE_UNSUPPORTED: Final = ClientProtocol(
    subprotocols=(actioncable_json.UNSUPPORTED,), codec=_json
)
"""Clients offer this name last and close the connection if the server confirms it."""

ACTION_CABLE: Final = ProtocolSet(
    (
        ACTION_CABLE_JSON,
        ACTION_CABLE_EXTENDED_JSON,
        ACTION_CABLE_MESSAGE_PACK,
        ACTION_CABLE_EXTENDED_MESSAGE_PACK,
        ACTION_CABLE_PROTOBUF,
        ACTION_CABLE_EXTENDED_PROTOBUF,
        ACTION_CABLE_UNSUPPORTED,
    ),
    fallback=ACTION_CABLE_JSON,
)
"""What a cable path speaks. The order is that of anycable-go, and so is the fallback: a client that offers nothing
known is served all the same."""
