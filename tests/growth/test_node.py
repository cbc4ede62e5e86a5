"""The heart: sessions, streams, deliveries, histories, presence."""

import asyncio

import pytest

from catenary.adapters.memory.history import LocalHistory
from catenary.adapters.memory.presence import LocalPresence
from catenary.adapters.memory.sessions import LocalSessions
from catenary.errors import AppUnavailable
from catenary.messages.commands import HistoryRequest, ReadHistory, ReadPresence
from catenary.messages.decisions import Decision
from catenary.messages.heartbeat import Heartbeat
from catenary.messages.names import Stream
from catenary.messages.publications import Publication, RemoteDisconnect
from catenary.messages.replies import Confirmed
from catenary.node.session import Session, Traits
from catenary.node.snapshot import read, snapshot_of, write
from tests.growth.measure import Case, Work, assert_near_linear, for_each
from tests.parts.heart import NEVER, Client, Heart, confirming, room

ROOM = room("r")
RESUMABLE = Traits(NEVER, is_resumable=True)


def streams(size: int) -> list[Stream]:
    return [Stream(f"stream-{number}") for number in range(size)]


async def idle() -> None:
    """Until nothing happens any more, as far as the loop knows."""
    while asyncio.get_running_loop()._ready:  # type: ignore[attr-defined]  # noqa: ASYNC110
        await asyncio.sleep(0)


# Streams of one subscription


def subscribed(size: int) -> tuple[Heart, Client]:
    """A client whose subscription has so many streams."""
    heart = Heart()
    client = heart.connect()
    heart.application.prepare("subscribe", confirming(ROOM, *streams(size)))
    client.say("subscribe", ROOM)
    return heart, client


def an_answer_starts_streams(size: int) -> Work:
    heart = Heart()
    client = heart.connect()
    heart.application.prepare("subscribe", confirming(ROOM, *streams(size)))
    return lambda: client.say("subscribe", ROOM)


def answers_start_a_stream_each(size: int) -> Work:
    heart, client = subscribed(1)
    heart.application.prepare("perform", *(Decision(streams=(each,)) for each in streams(size)))
    return for_each(range(size), lambda _: client.say("message", ROOM, data="{}"))


def an_answer_stops_streams(size: int) -> Work:
    heart, client = subscribed(size)
    heart.application.prepare("perform", Decision(stopped_streams=tuple(streams(size))))
    return lambda: client.say("message", ROOM, data="{}")


def a_subscription_with_streams_is_given_back(size: int) -> Work:
    _, client = subscribed(size)
    return lambda: client.say("unsubscribe", ROOM)


def a_client_with_streams_leaves(size: int) -> Work:
    _, client = subscribed(size)

    async def work() -> None:
        client.leave()
        await idle()

    return work


# Subscriptions of one client


def member_of_rooms(heart: Heart, size: int, traits: Traits | None = None) -> Client:
    client = heart.connect(traits=traits)
    for number in range(size):
        client.say("subscribe", room(str(number)))
    return client


def a_client_subscribes(size: int) -> Work:
    heart = Heart()
    client = heart.connect()
    rooms = [room(str(number)) for number in range(size)]
    return for_each(rooms, lambda each: client.say("subscribe", each))


def a_client_with_subscriptions_leaves(size: int) -> Work:
    client = member_of_rooms(Heart(), size)

    async def work() -> None:
        client.leave()
        await idle()

    return work


def a_client_with_subscriptions_comes_back(size: int) -> Work:
    heart = Heart(sessions=LocalSessions(ttl_s=60, clock=lambda: 0))
    client = member_of_rooms(heart, size, RESUMABLE)

    async def work() -> None:
        client.leave()
        await idle()
        heart.connect(traits=Traits(NEVER, is_resumable=True, resumes=client.session.sid))
        await idle()

    return work


def the_application_hears_of_each_resumed_subscription(size: int) -> Work:
    heart = Heart(sessions=LocalSessions(ttl_s=60, clock=lambda: 0), restored_action="restored")
    client = member_of_rooms(heart, size, RESUMABLE)
    client.leave()

    async def work() -> None:
        answers = [heart.application.later("perform") for _ in range(size)]
        heart.connect(traits=Traits(NEVER, is_resumable=True, resumes=client.session.sid))
        for each in answers:
            each.set_result(Decision())
            await idle()

    return work


def a_session_is_written_and_read(size: int) -> Work:
    client = member_of_rooms(Heart(), size)
    return lambda: read(write(snapshot_of(client.session, 0)))


# Commands of one client


def commands_wait(size: int) -> Work:
    """Behind one that takes its time; nobody holds this client back."""
    heart, client = subscribed(1)

    async def work() -> None:
        answer = heart.application.later("perform")
        for _ in range(size):
            client.say("message", ROOM, data="{}")
        answer.set_result(Decision())
        await idle()

    return work


def commands_are_refused(size: int) -> Work:
    heart, client = subscribed(1)
    heart.application.prepare("perform", *(AppUnavailable("no") for _ in range(size)))
    return for_each(range(size), lambda _: client.say("message", ROOM, data="{}"))


def an_answer_transmits(size: int) -> Work:
    heart, client = subscribed(1)
    heart.application.prepare("perform", Decision(transmissions=('{"message":1}',) * size))

    async def work() -> None:
        client.say("message", ROOM, data="{}")
        await idle()

    return work


# Many clients


def clients_come_and_go(size: int) -> Work:
    heart = Heart()

    async def work() -> None:
        for each in [heart.member("r") for _ in range(size)]:
            each.leave()
        await idle()

    return work


def clients_with_the_same_identifiers_are_disconnected(size: int) -> Work:
    heart = Heart()
    everybody = Decision(identifiers="everybody")
    heart.application.prepare("connect", *(everybody for _ in range(size)))
    for _ in range(size):
        heart.connect()

    async def work() -> None:
        heart.hub.deliver(RemoteDisconnect("everybody", reconnect=False))
        await idle()

    return work


def clients_come_back(size: int) -> Work:
    """All of a room at once, for what they have missed."""
    history = LocalHistory(limit=10, ttl_s=60, epoch="e", clock=lambda: 1)
    heart = Heart(sessions=LocalSessions(ttl_s=60, clock=lambda: 0), history=history)
    left = [heart.connect(traits=RESUMABLE) for _ in range(size)]
    for each in left:
        each.say("subscribe", ROOM)
        each.leave()
    heart.node.publications.publish('{"stream": "r", "data": "1"}')

    async def work() -> None:
        for each in left:
            traits = Traits(NEVER, is_resumable=True, resumes=each.session.sid)
            back = heart.connect(traits=traits)
            back.say("history", ROOM, history={"since": 1})
        await idle()

    return work


def sessions_expire(size: int) -> Work:
    now = [0.0]
    heart = Heart(sessions=LocalSessions(ttl_s=60, clock=lambda: now[0]), mode="never")
    for _ in range(size):
        heart.connect(traits=RESUMABLE).leave()

    async def work() -> None:
        now[0] = 100
        heart.node.tick()
        await idle()

    return work


def pings_of_clients_that_come_and_go(size: int) -> Work:
    heart = Heart()
    pinged = Traits(Heartbeat(3600))

    def work() -> None:
        for each in [heart.connect(traits=pinged) for _ in range(size)]:
            each.leave()

    return work


# Deliveries


def messages_to_a_crowd(size: int) -> Work:
    heart = Heart()
    for _ in range(10):
        heart.member("r")

    async def work() -> None:
        for number in range(size):
            heart.publish("r", number)
        await idle()

    return work


def a_message_to_a_crowd(size: int) -> Work:
    heart = Heart()
    for _ in range(size):
        heart.member("r")

    async def work() -> None:
        heart.publish("r", 1)
        await idle()

    return work


def a_message_under_many_identifiers(size: int) -> Work:
    heart = Heart()
    for number in range(size):
        heart.member().subscribe(room("r", number=number))

    async def work() -> None:
        heart.publish("r", 1)
        await idle()

    return work


def a_batch_of_publications(size: int) -> Work:
    heart = Heart()
    heart.member("r")
    batch = "[" + ",".join('{"stream":"r","data":"1"}' for _ in range(size // 2)) + "]"

    async def work() -> None:
        sent = heart.node.publications.publish(batch)
        if sent is not None:
            await sent
        await idle()

    return work


# Histories and presence


def with_history(size: int) -> tuple[Heart, Client]:
    history = LocalHistory(limit=size, ttl_s=60, epoch="e", clock=lambda: 1)
    heart = Heart(history=history)
    client = heart.member("r")
    for number in range(size):
        history.append(Publication(Stream("r"), str(number)))
    return heart, client


def a_history_is_read(size: int) -> Work:
    heart, client = with_history(size)

    async def work() -> None:
        heart.node.execute(client.session, ReadHistory(ROOM, HistoryRequest(1, {})))
        await idle()

    return work


def messages_wait_for_one_who_reads_its_history(size: int) -> Work:
    heart, client = with_history(10)
    subscription = client.session.subscriptions[ROOM]

    async def work() -> None:
        heart.hub.detach(subscription, Stream("r"))
        for number in range(size):
            heart.publish("r", number)
        heart.hub.reattach(subscription, Stream("r"), None)
        await idle()

    return work


def present_on(size: int) -> tuple[Heart, list[Session]]:
    heart = Heart(presence=LocalPresence(ttl_s=60, clock=lambda: 0))
    sessions = []
    for number in range(size):
        client = heart.connect(f"sid-{number}")
        seen = Decision(
            replies=(Confirmed(ROOM),), streams=(Stream("r"),), presence_stream=Stream("p")
        )
        heart.application.prepare("subscribe", seen)
        client.say("subscribe", ROOM)
        client.say("join", ROOM, presence={"id": str(number), "info": {}})
        sessions.append(client.session)
    return heart, sessions


def members_join(size: int) -> Work:
    return lambda: present_on(size)


def members_are_listed(size: int) -> Work:
    heart, (session, *_) = present_on(size)

    async def work() -> None:
        heart.node.execute(session, ReadPresence(ROOM, True))
        await idle()

    return work


def members_are_touched(size: int) -> Work:
    heart, _ = present_on(size)

    async def work() -> None:
        heart.node.touch_members()
        await idle()

    return work


def members_leave(size: int) -> Work:
    heart, sessions = present_on(size)

    async def work() -> None:
        for each in sessions:
            heart.node.leave(each)
        await idle()

    return work


@pytest.mark.parametrize(
    "case",
    [
        an_answer_starts_streams,
        answers_start_a_stream_each,
        an_answer_stops_streams,
        a_subscription_with_streams_is_given_back,
        a_client_with_streams_leaves,
        a_client_subscribes,
        a_client_with_subscriptions_leaves,
        a_client_with_subscriptions_comes_back,
        the_application_hears_of_each_resumed_subscription,
        a_session_is_written_and_read,
        commands_wait,
        commands_are_refused,
        an_answer_transmits,
        clients_come_and_go,
        clients_with_the_same_identifiers_are_disconnected,
        clients_come_back,
        sessions_expire,
        pings_of_clients_that_come_and_go,
        messages_to_a_crowd,
        a_message_to_a_crowd,
        a_message_under_many_identifiers,
        a_batch_of_publications,
        a_history_is_read,
        messages_wait_for_one_who_reads_its_history,
        members_join,
        members_are_listed,
        members_are_touched,
        members_leave,
    ],
)
def test_work_of_the_heart_is_near_linear(case: Case) -> None:
    # A client costs more than an item of other cases: fewer of them take as long.
    assert_near_linear(case)
