"""The concurrency limiter: never too many calls, in order, none lost."""

import asyncio
from collections.abc import Coroutine

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.metrics.counters import Counters
from catenary.rpc.concurrency import ConcurrencyLimiter


class Slots:
    """A limiter, and the waiters that hold a slot."""

    def __init__(self, capacity: int) -> None:
        self.counters = Counters()
        self.limiter: ConcurrencyLimiter[Holder] = ConcurrencyLimiter(capacity, self.counters)
        self.inside: list[Holder] = []
        self.order: list[str] = []

    def enter(
        self, name: str = "", *, is_newcomer: bool = False, leaves_at_once: bool = False
    ) -> "Holder":
        holder = Holder(self, name, leaves_at_once=leaves_at_once)
        self.limiter.acquire(holder, is_newcomer=is_newcomer)
        return holder


class Holder:
    def __init__(self, slots: Slots, name: str, *, leaves_at_once: bool) -> None:
        self.slots = slots
        self.name = name
        self.leaves_at_once = leaves_at_once

    def slot_granted(self) -> None:
        self.slots.inside.append(self)
        self.slots.order.append(self.name)
        if self.leaves_at_once:
            self.end()

    def end(self) -> None:
        self.slots.inside.remove(self)
        self.slots.limiter.release()


def run(scenario: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 10))


async def settle() -> None:
    """Lets everything run that can run."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_free_slot_costs_no_turn_of_the_loop() -> None:
    slots = Slots(1)
    assert slots.enter() in slots.inside
    assert slots.limiter.busy == 1


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_capacity_below_one_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match="expected a capacity of 1 or more"):
        ConcurrencyLimiter(capacity, Counters())


def test_slots_go_to_the_first_in_line() -> None:
    slots = Slots(1)
    first = slots.enter("first")
    waiting = [slots.enter(str(number)) for number in range(5)]
    assert slots.counters.rpc_pending_num == 5
    slots.limiter.withdraw(waiting[1])
    first.end()
    for number in (0, 2, 3, 4):
        assert slots.inside == [waiting[number]]
        waiting[number].end()
    assert slots.order == ["first", "0", "2", "3", "4"]
    assert (slots.limiter.busy, slots.counters.rpc_pending_num) == (0, 0)


def test_a_waiter_that_ends_at_once_leaves_the_slot_to_the_next_in_another_turn() -> None:
    """Thousands may wait for an application that is away: neither the stack nor the loop is theirs."""

    async def scenario() -> None:
        slots = Slots(1)
        first = slots.enter("first")
        for number in range(5000):
            slots.enter(str(number), leaves_at_once=True)
        first.end()
        assert len(slots.order) == 2
        slots.enter("late", leaves_at_once=True)
        await slots.limiter.idle()
        assert slots.order == ["first", *map(str, range(5000)), "late"]
        assert (slots.limiter.busy, slots.counters.rpc_pending_num) == (0, 0)

    run(scenario())


def test_idle_waits_for_the_last_slot_and_every_waiter() -> None:
    async def scenario() -> None:
        slots = Slots(1)
        await slots.limiter.idle()
        holder = slots.enter()
        waiter = slots.enter()
        idle = [asyncio.create_task(slots.limiter.idle()) for _ in range(2)]
        for each in (holder, waiter):
            await settle()
            assert not any(task.done() for task in idle)
            each.end()
        await asyncio.gather(*idle)

    run(scenario())


@given(
    st.integers(1, 3),
    st.lists(
        st.one_of(
            st.tuples(st.just("enter"), st.booleans(), st.booleans()),
            st.tuples(st.sampled_from(["end", "leave"]), st.integers(0, 20)),
            st.just(("run",)),
        ),
        max_size=40,
    ),
)
def test_slots_are_never_too_many_and_never_lost(
    capacity: int, steps: list[tuple[str, *tuple[int, ...]]]
) -> None:
    async def scenario() -> None:
        slots = Slots(capacity)
        holders: list[Holder] = []
        entered = 0
        left: set[Holder] = set()
        for step, *numbers in steps:
            waiting = [holder for holder in holders if holder.name not in slots.order]
            match step:
                case "enter":
                    is_newcomer, leaves_at_once = map(bool, numbers)
                    entered += 1
                    holders.append(
                        slots.enter(
                            str(entered), is_newcomer=is_newcomer, leaves_at_once=leaves_at_once
                        )
                    )
                case "end" if slots.inside:
                    slots.inside[numbers[0] % len(slots.inside)].end()
                case "leave" if waiting:
                    holder = waiting[numbers[0] % len(waiting)]
                    slots.limiter.withdraw(holder)
                    holders.remove(holder)
                    left.add(holder)
                case "run":
                    await asyncio.sleep(0)
            assert len(slots.inside) <= capacity
            assert slots.limiter.busy <= capacity
        idle = asyncio.create_task(slots.limiter.idle())
        while not idle.done():
            await asyncio.sleep(0)
            for holder in tuple(slots.inside):
                holder.end()
        assert sorted(slots.order) == sorted(holder.name for holder in holders)
        assert not left.intersection(slots.inside)
        assert (slots.limiter.busy, slots.counters.rpc_pending_num) == (0, 0)

    run(scenario())


def test_new_clients_do_not_delay_connected_ones() -> None:
    slots = Slots(1)
    first = slots.enter("first")
    holders = [slots.enter(f"new {number}", is_newcomer=True) for number in range(1000)]
    holders += [slots.enter(f"old {number}") for number in range(3)]
    assert slots.counters.rpc_pending_num == 1003
    slots.limiter.withdraw(holders[1])
    first.end()
    while slots.inside:
        slots.inside[0].end()
    assert slots.order[1:8] == ["new 0", "old 0", "new 2", "old 1", "new 3", "old 2", "new 4"]
    assert slots.order[-1] == "new 999"
    assert len(slots.order) == 1003
    assert (slots.limiter.busy, slots.counters.rpc_pending_num) == (0, 0)


def test_a_waiter_that_fails_does_not_delay_the_next() -> None:
    class Broken(Holder):
        def slot_granted(self) -> None:
            raise RuntimeError("odd")

    async def scenario() -> None:
        slots = Slots(1)
        first = slots.enter("first")
        slots.limiter.acquire(Broken(slots, "broken", leaves_at_once=False))
        last = slots.enter("last")
        with pytest.raises(RuntimeError):
            first.end()
        # It has taken its slot with it: to give that back is for its caller.
        slots.limiter.release()
        await settle()
        assert last in slots.inside

    run(scenario())
