"""Answers to requests for history: encoded once, and equal to what each client alone would receive."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from catenary.messages.names import Identifier, Stream
from catenary.messages.publications import Position, Publication
from catenary.messages.replies import Delivery
from catenary.node import answers
from catenary.node.answers import Answers, FrameBatch
from catenary.node.encoder import Encoder
from catenary.ports import SLICE_BYTES
from catenary.protocols.actioncable_json import ActionCableJson
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

    def ask(self, *found: tuple[Publication, ...], identifier: Identifier = ROOM) -> FrameBatch:
        answer = self.answers.answer(self.encoder, identifier, found)
        assert isinstance(answer, FrameBatch)
        return answer

    def ask_for_much(self, *found: tuple[Publication, ...]) -> Iterator[FrameBatch]:
        answer = self.answers.answer(self.encoder, ROOM, found)
        assert not isinstance(answer, FrameBatch)
        return answer


def history(stream: str, *offsets: int, epoch: str = "e") -> tuple[Publication, ...]:
    return tuple(
        Publication(Stream(stream), str(offset), position=Position(epoch, offset))
        for offset in offsets
    )


def said(answer: FrameBatch) -> list[Any]:
    return [json.loads(text) for text in payloads(answer.row)]


def test_all_that_was_missed_and_the_confirmation_are_one_row() -> None:
    answer = Crowd().ask(history("a", 7, 8), history("b", 3))
    assert [each.get("message") for each in said(answer)] == [7, 8, 3, None]
    assert said(answer)[-1] == CONFIRMATION
    assert answer.messages == 3


def test_a_client_that_missed_nothing_gets_only_the_confirmation() -> None:
    assert said(Crowd().ask((), ())) == [CONFIRMATION]


def test_an_answer_is_encoded_once_for_clients_that_missed_the_same_messages() -> None:
    crowd = Crowd()
    first = crowd.ask(history("a", 1, 2))
    assert crowd.ask(history("a", 1, 2)) is first
    assert crowd.protocol.encoded == 2


@pytest.mark.parametrize(
    "other",
    [history("a", 2), history("a", 1, 2, 3), history("b", 1, 2), history("a", 1, 2, epoch="f"), ()],
)
def test_a_client_that_missed_other_messages_gets_another_answer(
    other: tuple[Publication, ...],
) -> None:
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
    crowd.encoder = Encoder(crowd.protocol, Framing(lambda payload: b"<" + payload, iter))
    assert crowd.ask(history("a", 1)).row.startswith(b"<")


def test_an_answer_is_forgotten_with_the_next_tick() -> None:
    crowd = Crowd()
    crowd.ask(history("a", 1))
    crowd.answers.forget()
    crowd.ask(history("a", 1))
    assert crowd.protocol.encoded == 2


def test_the_oldest_answers_are_removed_beyond_the_limit(
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


# More than a slice


def long_history(
    stream: str, *offsets: int, size: int = SLICE_BYTES // 4
) -> tuple[Publication, ...]:
    return tuple(
        msgspec.structs.replace(each, data=json.dumps(f"{each.data} {'x' * size}"))
        for each in history(stream, *offsets)
    )


def numbers(answer: FrameBatch) -> list[int]:
    return [int(each["message"].split()[0]) for each in said(answer) if "message" in each]


def test_a_large_answer_is_encoded_slice_by_slice_on_demand() -> None:
    crowd = Crowd()
    answer = crowd.ask_for_much(long_history("a", *range(1, 8)), long_history("b", *range(8, 11)))
    slices = []
    for each in answer:
        slices.append(each)
        assert crowd.protocol.encoded <= sum(one.messages for one in slices) + 4
    assert [number for each in slices for number in numbers(each)] == list(range(1, 11))
    assert all(len(each.row) < 2 * SLICE_BYTES for each in slices)
    assert sum(each.messages for each in slices) == 10
    confirmations = [one for each in slices for one in said(each) if one.get("type")]
    assert confirmations == [CONFIRMATION]
    assert said(slices[-1])[-1] == CONFIRMATION


def test_many_short_messages_are_more_than_a_slice() -> None:
    slices = list(Crowd().ask_for_much(history("a", *range(1, 1001))))
    assert [each.messages for each in slices if each.messages > 150] == []
    assert sum(each.messages for each in slices) == 1000


def test_a_message_that_is_larger_than_a_slice_is_one() -> None:
    answer = Crowd().ask(long_history("a", 1, size=10 * SLICE_BYTES))
    assert (answer.messages, said(answer)[-1]) == (1, CONFIRMATION)


def test_slices_are_encoded_once_for_requests_at_about_the_same_time() -> None:
    crowd = Crowd()
    missed = long_history("a", *range(1, 100))
    answers_of_all = [crowd.ask_for_much(missed) for _ in range(5)]
    rows = list(zip(*answers_of_all, strict=True))
    assert all(each is first for first, *others in rows for each in others)
    assert crowd.protocol.encoded == len(missed)


def test_the_oldest_slices_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "KEPT_BYTES", 4 * SLICE_BYTES)
    crowd = Crowd()
    missed = long_history("a", *range(1, 100))
    first = crowd.ask_for_much(missed)
    second = crowd.ask_for_much(missed)
    next(first)
    for one, other in zip(first, second, strict=False):
        assert one is not other
        assert crowd.answers._size_bytes <= 4 * SLICE_BYTES
    assert crowd.protocol.encoded < 1.2 * len(missed)
