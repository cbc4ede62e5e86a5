"""Which worker a call is sent to, and what becomes of calls for which none is free."""

import asyncio
from collections.abc import Awaitable

import pytest

from catenary.codeworkers import call_queue, messages
from catenary.codeworkers.call_queue import CallQueue
from catenary.codeworkers.link import WorkerCall, WorkerLink
from catenary.errors import AppNotReached, AppUnavailable
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from catenary.metrics.counters import Counters
from catenary.node.reads import Reads
from tests.codeworkers.direct_pool import DirectPool, run
from tests.parts.heart import in_loop


class Nobody:
    def publish(self, raw: bytes, *, trace: str = "") -> Awaitable[None] | None:
        raise NotImplementedError


def link_of(queue: CallQueue) -> WorkerLink:
    """A link without a process: calls are sent, and never answered."""
    return WorkerLink(
        Nobody(),
        Reads(None, None),
        Counters(),
        freed=queue.send_waiting,
        lost=queue.remove_link,
        counted=lambda _: None,
    )


def a_call(queue: CallQueue) -> WorkerCall:
    environment = Environment(Sid("s1"), "ws://x/", {})
    return WorkerCall(
        messages.PERFORM,
        environment,
        Identifier("{}"),
        "{}",
        (),
        trace="",
        loop=asyncio.get_running_loop(),
        abandon=queue.withdraw,
    )


@in_loop
async def test_a_call_is_sent_to_the_least_busy_worker() -> None:
    queue = CallQueue(0, Counters())
    links = [link_of(queue) for _ in range(3)]
    queue.replace_links(links)
    for _ in range(7):
        queue.submit(a_call(queue))
    assert sorted(len(link.calls) for link in links) == [2, 2, 3]


@in_loop
async def test_calls_beyond_the_limit_wait_for_the_next_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(call_queue, "CALLS_LIMIT", 1)
    counters = Counters()
    queue = CallQueue(0, counters)
    queue.replace_links([link_of(queue)])
    calls = [a_call(queue) for _ in range(3)]
    for call in calls:
        queue.submit(call)
    assert counters.rpc_pending_num == 2
    another = link_of(queue)
    queue.add_link(another)
    assert calls[1].link is another
    assert calls[2].link is None
    assert (counters.rpc_pending_num, counters.app_workers_num) == (1, 2)


@in_loop
async def test_a_worker_that_died_before_it_was_added_gets_no_calls() -> None:
    """It would never answer, and nothing would remove it."""
    counters = Counters()
    queue = CallQueue(0, counters)
    dead = link_of(queue)
    dead.ipc.connection_lost(None)
    queue.add_link(dead)
    call = a_call(queue)
    queue.submit(call)
    assert call.link is None
    assert (counters.rpc_pending_num, counters.app_workers_num) == (1, 0)


@in_loop
async def test_waiting_calls_fail_when_the_server_shuts_down() -> None:
    counters = Counters()
    queue = CallQueue(0, counters)
    call = a_call(queue)
    queue.submit(call)
    queue.fail_waiting("the server is shutting down")
    with pytest.raises(AppUnavailable, match="shutting down"):
        await call
    assert (counters.rpc_pending_num, counters.rpc_error_total) == (0, 1)


@in_loop
async def test_each_call_waits_for_its_own_time() -> None:
    loop = asyncio.get_running_loop()
    counters = Counters()
    queue = CallQueue(0.05, counters)
    begins, ends = [], []
    calls = []
    for _ in range(2):
        begins.append(loop.time())
        calls.append(a_call(queue))
        calls[-1].add_done_callback(lambda _: ends.append(loop.time()))
        queue.submit(calls[-1])
        await asyncio.sleep(0.02)
    for call in calls:
        with pytest.raises(AppNotReached, match="no code worker was free in time"):
            await call
    assert all(end - begin >= 0.05 for begin, end in zip(begins, ends, strict=True))
    assert (counters.rpc_pending_num, counters.rpc_timeout_total) == (0, 2)


@pytest.mark.usefixtures("directory")
def test_waiting_calls_are_carried_out_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_queue, "CALLS_LIMIT", 1)

    async def scenario(direct: DirectPool) -> None:
        first = direct.perform("wait_for", ',"file":"go"')
        dropped, second = direct.perform("publish"), direct.perform("once")
        assert direct.counters.rpc_pending_num == 2
        assert isinstance(dropped, WorkerCall)
        assert dropped.cancel()
        assert dropped.cancelled()
        assert direct.counters.rpc_pending_num == 1
        await direct.until_done("waiting")
        (direct.directory / "go").touch()
        await first
        await second
        assert direct.done() == ["waiting", "once"]
        assert direct.host.publications == []

    run(scenario)


@pytest.mark.usefixtures("directory")
def test_a_worker_that_is_free_again_takes_calls_after_others_expired(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(call_queue, "CALLS_LIMIT", 1)

    async def scenario(direct: DirectPool) -> None:
        first = direct.perform("wait_for", ',"file":"go"')
        for expired in [direct.perform("once") for _ in range(2)]:
            with pytest.raises(AppNotReached):
                await expired
        (direct.directory / "go").touch()
        await first
        await direct.perform("once")
        assert direct.done() == ["waiting", "once"]

    run(scenario, queue_timeout_s=0.2)
