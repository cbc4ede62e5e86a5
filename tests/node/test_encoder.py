"""Which sessions share an encoder: those with the same codec and framing."""

from catenary.messages.names import Identifier
from catenary.messages.replies import Delivery
from catenary.node.encoder import Encoder, Encoders
from catenary.protocols.actioncable_json import ActionCableJson
from catenary.protocols.table import ACTION_CABLE_EXTENDED_JSON, ACTION_CABLE_JSON, ClientProtocol
from catenary.wire.framing import PREFIXED, WEBSOCKET_TEXT


def test_sessions_of_one_protocol_and_framing_share_an_encoder() -> None:
    encoders = Encoders()
    shared = encoders.encoder(ACTION_CABLE_JSON, WEBSOCKET_TEXT)
    assert encoders.encoder(ACTION_CABLE_JSON, WEBSOCKET_TEXT) is shared
    assert encoders.encoder(ACTION_CABLE_JSON, PREFIXED) is not shared


def test_protocols_that_write_the_same_bytes_share_one_too() -> None:
    """A publication is encoded once for clients of both."""
    encoders = Encoders()
    both = ACTION_CABLE_JSON, ACTION_CABLE_EXTENDED_JSON
    assert len({encoders.encoder(each, WEBSOCKET_TEXT) for each in both}) == 1


def test_a_protocol_with_state_has_an_encoder_for_each_session() -> None:
    encoders = Encoders()
    stateful = ClientProtocol(
        name="test", subprotocols=("x",), codec=ActionCableJson, has_state=True
    )
    first = encoders.encoder(stateful, WEBSOCKET_TEXT)
    assert encoders.encoder(stateful, WEBSOCKET_TEXT) is not first


class SilentCodec(ActionCableJson):
    """A codec without a message for publications of a type of their own."""

    def encode_delivery(self, delivery: Delivery) -> bytes | None:  # type: ignore[override]
        return None if delivery.kind else super().encode_delivery(delivery)


def test_a_publication_without_a_message_is_an_empty_batch() -> None:
    encoder = Encoder(SilentCodec(), WEBSOCKET_TEXT)
    assert encoder.encode_delivery(Delivery(Identifier("x"), b"1", "whisper")) == b""
    assert encoder.encode_delivery(Delivery(Identifier("x"), b"1")) != b""
