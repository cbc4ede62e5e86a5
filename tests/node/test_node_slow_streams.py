"""Streams that take time to be live: what waits for them, in which order; and calls of the interest."""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, Collection

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catenary.adapters.memory.history import LocalHistory
from catenary.adapters.memory.sessions import LocalSessions
from catenary.messages.decisions import Decision
from catenary.messages.names import Sid, Stream
from catenary.messages.publications import Position, Publication, RemoteDisconnect
from catenary.node import hub
from catenary.node.session import Traits
from tests.parts.heart import NEVER, Client, Heart, confirming, in_loop, room, settle

CONFIRMED, HISTORY, REJECTED = "confirm_subscription", "confirm_history", "reject_history"


class SlowInterest:
    """Satisfies :class:`catenary.ports.Interest`: streams are live, and heard of, when a test says so.

    It fails where a stream has a second first listener, or a last one without a first.
    """

    def __init__(self) -> None:
        self.wanted: set[Stream] = set()
        self.is_live = False
        self._waits: list[asyncio.Future[None]] = []
        self.asked: list[Stream] = []
        self.arrived: Position | None = None
        self._calls: list[Callable[[], None]] = []

    def listen(self, stream: Stream) -> None:
        assert stream not in self.wanted
        self.wanted.add(stream)

    def unlisten(self, stream: Stream) -> None:
        self.wanted.remove(stream)

    def when_live(self, streams: Collection[Stream]) -> Awaitable[None] | None:
        if self.is_live:
            return None
        self.asked += streams
        wait: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waits.append(wait)
        return wait

    async def be_live(self) -> None:
        self.is_live = True
        for wait in self._waits:
            if not wait.done():
                wait.set_result(None)
        await settle()

    def has_arrived(self, stream: Stream, position: Position) -> bool:
        return self.arrived is None or position.offset <= self.arrived.offset

    def call_when_arrived(
        self, stream: Stream, position: Position, call: Callable[[], None]
    ) -> None:
        self._calls.append(call)

    def arrive(self) -> None:
        """Everything that was asked for has arrived."""
        calls, self._calls = self._calls, []
        for call in calls:
            call()


class RemoteHistory(LocalHistory):
    """One elsewhere: it may be ahead of what is delivered here."""

    is_immediate = False

    def __init__(self) -> None:
        super().__init__(limit=100, ttl_s=300, epoch="e", clock=lambda: 1_000)
        self.asked = 0

    def since(
        self, stream: Stream, moment_s: int, limit: int | None = None, *, newest: bool = False
    ) -> tuple[Publication, ...]:
        self.asked += 1
        return super().since(stream, moment_s, limit, newest=newest)

    def after(
        self, stream: Stream, position: Position, limit: int | None = None
    ) -> tuple[Publication, ...]:
        self.asked += 1
        return super().after(stream, position, limit)


class House:
    """A node whose streams take time, with a history and sessions; publications come when they come."""

    def __init__(self, *, is_live: bool = False) -> None:
        self.interest = SlowInterest()
        self.interest.is_live = is_live
        self.history = RemoteHistory()
        self.heart = Heart(
            interest=self.interest,
            history=self.history,
            sessions=LocalSessions(ttl_s=10, clock=lambda: 0),
        )
        self.application = self.heart.application

    def keep(self, stream: str, number: int) -> Publication:
        """Into the history, and on its way."""
        return self.history.append(Publication(Stream(stream), str(number)))

    def connect(self, sid: str, resumes: str | None = None) -> Client:
        wanted = None if resumes is None else Sid(resumes)
        return self.heart.connect(sid, traits=Traits(NEVER, is_resumable=True, resumes=wanted))


def said(client: Client) -> list[object]:
    """Messages, and the types of everything else, in the order in which they came."""
    return [each["message"] if "message" in each else each.get("type") for each in client.heard]


def performed(house: House) -> list[str]:
    return [call[2] for call in house.application.calls if call[0] == "perform"]


# Confirmations


@in_loop
async def test_a_subscription_is_confirmed_when_its_streams_are_live() -> None:
    house = House()
    client = house.heart.member()
    client.say("subscribe", room("1"))
    await settle()
    assert client.heard == []
    assert house.interest.wanted == {"1"}
    assert house.interest.asked == ["1"]
    await house.interest.be_live()
    assert said(client) == [CONFIRMED]
    house.heart.publish("1", "hello")
    assert client.messages == ["hello"]


@in_loop
async def test_one_whose_streams_are_live_is_confirmed_at_once() -> None:
    house = House(is_live=True)
    client = house.heart.member()
    client.say("subscribe", room("1"))
    assert said(client) == [CONFIRMED]
    assert client.session.inbox is None


@pytest.mark.parametrize("is_slow", [True, False])
@in_loop
async def test_commands_of_a_client_wait_in_order(is_slow: bool) -> None:
    house = House()
    client = house.heart.member()
    answer = house.application.later("subscribe") if is_slow else None
    client.say("subscribe", room("1"))
    for number in range(3):
        client.say("message", room("1"), data=str(number))
    client.say("unsubscribe", room("1"))
    if answer is not None:
        answer.set_result(confirming(room("1")))
    await settle()
    assert performed(house) == client.heard == []
    await house.interest.be_live()
    assert performed(house) == ["0", "1", "2"]
    assert said(client) == [CONFIRMED]
    assert house.interest.wanted == set()


@in_loop
async def test_other_clients_do_not_wait() -> None:
    house = House()
    client, other = house.heart.member(), house.heart.member()
    client.say("subscribe", room("1"))
    house.application.prepare("subscribe", Decision(replies=confirming(room("2")).replies))
    other.say("subscribe", room("2"))
    assert said(other) == [CONFIRMED]


@in_loop
async def test_an_action_that_starts_streams_is_answered_when_they_are_live() -> None:
    house = House(is_live=True)
    client = house.heart.member("1")
    house.interest.is_live = False
    started = Decision(streams=(Stream("2"),), transmissions=('{"done":true}',))
    house.application.prepare("perform", started)
    client.say("message", room("1"), data="{}")
    await settle()
    assert client.heard == []
    await house.interest.be_live()
    assert client.heard == [{"done": True}]


@in_loop
async def test_a_decision_that_starts_no_stream_waits_for_none() -> None:
    house = House()
    client = house.heart.member()
    house.application.prepare("subscribe", Decision(replies=confirming(room("1")).replies))
    client.say("subscribe", room("1"))
    assert said(client) == [CONFIRMED]
    assert house.interest.asked == []


@in_loop
async def test_a_decision_that_ends_the_session_is_answered_first() -> None:
    house = House()
    client = house.heart.member()
    house.application.prepare(
        "subscribe",
        Decision(streams=(Stream("1"),), replies=confirming(room("1")).replies, disconnect=True),
    )
    client.say("subscribe", room("1"))
    await settle()
    assert client.outbound.goodbye is None
    await house.interest.be_live()
    assert said(client)[0] == CONFIRMED
    assert client.outbound.goodbye is not None


@pytest.mark.parametrize("turns", [0, 1, 5])
@in_loop
async def test_nothing_is_kept_of_a_client_that_leaves_meanwhile(turns: int) -> None:
    house = House()
    client = house.heart.member()
    client.say("subscribe", room("1"), history={"since": 1})
    client.say("message", room("1"), data="{}")
    await settle(turns)
    client.leave()
    assert house.interest.wanted == set()
    await house.interest.be_live()
    assert client.heard == []
    assert performed(house) == []
    assert house.history.asked == 0
    assert not house.heart.node._background._running


@in_loop
async def test_a_client_that_is_closed_meanwhile_is_not_answered() -> None:
    house = House()
    client = house.connect("a")
    client.say("subscribe", room("1"))
    await settle()
    again = house.connect("b", resumes="a")
    client.outbound.frames.clear()
    await house.interest.be_live()
    assert client.heard == []
    assert again.heard[0]["restored_ids"] == [room("1")]


# Histories


@in_loop
async def test_the_history_is_read_when_its_streams_are_live() -> None:
    house = House()
    house.keep("1", 1)
    client = house.heart.member()
    client.say("subscribe", room("1"), history={"since": 1})
    await settle()
    house.keep("1", 2)
    assert house.history.asked == 0
    await house.interest.be_live()
    assert said(client) == [CONFIRMED, 1, 2, HISTORY]


@in_loop
async def test_a_resumed_client_receives_its_history_when_its_streams_are_live() -> None:
    house = House(is_live=True)
    client = house.connect("a")
    client.subscribe(room("1"))
    client.leave()
    house.interest.is_live = False
    again = house.connect("b", resumes="a")
    assert said(again) == ["welcome"]
    again.say("history", room("1"), history={"streams": {"1": {"epoch": "e", "offset": 0}}})
    await settle()
    for number in (1, 2):
        house.keep("1", number)
    assert house.history.asked == 0
    await house.interest.be_live()
    assert said(again) == ["welcome", 1, 2, HISTORY]


@pytest.mark.parametrize(
    "request_", [{"since": 1}, {"streams": {"1": {"epoch": "e", "offset": 2}}}]
)
@in_loop
async def test_messages_sent_from_the_history_are_not_sent_again_when_they_arrive(
    request_: dict[str, object],
) -> None:
    """However late: the client had it from this history, or at another node before."""
    house = House(is_live=True)
    house.interest.arrived = Position("e", 0)
    messages = [house.keep("1", number) for number in (1, 2)]
    client = house.heart.member()
    client.say("subscribe", room("1"), history=request_)
    await settle()
    client.outbound.frames.clear()
    assert client.session.inbox is None, "its commands need not wait for that"
    for each in messages:
        house.heart.hub.deliver(each)
    house.heart.hub.deliver(house.keep("1", 3))
    assert client.messages == [3]
    house.interest.arrive()
    assert house.heart.hub._streams[Stream("1")] is client.session.subscriptions[room("1")]
    house.heart.hub.deliver(house.keep("1", 4))
    assert client.messages == [3, 4]


@in_loop
async def test_a_second_history_does_not_bring_again_what_arrives_later() -> None:
    house = House(is_live=True)
    house.interest.arrived = Position("e", 0)
    messages = [house.keep("1", number) for number in (1, 2)]
    client = house.heart.member("1")
    client.say("history", room("1"), history={"since": 1})
    await settle()
    client.say("history", room("1"), history={"since": 9_999_999_999})
    await settle()
    for each in messages:
        house.heart.hub.deliver(each)
    assert said(client) == [1, 2, HISTORY, HISTORY]
    house.interest.arrive()
    house.heart.hub.deliver(house.keep("1", 3))
    assert client.messages == [1, 2, 3]


@in_loop
async def test_a_listener_that_leaves_before_everything_has_arrived_is_forgotten() -> None:
    house = House(is_live=True)
    house.interest.arrived = Position("e", 0)
    house.keep("1", 1)
    client = house.heart.member("1")
    client.say("history", room("1"), history={"since": 1})
    await settle()
    client.leave()
    assert house.interest.wanted == set()
    house.interest.arrive()
    assert house.heart.hub.streams_num == 0


@in_loop
async def test_positions_of_another_epoch_are_not_compared() -> None:
    house = House(is_live=True)
    house.interest.arrived = Position("e", 0)
    for number in (1, 2):
        house.keep("1", number)
    client = house.heart.member("1")
    client.say("history", room("1"), history={"since": 1})
    await settle()
    house.heart.hub.deliver(Publication(Stream("1"), "3", position=Position("f", 1)))
    house.interest.arrive()
    assert client.messages == [1, 2, 3]


# What every node hears from the publisher itself


@in_loop
async def test_publications_that_every_node_receives_are_delivered_here_and_not_stored() -> None:
    house = House(is_live=True)
    client = house.heart.member("1")
    sent: list[object] = []
    node = Heart(history=house.history, pubsub=Sending(sent)).node
    assert (
        node.publications.publish_locally(json.dumps({"stream": "1", "data": "0"}).encode()) is None
    )
    assert (
        house.heart.node.publications.publish_locally(
            json.dumps({"stream": "1", "data": "1"}).encode()
        )
        is None
    )
    assert client.messages == [1]
    assert "offset" not in client.heard[-1]
    assert house.history.since(Stream("1"), 0) == ()
    assert sent == []
    assert house.heart.counters.publications_total == 1


class Sending:
    """Satisfies :class:`catenary.ports.PubSub`; notes what it is asked to send."""

    def __init__(self, sent: list[object]) -> None:
        self._sent = sent

    def send(self, publications: tuple[object, ...], entry: object = None) -> None:
        self._sent += publications

    def relay(self, command: RemoteDisconnect) -> None:
        self.send((command,))


# What the interest hears, whatever happens


class World:
    """Clients in rooms; ``heart`` has the real interest's contract checked at every call."""

    def __init__(self) -> None:
        self.house = House(is_live=True)
        self.heart = self.house.heart
        self.clients: list[Client] = []
        self.numbers = itertools.count()

    async def do(self, action: str, number: int, name: str) -> None:
        client = self.clients[number % len(self.clients)] if self.clients else None
        position = {"streams": {name: {"epoch": "e", "offset": 0}}}
        match action:
            case "connect":
                self.clients.append(self.house.connect(f"c{len(self.house.application.calls)}"))
            case "come back" if client is not None:
                sid = f"r{next(self.numbers)}"
                self.clients.append(self.house.connect(sid, resumes=client.session.sid))
            case "leave" if client is not None:
                self.clients.remove(client)
                client.leave()
            case "publish":
                for _ in range(number):
                    self.heart.hub.deliver(self.house.keep(name, number))
                return  # in the middle of the delivery comes what comes next
            case "subscribe" | "unsubscribe" if client is not None:
                client.say(action, room(name))
            case "subscribe to history" if client is not None:
                client.say("subscribe", room(name), history=position)
            case "history" if client is not None:
                client.say("history", room(name), history=position)
            case "tick":
                self.heart.node.tick()
            case "turn":
                await settle(1)
        if number % 2:
            await settle(number)

    def check(self) -> None:
        wanted = {
            stream
            for client in self.clients
            if not client.session.inbox
            for each in client.session.subscriptions.values()
            for stream in each.streams
        }
        assert wanted <= self.house.interest.wanted
        assert len(self.house.interest.wanted) == self.heart.hub.streams_num


@given(
    actions=st.lists(
        st.tuples(
            st.sampled_from(
                [
                    *["connect", "subscribe", "unsubscribe", "subscribe to history", "history"],
                    *["come back", "leave", "publish", "publish", "tick", "turn"],
                ]
            ),
            st.integers(0, 5),
            st.sampled_from(["1", "2"]),
        ),
        max_size=50,
    )
)
@settings(max_examples=300, deadline=None)
def test_the_interest_is_notified_only_of_first_and_last_listeners(
    actions: list[tuple[str, int, str]],
) -> None:
    async def play() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(hub, "TURN", 2)
            world = World()
            for _ in range(3):
                await world.do("connect", 0, "1")
            for action, number, name in actions:
                await world.do(action, number, name)
                world.check()
            for client in world.clients:
                client.leave()
            await settle()
            assert world.house.interest.wanted == set()
            assert world.heart.hub.streams_num == 0

    asyncio.run(play())
