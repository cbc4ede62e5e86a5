"""The barrier: never too many, in order, nothing lost."""

import asyncio
from collections.abc import Coroutine

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.metrics.counters import Counters
from catenary.rpc.concurrency import Barrier


def run(scenario: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 10))


async def settle() -> None:
    """Lets everything run that can run."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_free_slot_costs_no_task_switch() -> None:
    barrier = Barrier(1, Counters())
    acquiring = barrier.acquire()
    with pytest.raises(StopIteration):
        acquiring.send(None)
    assert barrier.busy == 1


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_capacity_below_one_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match="expected a capacity of 1 or more"):
        Barrier(capacity, Counters())


def test_slots_go_to_who_has_waited_longest() -> None:
    async def scenario() -> None:
        counters = Counters()
        barrier = Barrier(1, counters)
        order: list[int] = []

        async def take(number: int) -> None:
            await barrier.acquire()
            order.append(number)
            barrier.release()

        await barrier.acquire()
        tasks = [asyncio.create_task(take(number)) for number in range(5)]
        await settle()
        assert counters.rpc_pending_num == 5
        tasks[1].cancel()
        barrier.release()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert order == [0, 2, 3, 4]
        assert (barrier.busy, counters.rpc_pending_num) == (0, 0)

    run(scenario())


def test_a_newcomer_does_not_pass_those_who_wait() -> None:
    async def scenario() -> None:
        barrier = Barrier(1, Counters())
        await barrier.acquire()
        waiter = asyncio.create_task(barrier.acquire())
        await settle()
        barrier.release()  # the slot is the waiter's, though it has not run yet
        newcomer = asyncio.create_task(barrier.acquire())
        await settle()
        assert waiter.done()
        assert not newcomer.done()
        barrier.release()
        await newcomer

    run(scenario())


def test_a_slot_given_to_a_cancelled_waiter_goes_to_the_next() -> None:
    async def scenario() -> None:
        barrier = Barrier(1, Counters())
        await barrier.acquire()
        first, second = (asyncio.create_task(barrier.acquire()) for _ in range(2))
        await settle()
        barrier.release()
        first.cancel()
        await settle()
        assert first.cancelled()
        assert second.done()
        assert barrier.busy == 1

    run(scenario())


def test_a_waiter_that_is_cancelled_in_the_same_moment_is_passed_over() -> None:
    async def scenario() -> None:
        counters = Counters()
        barrier = Barrier(1, counters)
        await barrier.acquire()
        first, second = (asyncio.create_task(barrier.acquire()) for _ in range(2))
        await settle()
        first.cancel()
        barrier.release()
        await settle()
        assert first.cancelled()
        assert second.done()
        assert (barrier.busy, counters.rpc_pending_num) == (1, 0)

    run(scenario())


def test_idle_waits_for_the_last_slot_and_all_who_wait() -> None:
    async def scenario() -> None:
        barrier = Barrier(2, Counters())
        await barrier.idle()
        await barrier.acquire()
        idle = [asyncio.create_task(barrier.idle()) for _ in range(2)]
        await settle()
        assert not any(task.done() for task in idle)
        barrier.release()
        await asyncio.gather(*idle)

    run(scenario())


@given(
    st.integers(1, 3),
    st.lists(
        st.one_of(
            st.just(("acquire", 0)),
            st.tuples(st.sampled_from(["release", "cancel"]), st.integers(0, 20)),
            st.just(("run", 0)),
        ),
        max_size=40,
    ),
)
def test_slots_are_never_too_many_and_never_lost(
    capacity: int, steps: list[tuple[str, int]]
) -> None:
    async def scenario() -> None:
        counters = Counters()
        barrier = Barrier(capacity, counters)
        holders: list[asyncio.Event] = []
        held = 0

        async def hold(until: asyncio.Event) -> None:
            nonlocal held
            await barrier.acquire()
            try:
                held += 1
                assert held <= capacity
                holders.append(until)
                await until.wait()
            finally:
                held -= 1
                barrier.release()

        tasks: list[asyncio.Task[None]] = []
        for step, number in steps:
            match step:
                case "acquire":
                    tasks.append(asyncio.create_task(hold(asyncio.Event())))
                case "release" if holders:
                    holders.pop(number % len(holders)).set()
                case "cancel" if tasks:
                    tasks[number % len(tasks)].cancel()
                case "run":
                    await asyncio.sleep(0)
        while not all(task.done() for task in tasks):
            await settle()
            for until in holders:
                until.set()
        for task in tasks:
            assert task.cancelled() or task.exception() is None
        assert (barrier.busy, counters.rpc_pending_num, held) == (0, 0, 0)
        await barrier.idle()

    run(scenario())


def test_newcomers_keep_nobody_waiting_who_is_there() -> None:
    async def scenario() -> None:
        counters = Counters()
        barrier = Barrier(1, counters)
        order: list[str] = []

        async def take(name: str, *, is_newcomer: bool) -> None:
            await barrier.acquire(is_newcomer=is_newcomer)
            order.append(name)
            barrier.release()

        await barrier.acquire()
        tasks = [asyncio.create_task(take(f"new {n}", is_newcomer=True)) for n in range(1000)]
        await settle()
        tasks += [asyncio.create_task(take(f"old {n}", is_newcomer=False)) for n in range(3)]
        await settle()
        assert counters.rpc_pending_num == 1003
        tasks[1].cancel()
        barrier.release()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert order[:7] == ["new 0", "old 0", "new 2", "old 1", "new 3", "old 2", "new 4"]
        assert order[-1] == "new 999"
        assert len(order) == 1002
        assert (barrier.busy, counters.rpc_pending_num) == (0, 0)

    run(scenario())
