"""Large batches that are sent over several turns, and what is sent meanwhile."""

import asyncio
from collections.abc import Awaitable

import pytest

from catenary.adapters.send_queue import Send, SendQueue
from catenary.errors import BackendError
from catenary.metrics.counters import Counters
from tests.parts.heart import in_loop, settle


class Sender:
    """A large send takes until the test opens ``gate``; ``sent`` are those that are sent, in order."""

    def __init__(self, limit: int = 100) -> None:
        self.counters = Counters()
        self.queue = SendQueue(self.counters, limit)
        self.gate = asyncio.Event()
        self.sent: list[str] = []

    def large(self, name: str) -> Awaitable[None]:
        async def send() -> None:
            await self.gate.wait()
            self.sent.append(name)

        return self.queue.add(10, send)

    def small(self, name: str, answer: "asyncio.Future[None] | None" = None) -> Awaitable[None]:
        async def send() -> "asyncio.Future[None] | None":
            self.sent.append(name)
            return answer

        return self.queue.add(1, send)


def failing(error: Exception) -> Send:
    async def send() -> None:
        raise error

    return send


@in_loop
async def test_calls_run_in_the_order_in_which_they_were_added() -> None:
    one = Sender()
    calls = [one.large("1"), one.small("2"), one.large("3"), one.small("4")]
    await settle()
    assert one.sent == []
    assert not one.queue.is_idle
    one.gate.set()
    for each in calls:
        await each
    assert one.sent == ["1", "2", "3", "4"]
    await settle()
    assert one.queue.is_idle
    await one.small("5")
    assert one.sent[4:] == ["5"]


@in_loop
async def test_no_call_waits_for_the_answer_to_another() -> None:
    one = Sender()
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    first, second = asyncio.ensure_future(one.small("1", answer)), one.small("2")
    await second
    assert not first.done()
    answer.set_result(None)
    await first


@in_loop
async def test_an_error_is_raised_where_its_call_is_awaited_and_stops_no_other() -> None:
    one = Sender()
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    refused = one.queue.add(1, failing(BackendError("refused")))
    unanswered = one.small("1", answer)
    sent = one.small("2")
    answer.set_exception(BackendError("unanswered"))
    with pytest.raises(BackendError, match="refused"):
        await refused
    with pytest.raises(BackendError, match="unanswered"):
        await unanswered
    await sent
    assert one.sent == ["1", "2"]


@in_loop
async def test_a_caller_that_is_cancelled_does_not_cancel_what_it_sends() -> None:
    one = Sender()
    left = asyncio.ensure_future(one.large("1"))
    await settle()
    left.cancel()
    one.gate.set()
    await one.small("2")
    assert one.sent == ["1", "2"]


@in_loop
async def test_what_waits_has_a_limit() -> None:
    one = Sender(limit=20)
    calls = [one.large("1")]
    await settle()
    calls += [one.large("2"), one.large("3")]
    with pytest.raises(BackendError, match="too many"):
        await one.small("4")
    assert one.counters.pubsub_refused_total == 1
    one.gate.set()
    for each in calls:
        await each
    await one.small("5")
    assert one.sent == ["1", "2", "3", "5"]


@in_loop
async def test_a_batch_beyond_the_limit_is_sent_if_nothing_waits() -> None:
    one = Sender(limit=5)
    one.gate.set()
    await one.large("1")
    assert one.sent == ["1"]


@pytest.mark.parametrize("turns", [0, 5])
@in_loop
async def test_a_worker_that_is_cancelled_is_replaced(turns: int) -> None:
    """Before its first step, nothing in it can catch that."""
    one = Sender()
    calls = [one.large("1"), one.small("2")]
    await settle(turns)
    worker = one.queue._worker
    assert worker is not None
    worker.cancel()
    one.gate.set()
    if turns:
        with pytest.raises(BackendError, match="cancelled"):
            await calls[0]
    await calls[1]
    assert one.sent == (["2"] if turns else ["1", "2"])
