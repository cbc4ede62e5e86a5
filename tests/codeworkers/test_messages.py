"""Messages between a serving process and code workers: both ways, and cut anywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.channels.timers import DeclaredTimer
from catenary.codeworkers import messages as protocol
from catenary.codeworkers.messages import (
    Abandon,
    Answer,
    Counted,
    End,
    Frames,
    FromWorker,
    Published,
    Question,
    Ready,
    Taken,
    ToWorker,
    Unanswered,
)
from catenary.messages.decisions import Decision, PresenceCommand, Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.reasons import Reason
from catenary.messages.replies import (
    Confirmed,
    Delivery,
    Disconnected,
    Ping,
    Rejected,
    Reply,
    Welcome,
)

CHAT = Identifier('{"channel":"ChatChannel"}')
OTHER = Identifier('{"channel":"OtherChannel"}')

TO_WORKER: list[ToWorker] = [
    Abandon(7),
    Taken(2**40, ""),
    Taken(1, "Redis is away"),
    End(2.5),
    Question(1, 3, Sid("s"), "ws://x/", {"a": "b"}, "{}", None, None, CHAT, "{}", ()),
]
FROM_WORKER: list[FromWorker] = [
    Ready((DeclaredTimer("ChatChannel", "tick", 0.5),)),
    Unanswered(3),
    Published(4, b'{"stream":"s","data":"1"}'),
    Counted(1, 2, 3),
]

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
states = st.none() | st.dictionaries(text, text, min_size=1, max_size=2)
names = st.lists(text.map(Stream), max_size=2).map(tuple)
replies = st.one_of(
    st.builds(Delivery, text.map(Identifier), st.binary(max_size=8)),
    st.builds(Confirmed, text.map(Identifier)),
    st.builds(Rejected, text.map(Identifier)),
    st.builds(Welcome, text.map(Sid)),
    st.builds(Disconnected, st.sampled_from(Reason), st.booleans()),
)
decisions = st.builds(
    Decision,
    verdict=st.sampled_from(Verdict),
    identifiers=text,
    replies=st.lists(replies, max_size=3).map(tuple),
    transmissions=st.lists(text, max_size=2).map(tuple),
    streams=names,
    stopped_streams=names,
    stop_all_streams=st.booleans(),
    disconnect=st.booleans(),
    cstate=states,
    istate=states,
    whispers_to=st.none() | text.map(Stream),
    seen_on=st.none() | text.map(Stream),
    presence=st.none() | st.builds(PresenceCommand, st.sampled_from(["join", "leave"]), text),
    error=text,
    disconnect_wanted=st.none() | st.booleans(),
)


def written(*messages: ToWorker | FromWorker) -> bytes:
    out = bytearray()
    for message in messages:
        protocol.write(message, out)
    return bytes(out)


def read_answer(raw: bytes) -> Decision:
    (message,) = Frames().feed(raw)
    answer = protocol.read_from_worker(message)
    assert isinstance(answer, Answer)
    return answer.decision


@given(decisions)
def test_every_decision_arrives_as_it_was_taken(decision: Decision) -> None:
    assert read_answer(written(protocol.answer(1, decision))) == decision


@pytest.mark.parametrize(
    "reply", [Confirmed(CHAT), Delivery(CHAT, b"1"), Disconnected(Reason.UNAUTHORIZED, False)]
)
def test_a_decision_that_only_replies_is_short(reply: Reply) -> None:
    decision = Decision(replies=(reply,))
    raw = written(protocol.answer(1, decision))
    assert len(raw) < len(CHAT) + 30
    assert read_answer(raw) == decision


def test_what_no_application_says_is_not_written() -> None:
    with pytest.raises(ValueError, match="expected what applications say, got Ping"):
        protocol.answer(1, Decision(replies=(Ping(1),)))


@pytest.mark.parametrize("size", [1, 3, 7, 10_000])
def test_messages_are_cut_wherever_they_arrive_in_pieces(size: int) -> None:
    raw = written(*TO_WORKER)
    frames = Frames()
    heard = [
        protocol.read_to_worker(message)
        for at in range(0, len(raw), size)
        for message in frames.feed(raw[at : at + size])
    ]
    assert heard == TO_WORKER


def test_what_a_worker_says_is_read() -> None:
    heard = [protocol.read_from_worker(each) for each in Frames().feed(written(*FROM_WORKER))]
    assert heard == FROM_WORKER


def environment() -> Environment:
    istate = {CHAT: {"a": "1"}, OTHER: {"b": "2"}}
    return Environment(Sid("s"), "ws://x/?a=1", {"cookie": "c"}, '{"id":1}', {"k": "v"}, istate)


def asked(question: Question) -> Question:
    (message,) = Frames().feed(written(question))
    heard = protocol.read_to_worker(message)
    assert isinstance(heard, Question)
    return heard


def test_a_command_takes_the_state_of_its_own_subscription_along() -> None:
    own = environment()
    heard = asked(
        protocol.question(9, protocol.PERFORM, own, CHAT, data='{"x":1}', subscriptions=())
    )
    assert (heard.id, heard.kind, heard.identifier, heard.data) == (9, 3, CHAT, '{"x":1}')
    expected = environment()
    expected.forget_istate(OTHER)
    assert heard.environment == expected
    assert own == environment()


def test_the_end_of_a_session_takes_all_states_along() -> None:
    nobody = Identifier("")
    heard = asked(
        protocol.question(
            9, protocol.DISCONNECT, environment(), nobody, data="", subscriptions=(CHAT, OTHER)
        )
    )
    assert heard.environment == environment()
    assert heard.subscriptions == (CHAT, OTHER)


def test_text_that_is_no_unicode_is_refused_and_costs_its_neighbours_nothing() -> None:
    out = bytearray()
    protocol.write(TO_WORKER[0], out)
    with pytest.raises(ValueError, match="surrogates"):
        protocol.write(Taken(1, "\ud800" * 100), out)
    protocol.write(TO_WORKER[1], out)
    assert bytes(out) == written(*TO_WORKER[:2])
