"""The table of client protocols, one value each.

Knows: subprotocols, the capabilities of each protocol's clients. Does not know: frames, paths, sessions.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from catenary.errors import RequestRefused
from catenary.messages.environment import Environment
from catenary.ports import Codec, Decode
from catenary.protocols import actioncable_json, actioncable_msgpack, actioncable_protobuf
from catenary.protocols.actioncable_json import ActionCableJson
from catenary.protocols.actioncable_msgpack import ActionCableMessagePack
from catenary.protocols.actioncable_protobuf import ActionCableProtobuf


class ClientProtocol(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """One client protocol.

    ``name`` is for logs, ``subprotocols`` are its names in Sec-WebSocket-Protocol. ``codec`` returns the codec of a session: with ``has_state``
    a new one for each session, else always the same one. ``is_binary``: payloads are not text in UTF-8.
    ``reader``, if given, returns what reads the messages of one session instead of the codec: it may know the client and
    keep state, while the codec that encodes remains shared, and with it each frame of a publication.
    ``is_resumable``: clients can resume a session on another connection. ``answers_pings``: clients answer each ping.
    ``separator``, unless empty, divides several messages that the codec of a protocol with state writes at once.
    """

    name: str
    subprotocols: tuple[str, ...]
    codec: Callable[[], Codec]
    has_state: bool = False
    reader: Callable[[Environment], Decode] | None = None
    is_binary: bool = False
    is_resumable: bool = False
    answers_pings: bool = False
    separator: bytes = b""


class ProtocolSet:
    """The protocols of one endpoint, in the order in which the server prefers them."""

    __slots__ = ("_by_name", "_fallback")

    def __init__(
        self, protocols: Sequence[ClientProtocol], *, fallback: ClientProtocol | None = None
    ) -> None:
        """``fallback`` is used for clients that offer none of these; without it they are refused."""
        self._by_name = {name: each for each in protocols for name in each.subprotocols}
        self._fallback = fallback

    def choose(self, offered: Sequence[str]) -> tuple[ClientProtocol, str | None]:
        """The protocol for a client that offers these subprotocols, and the subprotocol to confirm, if any.

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

ACTION_CABLE_JSON: Final = ClientProtocol(
    name=actioncable_json.SUBPROTOCOL, subprotocols=(actioncable_json.SUBPROTOCOL,), codec=_json
)

ACTION_CABLE_EXTENDED_JSON: Final = ClientProtocol(
    name=actioncable_json.EXTENDED,
    subprotocols=(actioncable_json.EXTENDED,),
    codec=_json,
    is_resumable=True,
    answers_pings=True,
)

ACTION_CABLE_MESSAGE_PACK: Final = ClientProtocol(
    name=actioncable_msgpack.SUBPROTOCOL,
    subprotocols=(actioncable_msgpack.SUBPROTOCOL,),
    codec=_message_pack,
    is_binary=True,
)

ACTION_CABLE_EXTENDED_MESSAGE_PACK: Final = ClientProtocol(
    name=actioncable_msgpack.EXTENDED,
    subprotocols=(actioncable_msgpack.EXTENDED,),
    codec=_message_pack,
    is_binary=True,
    is_resumable=True,
    answers_pings=True,
)

ACTION_CABLE_PROTOBUF: Final = ClientProtocol(
    name=actioncable_protobuf.SUBPROTOCOL,
    subprotocols=(actioncable_protobuf.SUBPROTOCOL,),
    codec=_shared(ActionCableProtobuf(is_extended=False)),
    is_binary=True,
)

ACTION_CABLE_EXTENDED_PROTOBUF: Final = ClientProtocol(
    name=actioncable_protobuf.EXTENDED,
    subprotocols=(actioncable_protobuf.EXTENDED,),
    codec=_shared(ActionCableProtobuf(is_extended=True)),
    is_binary=True,
    is_resumable=True,
    answers_pings=True,
)

ACTION_CABLE_UNSUPPORTED: Final = ClientProtocol(
    name=actioncable_json.UNSUPPORTED, subprotocols=(actioncable_json.UNSUPPORTED,), codec=_json
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
"""The protocols of cable paths, in the order of anycable-go, and with its fallback: a client that offers no known
subprotocol is served, too."""
