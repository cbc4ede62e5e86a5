"""The state of one client: what is sent to it, and how it is closed."""

from collections.abc import Iterator

import pytest

from catenary.messages.commands import Command
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from catenary.messages.reasons import Reason
from catenary.messages.replies import Confirmed, Delivery, Disconnected, Ping, PresenceState, Reply
from catenary.node.encoder import Encoder
from catenary.node.session import Session
from catenary.ports import Goodbye
from catenary.protocols.actioncable_json import ActionCableJson
from catenary.wire.frames import text_frame
from catenary.wire.framing import WEBSOCKET_TEXT
from tests.parts.heart import MemoryOutbound


def a_session(encoder: Encoder | None = None) -> tuple[Session, MemoryOutbound]:
    outbound = MemoryOutbound()
    encoder = encoder or Encoder(ActionCableJson(), WEBSOCKET_TEXT)
    return Session(Environment(Sid("s"), "ws://test/", {}), encoder, outbound), outbound


def test_it_has_the_id_of_its_environment() -> None:
    session, _ = a_session()
    assert session.sid == "s"


def test_a_reply_is_encoded_and_framed() -> None:
    session, outbound = a_session()
    session.send(Ping(7))
    assert outbound.frames == [text_frame(b'{"type":"ping","message":7}')]


class Taciturn:
    """A protocol that has words for nothing but deliveries."""

    def decode(self, payload: bytes) -> Command | None:
        return None

    def encode(self, reply: Reply) -> bytes | None:
        return None

    def encode_pieces(self, reply: PresenceState) -> Iterator[bytes]:
        return iter(())

    def encode_transmission(self, text: str) -> bytes:
        return text.encode()

    def encode_delivery(self, delivery: Delivery) -> bytes:
        return delivery.message

    def goodbye(self, reason: Reason) -> Goodbye:
        return Goodbye(reason, 4001, "over")


def test_replies_without_a_message_in_the_protocol_are_not_sent() -> None:
    session, outbound = a_session(Encoder(Taciturn(), WEBSOCKET_TEXT))
    session.send(Confirmed(Identifier("x")))
    session.close(Reason.SERVER_RESTART)
    assert outbound.frames == []
    assert outbound.goodbye == Goodbye(Reason.SERVER_RESTART, 4001, "over")


@pytest.mark.parametrize("reason", list(Reason))
def test_the_protocol_says_why_where_it_has_a_word_then_how_to_close(reason: Reason) -> None:
    session, outbound = a_session()
    session.close(reason)
    said = session.encoder.encode(Disconnected(reason, reason.reconnect))
    assert outbound.frames == ([] if said is None else [said])
    assert outbound.goodbye == session.encoder.goodbye(reason)
    assert session.closed


@pytest.mark.parametrize("reconnect", [True, False])
def test_the_caller_of_close_may_decide_about_reconnecting(reconnect: bool) -> None:
    session, outbound = a_session()
    session.close(Reason.REMOTE, reconnect=reconnect)
    (said,) = outbound.heard
    assert said["reconnect"] is reconnect


def test_the_first_goodbye_counts() -> None:
    session, outbound = a_session()
    session.close(Reason.SLOW_CLIENT)
    session.close(Reason.SERVER_RESTART)
    assert [said["reason"] for said in outbound.heard] == ["too_slow"]
    assert outbound.ended_for is Reason.SLOW_CLIENT
