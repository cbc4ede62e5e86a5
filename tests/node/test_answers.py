"""What a crowd has missed is encoded once, and means the same as if each had been told alone."""

import json
from typing import Any

import pytest

from catenary.messages.names import Identifier, Stream
from catenary.messages.publications import Position, Publication
from catenary.messages.replies import Delivery
from catenary.node import answers
from catenary.node.answers import Answer, Answers
from catenary.node.encoder import Encoder
from catenary.protocols.actioncable import ActionCableJson
from catenary.wire.framing import WEBSOCKET_TEXT, Framing
from tests.parts.heart import payloads

ROOM = Identifier("room")
CONFIRMATION = {"type": "confirm_history", "identifier": ROOM}


class CountingProtocol(ActionCableJson):
    """Counts the messages that it has encoded."""

    def __init__(self) -> None:
        self.encoded = 0

    def encode_delivery(self, delivery: Delivery) -> bytes:
        self.encoded += 1
        return super().encode_delivery(delivery)


class Crowd:
    """Asks for answers, and counts what that costs."""

    def __init__(self) -> None:
        self.answers = Answers()
        self.protocol = CountingProtocol()
        self.encoder = Encoder(self.protocol, WEBSOCKET_TEXT)

    def ask(self, *found: tuple[Publication, ...], identifier: Identifier = ROOM) -> Answer:
        return self.answers.answer(self.encoder, identifier, found)


def history(stream: str, *offsets: int, epoch: str = "e") -> tuple[Publication, ...]:
    return tuple(
        Publication(Stream(stream), str(offset), position=Position(epoch, offset))
        for offset in offsets
    )


def said(answer: Answer) -> list[Any]:
    return [json.loads(text) for text in payloads(answer.row)]


def test_all_that_was_missed_and_the_confirmation_are_one_row() -> None:
    answer = Crowd().ask(history("a", 7, 8), history("b", 3))
    assert [each.get("message") for each in said(answer)] == [7, 8, 3, None]
    assert said(answer)[-1] == CONFIRMATION
    assert answer.messages == 3


def test_who_has_missed_nothing_gets_the_confirmation_alone() -> None:
    assert said(Crowd().ask((), ())) == [CONFIRMATION]


def test_one_answer_is_encoded_for_all_who_missed_the_same() -> None:
    crowd = Crowd()
    first = crowd.ask(history("a", 1, 2))
    assert crowd.ask(history("a", 1, 2)) is first
    assert crowd.protocol.encoded == 2


@pytest.mark.parametrize(
    "other",
    [history("a", 2), history("a", 1, 2, 3), history("b", 1, 2), history("a", 1, 2, epoch="f"), ()],
)
def test_who_missed_something_else_gets_something_else(other: tuple[Publication, ...]) -> None:
    crowd = Crowd()
    crowd.ask(history("a", 1, 2))
    assert [each.get("offset") for each in said(crowd.ask(other))][:-1] == [
        each.position.offset for each in other if each.position is not None
    ]


def test_other_identifiers_and_encoders_have_answers_of_their_own() -> None:
    crowd = Crowd()
    crowd.ask(history("a", 1))
    elsewhere = crowd.ask(history("a", 1), identifier=Identifier("elsewhere"))
    assert {each["identifier"] for each in said(elsewhere)} == {"elsewhere"}
    crowd.encoder = Encoder(crowd.protocol, Framing(lambda payload: b"<" + payload))
    assert crowd.ask(history("a", 1)).row.startswith(b"<")


def test_an_answer_is_forgotten_with_the_next_tick() -> None:
    crowd = Crowd()
    crowd.ask(history("a", 1))
    crowd.answers.forget()
    crowd.ask(history("a", 1))
    assert crowd.protocol.encoded == 2


def test_what_is_kept_makes_room_and_never_is_more_than_its_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crowd = Crowd()
    monkeypatch.setattr(answers, "KEPT_BYTES", 3 * answers.ANSWER_BYTES)
    for number in range(10):
        crowd.ask(history("a", number))
        assert 1 <= len(crowd.answers._kept) <= 2


def test_an_answer_that_is_too_large_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = Crowd()
    monkeypatch.setattr(answers, "KEPT_BYTES", answers.ANSWER_BYTES)
    assert crowd.ask(history("a", 1)).messages == 1
    assert not crowd.answers._kept
