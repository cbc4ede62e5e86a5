"""Histories, sessions and presence of every broker, and messages of other nodes."""

import asyncio
from collections.abc import Callable

import pytest

from catenary.adapters.interest import StreamInterest
from catenary.adapters.memory.history import LocalHistory
from catenary.adapters.nats.pending_requests import PendingRequests
from catenary.adapters.ordered_intake import OrderedIntake
from catenary.adapters.stream_recovery import StreamRecovery
from catenary.broker.presence_set import PresenceSet
from catenary.broker.session_cache import Snapshots
from catenary.broker.stream_log import StreamLog
from catenary.broker.timer_wheel import TimerWheel
from catenary.errors import BackendError
from catenary.messages.names import Sid, Stream
from catenary.messages.publications import Position, Publication, Publishable, parse
from catenary.metrics.counters import Counters
from catenary.node.reads import Reads
from tests.growth.measure import Case, Work, assert_near_linear, for_each

S = Stream("s")


def sids(size: int) -> list[Sid]:
    return [Sid(f"sid-{number}") for number in range(size)]


def streams(size: int) -> list[Stream]:
    return [Stream(f"stream-{number}") for number in range(size)]


def message(stream: Stream = S, offset: int | None = None) -> Publication:
    position = None if offset is None else Position("e", offset)
    return Publication(stream, "1", position=position)


# A stream's messages


def messages_beyond_the_limit(size: int) -> Work:
    """The limit grows, too: each message drops one of so many. None is old enough to expire."""
    log = StreamLog(limit=size, ttl_s=60, epoch="e")
    return lambda: [log.append(message(), number / size) for number in range(2 * size)]


def messages_grow_old(size: int) -> Work:
    log = StreamLog(limit=size, ttl_s=size, epoch="e")
    return lambda: [log.append(message(), number) for number in range(2 * size)]


def positions_are_read(size: int) -> Work:
    log = StreamLog(limit=size, ttl_s=60, epoch="e")
    for number in range(size):
        log.append(message(), number / size)
    return lambda: [log.after(Position("e", size - 1), 1) for _ in range(size)]


def moments_are_read(size: int) -> Work:
    log = StreamLog(limit=size, ttl_s=60, epoch="e")
    for number in range(size):
        log.append(message(), number / size)
    return lambda: [log.since((size - 1) / size, 1) for _ in range(size)]


def kept(size: int, now: Callable[[], float] = lambda: 1) -> LocalHistory:
    history = LocalHistory(limit=size, ttl_s=60, epoch="e", clock=now)
    for _ in range(size):
        history.append(message())
    return history


def a_history_is_read_by_pages(size: int) -> Work:
    reads = Reads(kept(size), None)

    async def work() -> None:
        start: int | Position = 0
        more = True
        while more:
            page = await reads.page(S, start, 10)
            assert page.messages[-1].position is not None
            start, more = page.messages[-1].position, page.more

    return work


def streams_are_forgotten(size: int) -> Work:
    now = [1.0]
    history = LocalHistory(limit=10, ttl_s=1, epoch="e", clock=lambda: now[0])
    for each in streams(size):
        history.append(message(each))

    def work() -> None:
        for moment in (10.0, 100.0, 1000.0):
            now[0] = moment
            while history.sweep():
                pass

    return work


# Sessions and members


def deadlines_move(size: int) -> Work:
    wheel = TimerWheel[Sid](60)
    keys = sids(size)

    def work() -> None:
        for now in (0, 30, 60):
            for key in keys:
                wheel.schedule(key, now + 60)
        for key in keys[::2]:
            wheel.cancel(key)
        while wheel.pop_due(1000) is not None:
            pass

    return work


def snapshots_are_saved_touched_and_expire(size: int) -> Work:
    snapshots = Snapshots(60)
    keys = sids(size)

    def work() -> None:
        for key in keys:
            snapshots.save(key, b"{}", 0)
        for key in keys[::2]:
            snapshots.touch(key, 1)
        for key in keys[:10]:
            snapshots.take(key, 2)
        snapshots.expire(1000)

    return work


def members_come_and_expire(size: int) -> Work:
    present = PresenceSet(60)
    keys = sids(size)

    def work() -> None:
        for key in keys:
            present.join(S, key, key, "{}", 0)
        for key in keys[::2]:
            present.leave(S, key)
        for key in keys[1::4]:
            present.touch(key, 50)
        present.members(S)
        present.expire(90)
        present.expire(1000)

    return work


# Messages of other nodes


def interest_in_streams(size: int) -> Work:
    interest = StreamInterest()
    names = streams(size)

    async def work() -> None:
        interest.up()
        for each in names:
            interest.listen(each)
        live = interest.when_live(names)
        interest.in_force(await interest.changes())
        assert live is not None
        await live
        for each in names:
            interest.unlisten(each)
        await interest.changes()
        interest.down()

    return work


def followed(history: LocalHistory | None = None) -> tuple[StreamInterest, StreamRecovery]:
    def deliver(publication: Publishable) -> None:
        pass

    interest = StreamInterest()
    interest.listen(S)
    return interest, StreamRecovery(interest, deliver, history, Counters())


def messages_arrive(size: int) -> Work:
    _, recovery = followed()
    return for_each(range(1, size), lambda offset: recovery.receive(message(S, offset), offset - 1))


def messages_arrive_behind_a_gap(size: int) -> Work:
    _, recovery = followed(kept(size))

    async def work() -> None:
        recovery.receive(message(S, 1))
        for offset in range(3, size):
            recovery.receive(message(S, offset), offset - 1)
        await asyncio.gather(*recovery._tasks)

    return work


def clients_wait_until_a_message_arrives(size: int) -> Work:
    interest, recovery = followed()

    async def work() -> None:
        recovery.receive(message(S, 1))
        called: list[None] = []
        for offset in range(2, size):
            interest.call_when_arrived(S, Position("e", offset), lambda: called.append(None))
        for offset in range(2, size + 1):
            recovery.receive(message(S, offset), offset - 1)
        await asyncio.sleep(0)
        assert len(called) == size - 2

    return work


def publications_wait_for_one_that_takes_long(size: int) -> Work:
    async def work() -> None:
        first = asyncio.get_running_loop().create_future()
        answers = [first]
        intake = OrderedIntake(
            lambda raw: answers.pop() if answers else None,
            Counters(),
            pause=lambda: None,
            resume=lambda: None,
        )
        for _ in range(size):
            intake.add(b"{}")
        first.set_result(None)
        await intake.finish()

    return work


def a_batch_is_read(size: int) -> Work:
    batch = "[" + ",".join('{"stream":"s","data":"1"}' for _ in range(size // 2)) + "]"
    return lambda: parse(batch)


def ignored(headers: bytes, payload: bytes, error: BackendError | None) -> None:
    pass


def asked(requests: PendingRequests, size: int) -> list[bytes]:
    """The subjects on which so many requests are to be answered; each has a second more than the last."""
    subjects = [requests.add("s", ignored, number, is_long=False) for number in range(size)]
    return [each.encode() for each in subjects]


def requests_are_answered(size: int) -> Work:
    requests = PendingRequests()
    subjects = asked(requests, size)

    def work() -> None:
        for now, each in enumerate(subjects):
            requests.receive(each, b"", b"")
            requests.expire(now, BackendError("late"))

    return work


def requests_are_late(size: int) -> Work:
    requests = PendingRequests()
    asked(requests, size)
    return lambda: requests.expire(size, BackendError("late"))


@pytest.mark.parametrize(
    "case",
    [
        messages_beyond_the_limit,
        messages_grow_old,
        positions_are_read,
        moments_are_read,
        a_history_is_read_by_pages,
        streams_are_forgotten,
        deadlines_move,
        snapshots_are_saved_touched_and_expire,
        members_come_and_expire,
        interest_in_streams,
        messages_arrive,
        messages_arrive_behind_a_gap,
        clients_wait_until_a_message_arrives,
        publications_wait_for_one_that_takes_long,
        a_batch_is_read,
        requests_are_answered,
        requests_are_late,
    ],
)
def test_work_of_what_is_kept_is_near_linear(case: Case) -> None:
    assert_near_linear(case)
