"""The extended protocol: history, sessions that are resumed, whispers, presence, pongs.

Source: docs/misc/action_cable_protocol.md of docs.anycable.io; docs/reliable_streams.md,
docs/presence.md (anycable).
"""

import json
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.conftest import StartServer
from tests.parts.cable_client import (
    PONG,
    CableClient,
    confirmed,
    delivered,
    identifier,
)
from tests.parts.conformance_app import ChannelAnswer, ConformanceApp, ConnectAnswer
from tests.parts.raw_socket import RawSocket
from tests.parts.server import CableServer

EXTENDED = ("actioncable-v1-ext-json",)
HISTORY_LIMIT = 5
PRESENCE_TTL_S = 1

Message = dict[str, Any]


@pytest.fixture(scope="module")
def public(start_server: StartServer) -> Iterator[CableServer]:
    """Without an application; every stream may be whispered to, and be present on."""
    with start_server(
        *("--public", "--norpc", "--broadcast_adapter=http", "--broker=memory"),
        f"--history_limit={HISTORY_LIMIT}",
        f"--presence_ttl={PRESENCE_TTL_S}",
        "--ping_interval=1",
    ) as server:
        yield server


@pytest.fixture(scope="module")
def behind(start_server: StartServer, app: ConformanceApp) -> Iterator[CableServer]:
    """With an application that is notified of the end of sessions a second later."""
    with start_server(
        *(f"--rpc_host={app.host}", "--broadcast_adapter=http", "--broker=memory"),
        "--sessions_ttl=1",
    ) as server:
        yield server


@pytest.fixture
def one(public: CableServer) -> Iterator[CableClient]:
    client, _ = welcomed(public)
    with client:
        yield client


@pytest.fixture
def two(public: CableServer) -> Iterator[CableClient]:
    client, _ = welcomed(public)
    with client:
        yield client


def welcomed(server: CableServer, query: str = "", **options: Any) -> tuple[CableClient, Message]:
    client = CableClient(f"{server.cable_url}?{query}", subprotocols=EXTENDED, **options)
    return client, client.receive_welcome()


def publish(server: CableServer, stream: str, *messages: object, **meta: object) -> None:
    """Publishes one after the other, each answered before the next is sent."""
    for message in messages:
        publication = {"stream": stream, "data": json.dumps(message), "meta": meta}
        body = json.dumps(publication).encode()
        urllib.request.urlopen(server.broadcast_url, body, timeout=5).close()


def pubsub(stream: str) -> str:
    return identifier("$pubsub", stream_name=stream)


def position(message: Message, offset: int = 0) -> Message:
    """The position of a message, or one that many offsets away."""
    return {"epoch": message["epoch"], "offset": message["offset"] + offset}


def published(server: CableServer, stream: str, count: int) -> Message:
    """Publishes 1 to ``count``, and returns the last message as a subscriber received it."""
    client, _ = welcomed(server)
    with client:
        client.subscribe(pubsub(stream))
        publish(server, stream, *range(1, count + 1))
        return [client.receive() for _ in range(count)][-1]


def replayed(client: CableClient, name: str) -> list[object]:
    """The messages that come until the history is confirmed."""
    messages = []
    while (message := client.receive()) != {"type": "confirm_history", "identifier": name}:
        assert message["identifier"] == name, message
        assert "message" in message, message
        messages.append(message["message"])
    return messages


# Positions


def test_subprotocol_is_agreed_on(one: CableClient) -> None:
    assert one.connection.subprotocol == EXTENDED[0]


def test_messages_have_positions_that_grow_by_one(
    one: CableClient, public: CableServer, stream: str
) -> None:
    name = pubsub(stream)
    one.subscribe(name)
    publish(public, stream, "a", "b")
    first, second = one.receive(), one.receive()

    assert {**delivered(name, "a"), "stream_id": stream, **position(first)} == first
    assert second["message"] == "b"
    assert position(second) == position(first, 1)


def test_each_stream_counts_for_itself(one: CableClient, public: CableServer, stream: str) -> None:
    streams = (stream, stream + "/other")
    for each in streams:
        one.subscribe(pubsub(each))
    for each in streams:
        publish(public, each, "first")
    first, other = one.receive(), one.receive()

    assert position(first) == position(other)


def test_transient_messages_have_no_position_and_are_not_kept(
    one: CableClient, public: CableServer, stream: str
) -> None:
    name = pubsub(stream)
    one.subscribe(name)
    publish(public, stream, "typing", transient=True)
    assert one.receive() == delivered(name, "typing")

    one.send("history", identifier=name, history={"since": 1})
    assert replayed(one, name) == []


def test_the_same_protocol_without_extension_has_positions_too(
    public: CableServer, stream: str
) -> None:
    """As anycable-go: the subprotocol does not change the content of messages."""
    with CableClient(public.cable_url) as client:
        client.receive_welcome()
        client.subscribe(pubsub(stream))
        publish(public, stream, "a")
        assert client.receive()["stream_id"] == stream


# History


def test_history_within_subscribe_comes_behind_the_confirmation(
    one: CableClient, public: CableServer, stream: str
) -> None:
    name = pubsub(stream)
    last = published(public, stream, 3)
    request = {"streams": {stream: position(last, -2)}}
    one.send("subscribe", identifier=name, history=request)

    assert one.receive() == confirmed(name)
    assert replayed(one, name) == [2, 3]
    publish(public, stream, 4)
    assert position(one.receive()) == position(last, 1)


def test_history_has_positions(one: CableClient, public: CableServer, stream: str) -> None:
    last = published(public, stream, 1)
    one.subscribe(pubsub(stream))
    one.send("history", identifier=pubsub(stream), history={"since": int(time.time()) - 60})

    assert one.receive() == last


def test_history_since_a_moment(one: CableClient, public: CableServer, stream: str) -> None:
    name = pubsub(stream)
    published(public, stream, 2)
    one.subscribe(name)
    one.send("history", identifier=name, history={"since": int(time.time()) - 60})
    assert replayed(one, name) == [1, 2]

    one.send("history", identifier=name, history={"since": int(time.time()) + 60})
    assert replayed(one, name) == []


def test_a_position_comes_before_a_moment(
    one: CableClient, public: CableServer, stream: str
) -> None:
    name = pubsub(stream)
    last = published(public, stream, 3)
    one.subscribe(name)
    request = {"since": int(time.time()) - 60, "streams": {stream: position(last, -1)}}
    one.send("history", identifier=name, history=request)

    assert replayed(one, name) == [3]


def test_positions_of_other_streams_are_left_alone(
    one: CableClient, public: CableServer, stream: str
) -> None:
    name = pubsub(stream)
    last = published(public, stream, 3)
    one.subscribe(name)
    one.send("history", identifier=name, history={"streams": {"other": position(last, -2)}})

    assert replayed(one, name) == []


def test_history_behind_the_last_message_is_empty(
    one: CableClient, public: CableServer, stream: str
) -> None:
    name = pubsub(stream)
    last = published(public, stream, 1)
    one.subscribe(name)
    one.send("history", identifier=name, history={"streams": {stream: position(last)}})

    assert replayed(one, name) == []


def test_history_behind_the_oldest_kept_message_is_whole(
    one: CableClient, public: CableServer, stream: str
) -> None:
    name = pubsub(stream)
    last = published(public, stream, HISTORY_LIMIT + 2)
    one.subscribe(name)
    behind_the_oldest = position(last, 1 - HISTORY_LIMIT)
    one.send("history", identifier=name, history={"streams": {stream: behind_the_oldest}})

    assert replayed(one, name) == list(range(4, HISTORY_LIMIT + 3))


@pytest.mark.parametrize(
    "lost",
    [
        pytest.param(lambda last: {**position(last), "epoch": "other"}, id="epoch"),
        pytest.param(lambda last: position(last, -HISTORY_LIMIT - 1), id="too-old"),
        pytest.param(lambda last: position(last, 7), id="never-given"),
    ],
)
def test_a_lost_position_is_rejected(
    one: CableClient, public: CableServer, stream: str, lost: Any
) -> None:
    name = pubsub(stream)
    last = published(public, stream, HISTORY_LIMIT + 3)
    one.send("subscribe", identifier=name, history={"streams": {stream: lost(last)}})

    assert one.receive() == confirmed(name)
    assert one.receive() == {"type": "reject_history", "identifier": name}
    publish(public, stream, "live")
    assert one.receive()["message"] == "live"


def test_history_of_an_unknown_subscription_is_not_answered(one: CableClient) -> None:
    one.send("history", identifier=pubsub("nowhere"), history={"since": 1})
    one.expect_nothing()


def test_history_without_a_request_is_not_answered(one: CableClient, stream: str) -> None:
    name = pubsub(stream)
    one.subscribe(name)
    one.send("history", identifier=name)
    one.send("history", identifier=name, history={})
    one.expect_nothing()


# Sessions


@pytest.mark.parametrize("way", ["query", "header"])
def test_a_session_is_resumed(public: CableServer, stream: str, way: str) -> None:
    client, welcome = welcomed(public)
    names = [pubsub(stream), pubsub(stream + "/other")]
    with client:
        for name in names:
            client.subscribe(name)
    again, restored = (
        welcomed(public, f"sid={welcome['sid']}")
        if way == "query"
        else welcomed(public, headers={"X-ANYCABLE-RESTORE-SID": welcome["sid"]})
    )
    with again:
        assert restored["restored"] is True
        assert sorted(restored["restored_ids"]) == sorted(names)
        assert restored["sid"] != welcome["sid"]
        again.send("history", identifier=names[0], history={"since": int(time.time()) + 60})
        assert replayed(again, names[0]) == []
        publish(public, stream, "still here")
        assert again.receive()["message"] == "still here"


def test_what_was_missed_is_sent_to_a_resumed_session(public: CableServer, stream: str) -> None:
    client, welcome = welcomed(public)
    name = pubsub(stream)
    with client:
        client.subscribe(name)
        publish(public, stream, 1)
        first = client.receive()
    publish(public, stream, 2, 3)
    again, _ = welcomed(public, f"sid={welcome['sid']}")
    with again:
        again.send("history", identifier=name, history={"streams": {stream: position(first)}})
        assert replayed(again, name) == [2, 3]


def test_a_resumed_session_is_resumed_again(public: CableServer, stream: str) -> None:
    client, welcome = welcomed(public)
    with client:
        client.subscribe(pubsub(stream))
    for _ in range(2):
        client, welcome = welcomed(public, f"sid={welcome['sid']}")
        client.close()
        assert welcome["restored_ids"] == [pubsub(stream)]


def test_an_unknown_session_begins_anew(public: CableServer) -> None:
    client, welcome = welcomed(public, "sid=nobody")
    with client:
        assert "restored" not in welcome
        assert welcome["sid"] != "nobody"


def test_sessions_of_the_plain_protocol_are_not_resumed(public: CableServer, stream: str) -> None:
    with CableClient(public.cable_url) as client:
        sid = client.receive_welcome()["sid"]
        client.subscribe(pubsub(stream))
    again, welcome = welcomed(public, f"sid={sid}")
    again.close()
    assert "restored" not in welcome


@pytest.mark.reference_fault("two connections then are one session, and both hear everything")
def test_a_connection_that_looks_open_gives_its_session_away(
    public: CableServer, stream: str
) -> None:
    client, welcome = welcomed(public)
    with client:
        client.subscribe(pubsub(stream))
        again, restored = welcomed(public, f"sid={welcome['sid']}")
        with again:
            assert restored["restored_ids"] == [pubsub(stream)]
            client.deadline_s = 1
            assert client.wait_for_close()[0] == 1000
            # This shows the server that the client has received its new sid.
            again.subscribe(pubsub(f"{stream}/more"))
            third, welcome = welcomed(public, f"sid={welcome['sid']}")
            third.close()
            assert "restored" not in welcome


def test_who_gave_up_before_it_heard_comes_back_by_the_name_that_it_knows(
    public: CableServer, stream: str
) -> None:
    client, welcome = welcomed(public)
    client.subscribe(pubsub(stream))
    client.close()
    for _ in range(2):
        again, restored = welcomed(public, f"sid={welcome['sid']}")
        again.close()
        assert restored["restored_ids"] == [pubsub(stream)]


@pytest.mark.reference_fault("a session that was sent away for good can be resumed")
def test_who_must_not_return_is_not_resumed(behind: CableServer, app: ConformanceApp) -> None:
    name = f"banned-{time.monotonic_ns()}"
    test = app.define_connect(lambda answer: answer.identify(user=name))
    client, welcome = welcomed(behind, f"test={test}")
    with client:
        payload = {"identifier": json.dumps({"user": name}), "reconnect": False}
        body = json.dumps({"command": "disconnect", "payload": payload}).encode()
        urllib.request.urlopen(behind.broadcast_url, body, timeout=5).close()
        assert client.receive()["reconnect"] is False
        client.wait_for_close()
    app.calls.wait_for(welcome["sid"], "disconnect")
    again, welcome = welcomed(behind, f"sid={welcome['sid']}")
    again.close()
    assert "restored" not in welcome


def test_a_restored_session_asks_the_application_nothing_and_keeps_its_state(
    behind: CableServer, app: ConformanceApp
) -> None:
    def connect(answer: ConnectAnswer) -> None:
        answer.identify(user="ann")
        answer.response.env.cstate.update(colour="green")

    def subscribed(answer: ChannelAnswer) -> None:
        answer.set_istate(seat="12")

    channel = app.define(subscribed=subscribed, look=lambda answer: answer.transmit("seen"))
    name = identifier(channel)
    client, welcome = welcomed(behind, f"test={app.define_connect(connect)}")
    with client:
        client.subscribe(name)
    again, restored = welcomed(behind, f"sid={welcome['sid']}")
    with again:
        assert restored["restored_ids"] == [name]
        again.perform(name, "look")
        assert again.receive() == delivered(name, "seen")
        (call,) = app.calls.of(restored["sid"])
        assert call.kind == "message"
        assert call.identifiers == json.dumps({"user": "ann"})
        assert (call.cstate, call.istate) == ({"colour": "green"}, {"seat": "12"})


@pytest.mark.reference_fault("the application hears of an end with each connection that is lost")
def test_a_session_ends_once(behind: CableServer, app: ConformanceApp) -> None:
    name = identifier(app.define())
    client, welcome = welcomed(behind)
    sids = [welcome["sid"]]
    client.subscribe(name)
    for _ in range(3):
        client.drop()
        client.close()
        client, welcome = welcomed(behind, f"sid={sids[-1]}")
        assert welcome["restored"] is True
        sids.append(welcome["sid"])
    client.close()
    (end,) = app.calls.wait_for(sids[-1], "disconnect")

    assert end.subscriptions == (name,)
    assert [app.calls.of(sid, "disconnect") for sid in sids[:-1]] == [[], [], []]


@pytest.mark.reference_fault("the application hears of the end before it is certain")
def test_the_end_comes_when_nobody_can_come_back_any_more(
    behind: CableServer, app: ConformanceApp
) -> None:
    client, welcome = welcomed(behind)
    client.drop()
    client.close()
    left_at = time.monotonic()
    app.calls.wait_for(welcome["sid"], "disconnect")
    assert 0.9 < time.monotonic() - left_at < 5
    again, welcome = welcomed(behind, f"sid={welcome['sid']}")
    again.close()
    assert "restored" not in welcome


# Whispers


def test_a_whisper_reaches_everybody_but_who_whispers(
    one: CableClient, two: CableClient, stream: str
) -> None:
    name = pubsub(stream)
    for client in (one, two):
        client.subscribe(name)
    one.send("whisper", identifier=name, data={"typing": [True, None]})

    assert two.receive() == delivered(name, {"typing": [True, None]})
    one.expect_nothing()


def test_whispers_are_not_kept(one: CableClient, two: CableClient, stream: str) -> None:
    name = pubsub(stream)
    for client in (one, two):
        client.subscribe(name)
    one.send("whisper", identifier=name, data="psst")
    two.receive()
    two.send("history", identifier=name, history={"since": 1})
    assert replayed(two, name) == []


def test_a_whisper_to_an_unknown_subscription_is_ignored(one: CableClient) -> None:
    one.send("whisper", identifier=pubsub("nowhere"), data="psst")
    one.expect_nothing()


@pytest.mark.parametrize("is_restored", [False, True])
def test_an_application_allows_whispers_by_its_state(
    behind: CableServer, app: ConformanceApp, stream: str, is_restored: bool
) -> None:
    def subscribed(answer: ChannelAnswer) -> None:
        answer.stream_from(stream)
        if "may" in answer.call.params:
            answer.set_istate(**{"$w": stream})

    channel = app.define(subscribed=subscribed)
    silent, speaking = identifier(channel), identifier(channel, may=True)
    listener, _ = welcomed(behind)
    client, welcome = welcomed(behind)
    with listener:
        listener.subscribe(silent)
        with client:
            client.subscribe(speaking)
            if is_restored:
                client.close()
                client, _ = welcomed(behind, f"sid={welcome['sid']}")
            client.send("whisper", identifier=speaking, data="psst")
            assert listener.receive() == delivered(silent, "psst")
            listener.send("whisper", identifier=silent, data="may not")
            listener.expect_nothing()
            client.expect_nothing()
        client.close()


# Presence


def event(name: str, kind: str, member: str, **info: object) -> Message:
    """The messages about a member to all subscribers of a stream."""
    return {**delivered(name, {"type": kind, "id": member, **info}), "type": "presence"}


def join(client: CableClient, name: str, member: str, info: object) -> None:
    client.send("join", identifier=name, presence={"id": member, "info": info})


def who_is_here(client: CableClient, name: str, **options: object) -> Message:
    client.send("presence", identifier=name, data=options)
    answer = client.receive()
    assert (answer["type"], answer["identifier"]) == ("presence", name)
    state: Message = answer["message"]
    return state


def test_members_come_and_go(one: CableClient, two: CableClient, stream: str) -> None:
    name = pubsub(stream)
    for client in (one, two):
        client.subscribe(name)
    join(one, name, "ann", {"colour": "green"})
    for client in (one, two):
        assert client.receive() == event(name, "join", "ann", info={"colour": "green"})
    state = who_is_here(two, name)
    assert (state["type"], state["total"]) == ("info", 1)
    assert [(each["id"], each["info"]) for each in state["records"]] == [
        ("ann", {"colour": "green"})
    ]

    one.send("leave", identifier=name)
    for client in (one, two):
        assert client.receive() == event(name, "leave", "ann")
    assert who_is_here(two, name) == {"type": "info", "total": 0}


def test_several_sessions_with_one_id_are_one_member(
    one: CableClient, two: CableClient, stream: str
) -> None:
    name = pubsub(stream)
    for client in (one, two):
        client.subscribe(name)
    join(one, name, "ann", {})
    for client in (one, two):
        assert client.receive() == event(name, "join", "ann", info={})
    join(two, name, "ann", {})
    two.expect_nothing()
    assert who_is_here(one, name)["total"] == 1

    one.send("leave", identifier=name)
    one.expect_nothing()
    two.send("leave", identifier=name)
    for client in (one, two):
        assert client.receive() == event(name, "leave", "ann")


@pytest.mark.reference_fault("it tells nobody")
def test_a_member_changes_its_info(one: CableClient, two: CableClient, stream: str) -> None:
    name = pubsub(stream)
    for client in (one, two):
        client.subscribe(name)
    join(one, name, "ann", {"mood": "fine"})
    assert two.receive() == event(name, "join", "ann", info={"mood": "fine"})
    join(one, name, "ann", {"mood": "tired"})
    two.deadline_s = 1
    assert two.receive() == event(name, "join", "ann", info={"mood": "tired"})
    assert who_is_here(two, name)["records"][0]["info"] == {"mood": "tired"}


def test_unsubscribing_is_leaving(one: CableClient, two: CableClient, stream: str) -> None:
    name = pubsub(stream)
    for client in (one, two):
        client.subscribe(name)
    join(one, name, "ann", {})
    for client in (one, two):
        assert client.receive() == event(name, "join", "ann", info={})
    one.send("unsubscribe", identifier=name)

    assert two.receive() == event(name, "leave", "ann")
    one.expect_nothing()


def test_a_member_whose_connection_is_cut_leaves_after_a_time(
    one: CableClient, two: CableClient, stream: str
) -> None:
    name = pubsub(stream)
    for client in (one, two):
        client.subscribe(name)
    join(one, name, "ann", {})
    assert two.receive() == event(name, "join", "ann", info={})
    one.drop()
    dropped_at = time.monotonic()

    assert two.receive() == event(name, "leave", "ann")
    assert time.monotonic() - dropped_at > PRESENCE_TTL_S / 2


def test_a_member_who_comes_back_in_time_has_not_left(
    public: CableServer, two: CableClient, stream: str
) -> None:
    name = pubsub(stream)
    client, welcome = welcomed(public)
    with client:
        client.subscribe(name)
        two.subscribe(name)
        join(client, name, "ann", {})
        assert two.receive() == event(name, "join", "ann", info={})
    again, _ = welcomed(public, f"sid={welcome['sid']}")
    with again:
        join(again, name, "ann", {})
        back_at = time.monotonic()
        while time.monotonic() < back_at + 2 * PRESENCE_TTL_S:
            two.receive_any()  # pings, each of them a moment that went by
        two.expect_nothing()
        assert who_is_here(two, name)["total"] == 1


def test_who_is_still_connected_is_here_after_its_time(
    one: CableClient, two: CableClient, stream: str
) -> None:
    name = pubsub(stream)
    for client in (one, two):
        client.subscribe(name)
    join(one, name, "ann", {})
    two.receive()
    joined_at = time.monotonic()
    while time.monotonic() < joined_at + 2.5 * PRESENCE_TTL_S:
        assert two.receive_any()["type"] == "ping"
    assert who_is_here(two, name)["total"] == 1


def test_presence_within_subscribe(one: CableClient, stream: str) -> None:
    name = pubsub(stream)
    presence = {"id": "ann", "info": {"n": 1}}
    one.send("subscribe", identifier=name, presence=presence)
    assert one.receive() == confirmed(name)
    one.deadline_s = 1
    assert one.receive() == event(name, "join", "ann", info={"n": 1})


@pytest.mark.reference_fault("it never reads the options of the request")
def test_only_the_number_of_members(one: CableClient, stream: str) -> None:
    name = pubsub(stream)
    one.subscribe(name)
    join(one, name, "ann", {})
    one.receive()
    assert who_is_here(one, name, return_records=False) == {"type": "info", "total": 1}


def test_who_is_here_is_asked_of_a_subscription(one: CableClient) -> None:
    one.send("presence", identifier=pubsub("nowhere"))
    one.send("join", identifier=pubsub("nowhere"), presence={"id": "ann", "info": {}})
    one.send("leave", identifier=pubsub("nowhere"))
    one.expect_nothing()


# Signs of life


@pytest.fixture(scope="module")
def attentive(start_server: StartServer) -> Iterator[CableServer]:
    """Wants an answer to its pings."""
    with start_server(
        *("--public", "--norpc", "--ping_interval=1", "--pong_timeout=1"),
        *("--broadcast_adapter=http",),
    ) as server:
        yield server


def test_who_does_not_answer_pings_is_disconnected(attentive: CableServer) -> None:
    client, _ = welcomed(attentive)
    with client:
        message = client.receive()
        assert message == {"type": "disconnect", "reason": "no_pong", "reconnect": True}
        assert client.wait_for_close()[0] == 1000


def test_who_answers_pings_stays(attentive: CableServer) -> None:
    client, _ = welcomed(attentive)
    with client:
        for _ in range(3):
            assert client.receive_any()["type"] == "ping"
            client.send("pong")
        client.expect_nothing()


def test_the_plain_protocol_need_not_answer(attentive: CableServer) -> None:
    with CableClient(attentive.cable_url) as client:
        client.receive_welcome()
        for _ in range(3):
            assert client.receive_any()["type"] == "ping"
        client.send("ping")
        assert client.receive() == PONG


def test_native_pings_come_along(start_server: StartServer) -> None:
    with (
        start_server(
            *("--public", "--norpc", "--ping_interval=1", "--enable_native_pings"),
            *("--broadcast_adapter=http",),
        ) as server,
        RawSocket(server.port).open(
            "/cable", "Sec-WebSocket-Protocol: actioncable-v1-json"
        ) as client,
    ):
        kinds = {client.frame()[0] for _ in range(4)}
        assert kinds == {0x1, 0x9}
