"""Messages of other nodes are delivered in order and once, and none is missing that the history has, whatever happens to
connections."""

import asyncio
import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catenary.adapters import pacing
from catenary.adapters import stream_recovery as recovery_module
from catenary.adapters.interest import StreamInterest
from catenary.adapters.memory.history import LocalHistory
from catenary.adapters.stream_recovery import HELD_LIMIT, StreamRecovery
from catenary.errors import BackendError
from catenary.messages.names import Stream
from catenary.messages.publications import (
    Position,
    Publication,
    Publishable,
    RemoteDisconnect,
)
from catenary.metrics.counters import Counters
from tests.parts.heart import in_loop, settle
from tests.parts.slow_history import SlowHistory

NEWS, OTHER = Stream("news"), Stream("other")


class Clock:
    """Whole seconds, which go by when a test says so."""

    now = 1_000.0


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time of day, and no pause before a history is read again."""
    clock = Clock()
    monkeypatch.setattr(recovery_module, "PAUSE_S", 0)
    return clock


class Storage(SlowHistory):
    """The history of the engine, which may lose everything."""

    def __init__(self, clock: Clock, *, limit: int = 1_000) -> None:
        self.clock = clock
        self.limit = limit
        self.epoch = 0
        self.newest_offsets: dict[Stream, int] = {}
        super().__init__(self._new_epoch(), is_early=True)

    def lose_everything(self) -> None:
        self.kept = self._new_epoch()

    def _new_epoch(self) -> LocalHistory:
        self.epoch += 1
        self.newest_offsets.clear()
        return LocalHistory(
            limit=self.limit,
            ttl_s=1_000_000,
            epoch=f"e{self.epoch}",
            clock=lambda: self.clock.now,
        )

    def append(self, publication: Publication) -> Publication:
        kept = super().append(publication)
        if kept.position is not None:
            self.newest_offsets[kept.stream] = kept.position.offset
        return kept

    def newest(self, stream: Stream) -> Position:
        return Position(f"e{self.epoch}", self.newest_offsets.get(stream, 0))


class Node:
    """One node: its engine, and what it heard on each stream, by the numbers of messages."""

    def __init__(self, clock: Clock, *, keeps: bool = True, limit: int = 1_000) -> None:
        self.clock = clock
        self.history = Storage(clock, limit=limit)
        self.interest = StreamInterest(lambda: clock.now)
        self.counters = Counters()
        self.heard: dict[Stream, list[int]] = {}
        self.commands: list[RemoteDisconnect] = []
        self.recovery = StreamRecovery(
            self.interest,
            self._deliver,
            self.history if keeps else None,
            self.counters,
            clock=lambda: clock.now,
        )
        self.published = 0

    def _deliver(self, publication: Publishable) -> None:
        if isinstance(publication, RemoteDisconnect):
            self.commands.append(publication)
        else:
            self.heard[publication.stream].append(int(publication.data))

    def listen(self, stream: Stream = NEWS) -> list[int]:
        """What is heard from now on."""
        heard = self.heard[stream] = []
        self.interest.listen(stream)
        return heard

    def listen_up(self, stream: Stream = NEWS) -> list[int]:
        """The same, with everything known of the stream."""
        heard = self.listen(stream)
        self.recovery.begin_stream(stream, self.history.newest(stream))
        return heard

    def publish(self, stream: Stream = NEWS, *, transient: bool = False) -> Publication:
        """On its way; not arrived."""
        self.clock.now += 1
        self.published += 1
        return self.history.append(Publication(stream, str(self.published), transient=transient))

    def arrive(self, publication: Publication) -> None:
        position = publication.position
        self.recovery.receive(publication, 0 if position is None else position.offset - 1)

    async def answer(self, *errors: Exception) -> None:
        """Lets the history answer, with errors first, until it owes nothing more."""
        failures = list(errors)
        await settle()
        while self.history.asked:
            self.history.release(failures.pop(0) if failures else None)
            await settle()
        assert not failures


@in_loop
async def test_messages_in_order_are_delivered_at_once_without_a_read(
    clock: Clock,
) -> None:
    node = Node(clock)
    heard = node.listen_up()
    for _ in range(3):
        node.arrive(node.publish())
    assert heard == [1, 2, 3]
    await settle()
    assert node.history.asked == []
    assert node.counters.pubsub_caught_up_total == 0


@in_loop
async def test_a_message_without_subscribers_is_dropped(clock: Clock) -> None:
    node = Node(clock)
    node.arrive(node.publish())
    assert node.heard == {}


@in_loop
async def test_commands_arrive(clock: Clock) -> None:
    node = Node(clock)
    command = RemoteDisconnect("somebody", reconnect=False)
    node.recovery.receive(command)
    assert node.commands == [command]


@in_loop
async def test_a_repeated_message_is_delivered_once(clock: Clock) -> None:
    node = Node(clock)
    heard = node.listen_up()
    messages = [node.publish() for _ in range(3)]
    for each in (*messages, *messages):
        node.arrive(each)
    assert heard == [1, 2, 3]


@in_loop
async def test_a_gap_is_read_and_what_comes_meanwhile_waits(clock: Clock) -> None:
    node = Node(clock)
    heard = node.listen_up()
    messages = [node.publish() for _ in range(4)]
    node.arrive(messages[0])
    node.arrive(messages[2])
    node.arrive(node.publish(transient=True))
    node.arrive(messages[3])
    await settle()
    assert heard == [1]
    await node.answer()
    assert heard == [1, 2, 3, 4, 5]
    assert node.counters.pubsub_caught_up_total == 1
    assert node.counters.pubsub_gaps_total == 0


@in_loop
async def test_a_second_gap_after_the_first_read_is_read_too(clock: Clock) -> None:
    """The history answers with what it had when it was asked."""
    node = Node(clock)
    heard = node.listen_up()
    node.publish()
    node.arrive(node.publish())
    await settle()
    node.publish()
    node.arrive(node.publish())
    await node.answer()
    assert heard == [1, 2, 3, 4]


@in_loop
async def test_messages_of_an_outage_are_read_after_it(clock: Clock) -> None:
    node = Node(clock)
    heard = node.listen_up()
    node.arrive(node.publish())
    node.publish()
    node.recovery.resume_stream(NEWS, node.history.newest(NEWS))
    await node.answer()
    assert heard == [1, 2]
    node.recovery.resume_stream(NEWS, node.history.newest(NEWS))
    await settle()
    assert node.history.asked == []


@in_loop
async def test_an_outage_while_a_gap_is_read_is_read_as_well(clock: Clock) -> None:
    node = Node(clock)
    heard = node.listen_up()
    node.publish()
    node.arrive(node.publish())
    await settle()
    node.publish()
    node.recovery.resume_stream(NEWS, node.history.newest(NEWS))
    await node.answer()
    assert heard == [1, 2, 3]


@in_loop
async def test_the_first_messages_of_a_stream_in_an_outage_are_read(clock: Clock) -> None:
    """It was begun when there was nothing, or while the engine was away."""
    node = Node(clock)
    heard = node.listen()
    node.publish()
    node.recovery.resume_stream(NEWS, node.history.newest(NEWS))
    await node.answer()
    assert heard == [1]


@in_loop
async def test_one_that_comes_before_an_outage_is_known_to_be_over_waits_for_those_before_it(
    clock: Clock,
) -> None:
    node = Node(clock)
    heard = node.listen()
    node.publish()
    node.interest.up()
    node.arrive(node.publish())
    node.recovery.resume_stream(NEWS, node.history.newest(NEWS))
    await node.answer()
    assert heard == [1, 2]


@in_loop
async def test_messages_from_before_the_subscription_are_not_read(clock: Clock) -> None:
    node = Node(clock)
    node.publish()
    clock.now += 1
    heard = node.listen()
    node.recovery.resume_stream(NEWS, node.history.newest(NEWS))
    await node.answer()
    assert heard == []
    node.arrive(node.publish())
    assert heard == [2]
    assert node.history.asked == []


@in_loop
async def test_a_late_message_of_an_earlier_subscription_is_delivered_without_a_read(
    clock: Clock,
) -> None:
    node = Node(clock)
    node.publish()
    node.interest.up()
    heard = node.listen()
    node.arrive(node.publish())
    assert heard == [2]
    assert node.counters.pubsub_caught_up_total == 0


@in_loop
async def test_a_history_that_is_away_is_asked_again_and_one_line_says_so(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(clock)
    heard = node.listen_up()
    others = node.listen_up(OTHER)
    for stream in (NEWS, OTHER):
        node.publish(stream)
        node.arrive(node.publish(stream))
    with caplog.at_level(logging.INFO, "catenary.pubsub"):
        await node.answer(*[BackendError("away")] * 6)
    assert (heard, others) == ([1, 2], [3, 4])
    assert len(caplog.records) == 1


@in_loop
async def test_a_fault_of_the_history_costs_what_is_missing_and_no_more(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(clock)
    heard = node.listen_up()
    node.publish()
    node.arrive(node.publish())
    await node.answer(ZeroDivisionError())
    node.arrive(node.publish())
    assert heard == [2, 3]
    assert node.counters.pubsub_gaps_total == 1
    assert "Reading missing messages" in caplog.text


@in_loop
async def test_lost_messages_are_counted_and_the_others_delivered(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(clock, limit=2)
    heard = node.listen_up()
    node.arrive(node.publish())
    node.recovery.note_alive()
    for _ in range(4):
        node.publish()
    node.arrive(node.publish())
    await node.answer(BackendError("away"))
    assert heard == [1, 5, 6]
    assert node.counters.pubsub_gaps_total == 1
    assert "streams whose history is gone: 1" in caplog.text


@in_loop
async def test_a_history_that_is_lost_costs_one_line_however_many_streams_there_are(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(clock)
    streams = [Stream(f"s{number}") for number in range(100)]
    for stream in streams:
        node.listen_up(stream)
        node.arrive(node.publish(stream))
    for outage in range(2):
        node.history.lose_everything()
        for stream in streams:
            node.recovery.resume_stream(stream, node.history.newest(stream))
        await node.answer(*[BackendError("away")] * outage)
        lines = [record.getMessage() for record in caplog.records]
        assert lines.count("Messages may be lost; streams whose history is gone: 100") == (
            outage + 1
        )
    # And one of the trouble in between
    assert len(caplog.records) == 3


@in_loop
async def test_a_new_epoch_begins_with_its_first_message(clock: Clock) -> None:
    node = Node(clock)
    heard = node.listen_up()
    node.arrive(node.publish())
    node.history.lose_everything()
    node.arrive(node.publish())
    assert heard == [1, 2]
    assert node.history.asked == []


@in_loop
async def test_held_messages_of_an_old_epoch_come_before_the_new_epoch_and_once(
    clock: Clock,
) -> None:
    node = Node(clock)
    heard = node.listen_up()
    node.arrive(node.publish())
    node.publish()
    node.arrive(node.publish())  # held: 2 is missing
    node.history.lose_everything()
    await settle()
    node.history.asked.clear()
    node.recovery.note_alive()
    node.publish()
    node.arrive(node.publish())
    for task in list(node.recovery._tasks):
        task.cancel()
    cursor = node.interest.cursors[NEWS]
    node.recovery._catch_up(NEWS, cursor, cursor.held or [])
    await node.answer()
    node.arrive(node.publish())
    assert heard == [1, 3, 4, 5, 6]


@in_loop
async def test_so_many_may_wait_and_those_beyond_are_read(clock: Clock) -> None:
    node = Node(clock, limit=10_000)
    heard = node.listen_up()
    node.publish()
    node.arrive(node.publish())
    await settle()
    for _ in range(HELD_LIMIT + 49):
        node.arrive(node.publish())
    cursor = node.interest.cursors[NEWS]
    assert cursor.held is not None
    assert len(cursor.held) == HELD_LIMIT
    node.arrive(node.publish(transient=True))
    assert node.counters.pubsub_gaps_total == 1
    await node.answer()
    assert heard == list(range(1, HELD_LIMIT + 52))
    node.arrive(node.publish())
    assert heard[-1] == HELD_LIMIT + 53


@in_loop
async def test_without_a_history_order_is_all_there_is(clock: Clock) -> None:
    node = Node(clock, keeps=False)
    heard = node.listen()
    messages = [node.publish() for _ in range(3)]
    node.arrive(messages[0])
    node.arrive(messages[2])
    node.arrive(messages[1])
    assert heard == [1, 3]


@in_loop
async def test_a_subscriber_that_leaves_during_a_read_gets_nothing_and_the_next_one_starts_again(
    clock: Clock,
) -> None:
    node = Node(clock)
    heard = node.listen_up()
    node.publish()
    node.arrive(node.publish())
    await settle()
    node.interest.unlisten(NEWS)
    again = node.listen_up()
    await node.answer()
    node.arrive(node.publish())
    assert (heard, again) == ([], [3])


@in_loop
async def test_a_client_that_has_read_ahead_continues_when_the_messages_are_gone(
    clock: Clock,
) -> None:
    """Nothing is found of what is newest: it is not kept any more."""
    node = Node(clock)
    node.publish()
    clock.now += 1
    heard = node.listen()
    newest = node.history.newest(NEWS)
    called: list[Position] = []
    assert not node.interest.has_arrived(NEWS, newest)
    node.interest.call_when_arrived(NEWS, newest, lambda: called.append(newest))
    node.recovery.resume_stream(NEWS, newest)
    await node.answer()
    await settle()
    assert called == [newest]
    assert heard == []


@in_loop
async def test_nothing_is_read_after_close(clock: Clock) -> None:
    node = Node(clock)
    heard = node.listen_up()
    node.publish()
    node.arrive(node.publish())
    await settle()
    await node.recovery.close()
    assert heard == []
    assert not node.recovery._tasks


# Whatever happens, in whatever order


class World:
    """A server, a way that breaks, and a node. ``due`` is from when on each stream must be heard."""

    def __init__(self, clock: Clock) -> None:
        self.node = Node(clock)
        self.way: list[Publication] = []
        self.subscribed: set[Stream] = set()
        self.is_up = False
        self.periods: list[list[int]] = []
        self.due: dict[Stream, int] = {}
        self.lost: set[int] = set()
        self.streams: dict[int, Stream] = {}

    def publish(self, stream: Stream) -> None:
        message = self.node.publish(stream)
        self.streams[self.node.published] = stream
        if stream in self.subscribed:
            self.way.append(message)

    def toggle(self, stream: Stream) -> None:
        if stream in self.node.interest.cursors:
            self.node.interest.unlisten(stream)
            self.due.pop(stream, None)
            return
        self.periods.append(self.node.listen(stream))
        if not self.is_up:
            self.due[stream] = self.node.published

    async def tell(self, *, is_busy: bool) -> None:
        """The engine is told of the changes, while others publish."""
        task = asyncio.create_task(self.node.interest.changes())
        await settle(2)
        if not task.done():
            task.cancel()
            return
        changes = task.result()
        for stream in changes.added:
            self.node.recovery.begin_stream(stream, self.node.history.newest(stream))
            if is_busy:
                self.publish(stream)
        self.subscribed -= set(changes.removed)
        self.subscribed |= set(changes.added)
        self.node.interest.in_force(changes)
        for stream in changes.added:
            self.due[stream] = self.node.published

    def down(self) -> None:
        self.is_up = False
        self.node.interest.down()
        self.way.clear()
        self.subscribed.clear()
        for stream in self.node.interest.cursors:
            self.due.setdefault(stream, self.node.published)

    def up(self, *, is_busy: bool) -> None:
        self.is_up = True
        streams = self.node.interest.up()
        self.subscribed = set(streams)
        if is_busy:
            for stream in streams:
                self.publish(stream)
                self.deliver()
        for stream in streams:
            self.node.recovery.resume_stream(stream, self.node.history.newest(stream))

    def deliver(self) -> None:
        if self.way:
            self.node.arrive(self.way.pop(0))
        elif self.is_up:
            self.node.recovery.note_alive()

    def restart(self) -> None:
        """The server comes back, and knows nothing."""
        self.lost |= set(range(1, self.node.published + 1))
        self.node.history.lose_everything()
        self.node.clock.now += 1

    async def do(self, action: str, stream: Stream) -> None:
        match action:
            case "publish":
                self.publish(stream)
            case "toggle":
                self.toggle(stream)
            case "tell" | "tell busily" if self.is_up:
                await self.tell(is_busy=action == "tell busily")
            case "deliver":
                self.deliver()
            case "lose" if self.way:
                self.way.pop(0)
            case "repeat" if self.way:
                self.node.arrive(self.way[0])
            case "break":
                self.down()
            case "mend" | "mend busily" if not self.is_up:
                self.up(is_busy=action == "mend busily")
            case "restart" if not self.is_up:
                self.restart()
            case "answer" | "fail" if self.node.history.asked:
                self.node.history.release(BackendError("away") if action == "fail" else None)
            case "read late":
                self.node.history.is_early = False
            case "read early":
                self.node.history.is_early = True
        await settle(8)

    async def finish(self) -> None:
        """Everything is mended, arrives and is answered; then a last outage shows what is missing."""
        while self.way:
            self.deliver()
        await self.node.answer()
        self.down()
        self.up(is_busy=False)
        await self.node.answer()
        await self.node.recovery.close()


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *["publish", "deliver"] * 4,
                *["toggle", "tell", "tell busily", "lose", "repeat", "answer", "fail"],
                *["break", "mend", "mend busily", "restart", "read late", "read early"],
            ]
        ),
        st.sampled_from([NEWS, NEWS, OTHER]),
    ),
    max_size=60,
)


@pytest.mark.parametrize("budget", [pacing.BUDGET_BYTES, 1])
@given(actions=ACTIONS)
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_everything_is_heard_once_in_order_whatever_becomes_of_the_way(
    clock: Clock, budget: int, actions: list[tuple[str, Stream]]
) -> None:
    """Also if each message is delivered in a turn of its own."""

    async def play() -> None:
        world = World(clock)
        for action, stream in [("mend", NEWS), ("toggle", NEWS), ("tell", NEWS), *actions]:
            await world.do(action, stream)
        await world.finish()
        for heard in world.periods:
            assert heard == sorted(set(heard)), "in order, and nothing twice"
        for stream, due in world.due.items():
            missing = {
                number for number, each in world.streams.items() if each == stream and number > due
            }
            assert missing - world.lost <= set(world.node.heard[stream])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pacing, "BUDGET_BYTES", budget)
        patch.setattr(pacing, "SLICE_BYTES", min(pacing.SLICE_BYTES, budget))
        asyncio.run(play())


@in_loop
async def test_a_reading_that_is_cancelled_by_mistake_begins_again(clock: Clock) -> None:
    node = Node(clock)
    heard = node.listen_up()
    node.publish()
    node.arrive(node.publish())
    await settle()
    (task,) = node.recovery._tasks
    task.cancel()
    await node.answer()
    assert heard == [1, 2]
    node.arrive(node.publish())
    assert heard == [1, 2, 3]
    await node.recovery.close()


@in_loop
async def test_a_message_of_the_epoch_before_is_delivered_once_and_disturbs_nothing() -> None:
    """A primary that hung sends it after its replica has taken over."""
    interest = StreamInterest()
    interest.up()
    received: list[Publishable] = []
    counters = Counters()
    recovery = StreamRecovery(interest, received.append, None, counters)
    interest.listen(NEWS)
    interest.in_force(await interest.changes())
    for epoch, offset in (("a", 1), ("a", 2), ("b", 1), ("a", 2), ("a", 3), ("a", 3), ("b", 2)):
        position = Position(epoch, offset)
        recovery.receive(Publication(NEWS, f"{epoch}{offset}", position=position), offset - 1)
    assert [each.data for each in received if isinstance(each, Publication)] == [
        *("a1", "a2", "b1", "a3", "b2")
    ]
    cursor = interest.cursors[NEWS]
    assert cursor.position == Position("b", 2)
