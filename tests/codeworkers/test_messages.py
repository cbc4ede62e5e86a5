"""Messages between a serving process and code workers: in both directions, in pieces of any size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.channels.timers import DeclaredTimer
from catenary.codeworkers import messages as protocol
from catenary.codeworkers.messages import (
    CallCancelled,
    CallRequest,
    CallResult,
    CancelCall,
    CounterDeltas,
    FromWorker,
    MessageSplitter,
    PublicationResult,
    PublishRequest,
    Ready,
    StopWorker,
    ToWorker,
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
    CancelCall(7),
    PublicationResult(2**40, ""),
    PublicationResult(1, "Redis is away"),
    StopWorker(2.5),
    CallRequest(1, 3, Sid("s"), "ws://x/", {"a": "b"}, "{}", None, None, CHAT, "{}", (), ""),
]
FROM_WORKER: list[FromWorker] = [
    Ready((DeclaredTimer("ChatChannel", "tick", 0.5),)),
    CallCancelled(3),
    PublishRequest(4, b'{"stream":"s","data":"1"}'),
    PublishRequest(4, b'{"stream":"s","data":"1"}', "00-1-2-01 a=b"),
    CounterDeltas(1, 2, 3),
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
    whisper_stream=st.none() | text.map(Stream),
    presence_stream=st.none() | text.map(Stream),
    presence=st.none() | st.builds(PresenceCommand, st.sampled_from(["join", "leave"]), text),
    error=text,
    disconnect_wanted=st.none() | st.booleans(),
)


def written(*messages: ToWorker | FromWorker) -> bytes:
    out = bytearray()
    for message in messages:
        protocol.write(message, out)
    return bytes(out)


def read_decision(raw: bytes) -> Decision:
    (message,) = MessageSplitter().feed(raw)
    result = protocol.read_from_worker(message)
    assert isinstance(result, CallResult)
    return result.decision


@given(decisions)
def test_every_decision_arrives_unchanged(decision: Decision) -> None:
    assert read_decision(written(protocol.call_result(1, decision))) == decision


@pytest.mark.parametrize(
    "reply", [Confirmed(CHAT), Delivery(CHAT, b"1"), Disconnected(Reason.UNAUTHORIZED, False)]
)
def test_a_decision_that_only_replies_is_short(reply: Reply) -> None:
    decision = Decision(replies=(reply,))
    raw = written(protocol.call_result(1, decision))
    assert len(raw) < len(CHAT) + 30
    assert read_decision(raw) == decision


def test_a_reply_that_applications_do_not_send_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a reply of an application, got Ping"):
        protocol.call_result(1, Decision(replies=(Ping(1),)))


@pytest.mark.parametrize("size", [1, 3, 7, 10_000])
def test_messages_are_split_whatever_the_size_of_the_pieces(size: int) -> None:
    raw = written(*TO_WORKER)
    splitter = MessageSplitter()
    received = [
        protocol.read_to_worker(message)
        for at in range(0, len(raw), size)
        for message in splitter.feed(raw[at : at + size])
    ]
    assert received == TO_WORKER


def test_messages_of_a_worker_are_read() -> None:
    received = [
        protocol.read_from_worker(each) for each in MessageSplitter().feed(written(*FROM_WORKER))
    ]
    assert received == FROM_WORKER


def environment() -> Environment:
    istate = {CHAT: {"a": "1"}, OTHER: {"b": "2"}}
    return Environment(Sid("s"), "ws://x/?a=1", {"cookie": "c"}, '{"id":1}', {"k": "v"}, istate)


def sent(request: CallRequest) -> CallRequest:
    (message,) = MessageSplitter().feed(written(request))
    received = protocol.read_to_worker(message)
    assert isinstance(received, CallRequest)
    return received


def test_a_command_carries_the_state_of_its_own_subscription_only() -> None:
    own = environment()
    received = sent(
        protocol.call_request(9, protocol.PERFORM, own, CHAT, data='{"x":1}', subscriptions=())
    )
    assert (received.id, received.kind, received.identifier, received.data) == (
        9,
        3,
        CHAT,
        '{"x":1}',
    )
    expected = environment()
    expected.forget_istate(OTHER)
    assert received.environment == expected
    assert own == environment()


def test_the_end_of_a_session_carries_all_states() -> None:
    none = Identifier("")
    received = sent(
        protocol.call_request(
            9, protocol.DISCONNECT, environment(), none, data="", subscriptions=(CHAT, OTHER)
        )
    )
    assert received.environment == environment()
    assert received.subscriptions == (CHAT, OTHER)


def test_text_that_is_not_unicode_is_refused_and_other_messages_are_kept() -> None:
    out = bytearray()
    protocol.write(TO_WORKER[0], out)
    with pytest.raises(ValueError, match="surrogates"):
        protocol.write(PublicationResult(1, "\ud800" * 100), out)
    protocol.write(TO_WORKER[1], out)
    assert bytes(out) == written(*TO_WORKER[:2])
