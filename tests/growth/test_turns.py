"""No turn of the event loop grows with what one client, one answer or one moment brings."""

import asyncio
from collections.abc import Awaitable

import msgspec
import pytest

from catenary.adapters.memory.history import LocalHistory
from catenary.adapters.memory.presence import LocalPresence
from catenary.adapters.memory.sessions import LocalSessions
from catenary.adapters.ordered_intake import OrderedIntake
from catenary.adapters.pacing import paced
from catenary.api.reads import HistoryQuery, PresenceQuery, history_of, presence_of
from catenary.api.rest import RestRequest
from catenary.messages.commands import (
    HistoryRequest,
    Join,
    Perform,
    ReadHistory,
    ReadPresence,
    Subscribe,
)
from catenary.messages.decisions import Decision
from catenary.messages.names import Sid, Stream
from catenary.messages.publications import Publication, RemoteDisconnect
from catenary.messages.replies import Confirmed
from catenary.node.listing import Listing, SessionQuery
from catenary.node.reads import Reads
from catenary.node.turns import CLIENTS_BUDGET_US, Turns
from tests.growth.measure import Case, Work, assert_turns_bounded
from tests.growth.test_node import RESUMABLE, idle, member_of_rooms, subscribed
from tests.parts.heart import Heart, confirming, room
from tests.parts.memory_socket import OpenWebSocket

ROOM = room("r")
ROOM_STREAM = Stream("r")


def until_idle(begin: Work) -> Work:
    """The same work, with everything that it brings about."""

    async def work() -> None:
        begin()
        await idle()

    return work


# Answers to one client


def subscribed_socket(heart: Heart) -> OpenWebSocket:
    opened = OpenWebSocket(heart, budget=CLIENTS_BUDGET_US // 10)
    heart.node.execute(opened.session, Subscribe(ROOM))
    return opened


def a_history_of_many_messages(size: int) -> Work:
    history = LocalHistory(limit=size, ttl_s=60, epoch="e", clock=lambda: 1)
    heart = Heart(history=history)
    session = subscribed_socket(heart).session
    for number in range(size):
        history.append(Publication(ROOM_STREAM, str(number)))
    request = ReadHistory(ROOM, HistoryRequest(1, {}))
    return until_idle(lambda: heart.node.execute(session, request))


def many_histories(size: int) -> Work:
    """A client asks again and again before it is answered: ten times in each piece that is read of it."""
    history = LocalHistory(limit=100, ttl_s=60, epoch="e", clock=lambda: 1)
    heart = Heart(history=history)
    session = subscribed_socket(heart).session
    for number in range(100):
        history.append(Publication(ROOM_STREAM, f'"{number} {"x" * 2000}"'))

    async def work() -> None:
        for number in range(size // 100):
            heart.node.execute(session, ReadHistory(ROOM, HistoryRequest(1, {})))
            if number % 10 == 9:
                await asyncio.sleep(0)
        await idle()

    return work


def messages_buffered_for_a_client_that_reads_its_history(size: int) -> Work:
    """Up to the limit of the buffer."""
    heart = Heart()
    subscription = subscribed_socket(heart).session.subscriptions[ROOM]
    heart.hub.detach(subscription, ROOM_STREAM)
    for number in range(size // 10):
        heart.publish("r", number)
    return until_idle(lambda: heart.hub.reattach(subscription, ROOM_STREAM, None))


def many_members(size: int) -> Work:
    presence = LocalPresence(ttl_s=60, clock=lambda: 0)
    heart = Heart(presence=presence)
    seen = Decision(replies=(Confirmed(ROOM),), streams=(ROOM_STREAM,), presence_stream=ROOM_STREAM)
    heart.application.prepare("subscribe", seen)
    session = subscribed_socket(heart).session
    for number in range(size):
        presence.join(ROOM_STREAM, Sid(str(number)), str(number), '{"name":"Ann"}')
    return until_idle(lambda: heart.node.execute(session, ReadPresence(ROOM, True)))


def many_transmissions(size: int) -> Work:
    heart = Heart()
    session = subscribed_socket(heart).session
    heart.application.prepare("perform", Decision(transmissions=('{"message":1}',) * size))
    return until_idle(lambda: heart.node.execute(session, Perform(ROOM, "{}")))


def many_commands_that_have_waited(size: int) -> Work:
    heart, client = subscribed(1)
    answer = heart.application.later("perform")
    for _ in range(size + 1):
        client.say("message", ROOM, data="{}")
    return until_idle(lambda: answer.set_result(Decision()))


# Ends


def a_client_with_many_subscriptions_leaves(size: int) -> Work:
    client = member_of_rooms(Heart(), size)
    identifiers = tuple(client.session.subscriptions)
    assert len(identifiers) == size
    return until_idle(client.leave)


def a_client_with_many_streams_leaves(size: int) -> Work:
    _, client = subscribed(size)
    return until_idle(client.leave)


def many_clients_are_disconnected_remotely(size: int) -> Work:
    heart = Heart()
    heart.application.prepare("connect", *(Decision(identifiers="all") for _ in range(size)))
    for _ in range(size):
        heart.connect()
    return until_idle(lambda: heart.hub.deliver(RemoteDisconnect("all", reconnect=False)))


def many_sessions_expire(size: int) -> Work:
    now = [0.0]
    heart = Heart(sessions=LocalSessions(ttl_s=60, clock=lambda: now[0]), mode="never")
    for _ in range(size):
        heart.connect(traits=RESUMABLE).leave()
    now[0] = 100
    return until_idle(heart.node.tick)


def many_members_expire(size: int) -> Work:
    now = [0.0]
    presence = LocalPresence(ttl_s=60, clock=lambda: now[0])
    heart = Heart(presence=presence)
    for number in range(size):
        presence.join(ROOM_STREAM, Sid(str(number)), str(number), "{}")
    now[0] = 100
    return until_idle(heart.node.tick)


def many_do_not_ask_for_their_history(size: int) -> Work:
    heart = Heart(sessions=LocalSessions(ttl_s=60, clock=lambda: 0))
    restored = []
    for _ in range(size):
        client = heart.connect(traits=RESUMABLE)
        client.say("subscribe", ROOM)
        client.leave()
        traits = msgspec.structs.replace(RESUMABLE, resumes=client.session.sid)
        restored.append(heart.connect(traits=traits))

    async def work() -> None:
        heart.node.tick()
        await idle()
        for each in restored:
            each.answer_ping()
            await asyncio.sleep(0)  # each comes by itself
        for _ in range(2):
            heart.node.tick()
            await idle()

    return work


# Many at once


def many_members_are_touched(size: int) -> Work:
    heart = Heart(presence=LocalPresence(ttl_s=60, clock=lambda: 0))
    for _ in range(size):
        client = heart.connect()
        seen = Decision(replies=(Confirmed(ROOM),), presence_stream=ROOM_STREAM)
        heart.application.prepare("subscribe", seen)
        client.say("subscribe", ROOM)
        heart.node.execute(client.session, Join(ROOM, client.session.sid, "{}"))
    return until_idle(heart.node.touch_members)


def a_batch_for_many_streams(size: int) -> Work:
    heart = Heart()
    client = heart.connect()
    for number in range(size):
        client.subscribe(room(f"{number}"))
    messages = ",".join(f'{{"stream":"{number}","data":"1"}}' for number in range(size))
    publications = f"[{messages}]"
    parsed = heart.node.publications._parse(publications)

    async def work() -> None:
        sent = heart.node.publications._pubsub.send(parsed)
        if sent is not None:
            await sent

    return work


def a_large_batch_of_a_publisher(size: int) -> Work:
    """From its text to the last delivery."""
    heart = Heart()
    heart.connect().subscribe(ROOM)
    messages = (f'{{"stream":"r","data":"{number} {"x" * 100}"}}' for number in range(size))
    raw = f"[{','.join(messages)}]".encode()

    async def work() -> None:
        sent = heart.node.publications.publish_in_turns(raw)
        assert sent is not None
        await sent

    return work


def a_large_batch_from_a_message_queue(size: int) -> Work:
    heart = Heart()
    heart.connect().subscribe(ROOM)
    messages = (f'{{"stream":"r","data":"{number} {"x" * 100}"}}' for number in range(size))
    raw = f"[{','.join(messages)}]".encode()
    intake = OrderedIntake(
        heart.node.publications.publish_in_turns,
        heart.counters,
        pause=lambda: None,
        resume=lambda: None,
    )

    async def work() -> None:
        intake.add(raw)
        await intake.finish()

    return work


def a_large_batch_that_every_node_receives(size: int) -> Work:
    heart = Heart()
    heart.connect().subscribe(ROOM)
    messages = (f'{{"stream":"r","data":"{number} {"x" * 100}"}}' for number in range(size))
    raw = f"[{','.join(messages)}]".encode()

    async def work() -> None:
        heard = heart.node.publications.publish_locally(raw)
        assert heard is not None
        await heard

    return work


def many_publications_that_waited_for_one(size: int) -> Work:
    """They came while one took its time; nobody listens to them."""
    heart = Heart()
    first: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def publish(raw: bytes) -> Awaitable[None] | None:
        return first if raw == b"first" else heart.node.publications.publish_locally(raw)

    intake = OrderedIntake(publish, heart.counters, pause=lambda: None, resume=lambda: None)
    intake.add(b"first")
    for number in range(size):
        intake.add(b'{"stream":"r","data":"%d"}' % number)

    async def work() -> None:
        first.set_result(None)
        await intake.finish()

    return work


def a_message_to_many(size: int) -> Work:
    heart = Heart()
    for _ in range(size * 2):
        heart.member("r")
    return until_idle(lambda: heart.publish("r", 1))


def many_listeners_under_identifiers_of_their_own(size: int) -> Work:
    heart = Heart()
    for number in range(size):
        client = heart.connect()
        identifier = room("r", number=number)
        heart.application.prepare("subscribe", confirming(identifier, "r"))
        client.say("subscribe", identifier)
    return until_idle(lambda: heart.publish("r", 1))


def many_are_read_from_outside(size: int) -> Work:
    presence = LocalPresence(ttl_s=60, clock=lambda: 0)
    for number in range(size):
        presence.join(ROOM_STREAM, Sid(str(number)), str(number), "{}")
    read = presence_of(Reads(None, presence))
    return lambda: read(RestRequest({"stream": ROOM_STREAM}, PresenceQuery()))


def a_history_is_read_from_outside(size: int) -> Work:
    """Up to a page."""
    history = LocalHistory(limit=size, ttl_s=60, epoch="e", clock=lambda: 1)
    for number in range(size // 10):
        history.append(Publication(ROOM_STREAM, f"{number}"))
    read = history_of(Reads(history, None))
    return lambda: read(RestRequest({"stream": ROOM_STREAM}, HistoryQuery()))


def a_crowd_is_listed(size: int) -> Work:
    """The sessions on one page, a search that finds none, the channels and the streams."""
    heart = Heart()
    for number in range(size):
        client = heart.connect()
        client.subscribe(room(f"r{number}"))
    call_soon = asyncio.get_running_loop().call_soon
    listing = Listing("n", heart.hub, Turns(CLIENTS_BUDGET_US // 10, call_soon))

    async def work() -> None:
        assert len((await listing.page(SessionQuery(), "", size // 10)).records) == size // 10
        assert (await listing.page(SessionQuery(q="nobody"), "", 1)).next is None
        assert await listing.channels() == {"Room": size}
        assert len((await listing.streams("r", "", 100))[0]) == 100

    return work


def much_is_read_from_a_broker(size: int) -> Work:
    async def work() -> None:
        async for _ in paced(range(size)):
            pass

    return work


@pytest.mark.parametrize(
    "case",
    [
        a_history_of_many_messages,
        many_histories,
        messages_buffered_for_a_client_that_reads_its_history,
        many_members,
        many_transmissions,
        many_commands_that_have_waited,
        a_client_with_many_subscriptions_leaves,
        a_client_with_many_streams_leaves,
        many_clients_are_disconnected_remotely,
        many_sessions_expire,
        many_members_expire,
        many_do_not_ask_for_their_history,
        many_members_are_touched,
        a_batch_for_many_streams,
        a_large_batch_of_a_publisher,
        a_large_batch_from_a_message_queue,
        a_large_batch_that_every_node_receives,
        many_publications_that_waited_for_one,
        a_message_to_many,
        many_listeners_under_identifiers_of_their_own,
        many_are_read_from_outside,
        a_history_is_read_from_outside,
        a_crowd_is_listed,
        much_is_read_from_a_broker,
    ],
)
def test_no_turn_grows_with_the_input(case: Case) -> None:
    assert_turns_bounded(case)
