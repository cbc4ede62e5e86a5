"""The barrier: never too many, in order, nothing lost."""

import asyncio
from collections.abc import Coroutine

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.metrics.counters import Counters
from catenary.rpc.concurrency import Barrier


class Room:
    """A barrier, and who has come past it."""

    def __init__(self, capacity: int) -> None:
        self.counters = Counters()
        self.barrier: Barrier[Guest] = Barrier(capacity, self.counters)
        self.inside: list[Guest] = []
        self.order: list[str] = []

    def enter(
        self, name: str = "", *, is_newcomer: bool = False, leaves_at_once: bool = False
    ) -> "Guest":
        guest = Guest(self, name, leaves_at_once=leaves_at_once)
        self.barrier.enter(guest, is_newcomer=is_newcomer)
        return guest


class Guest:
    def __init__(self, room: Room, name: str, *, leaves_at_once: bool) -> None:
        self.room = room
        self.name = name
        self.leaves_at_once = leaves_at_once

    def begin(self) -> None:
        self.room.inside.append(self)
        self.room.order.append(self.name)
        if self.leaves_at_once:
            self.end()

    def end(self) -> None:
        self.room.inside.remove(self)
        self.room.barrier.release()


def run(scenario: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 10))


async def settle() -> None:
    """Lets everything run that can run."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_free_slot_costs_no_turn_of_the_loop() -> None:
    room = Room(1)
    assert room.enter() in room.inside
    assert room.barrier.busy == 1


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_capacity_below_one_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match="expected a capacity of 1 or more"):
        Barrier(capacity, Counters())


def test_slots_go_to_who_has_waited_longest() -> None:
    room = Room(1)
    first = room.enter("first")
    waiting = [room.enter(str(number)) for number in range(5)]
    assert room.counters.rpc_pending_num == 5
    room.barrier.leave(waiting[1])
    first.end()
    for number in (0, 2, 3, 4):
        assert room.inside == [waiting[number]]
        waiting[number].end()
    assert room.order == ["first", "0", "2", "3", "4"]
    assert (room.barrier.busy, room.counters.rpc_pending_num) == (0, 0)


def test_who_ends_at_once_gives_the_slot_to_the_next_in_another_turn() -> None:
    """Thousands may wait for an application that is away: neither the stack nor the loop is theirs."""

    async def scenario() -> None:
        room = Room(1)
        first = room.enter("first")
        for number in range(5000):
            room.enter(str(number), leaves_at_once=True)
        first.end()
        assert len(room.order) == 2
        room.enter("late", leaves_at_once=True)
        await room.barrier.idle()
        assert room.order == ["first", *map(str, range(5000)), "late"]
        assert (room.barrier.busy, room.counters.rpc_pending_num) == (0, 0)

    run(scenario())


def test_idle_waits_for_the_last_slot_and_all_who_wait() -> None:
    async def scenario() -> None:
        room = Room(1)
        await room.barrier.idle()
        holder = room.enter()
        waiter = room.enter()
        idle = [asyncio.create_task(room.barrier.idle()) for _ in range(2)]
        for guest in (holder, waiter):
            await settle()
            assert not any(task.done() for task in idle)
            guest.end()
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
        room = Room(capacity)
        guests: list[Guest] = []
        entered = 0
        left: set[Guest] = set()
        for step, *numbers in steps:
            waiting = [guest for guest in guests if guest.name not in room.order]
            match step:
                case "enter":
                    is_newcomer, leaves_at_once = map(bool, numbers)
                    entered += 1
                    guests.append(
                        room.enter(
                            str(entered), is_newcomer=is_newcomer, leaves_at_once=leaves_at_once
                        )
                    )
                case "end" if room.inside:
                    room.inside[numbers[0] % len(room.inside)].end()
                case "leave" if waiting:
                    guest = waiting[numbers[0] % len(waiting)]
                    room.barrier.leave(guest)
                    guests.remove(guest)
                    left.add(guest)
                case "run":
                    await asyncio.sleep(0)
            assert len(room.inside) <= capacity
            assert room.barrier.busy <= capacity
        idle = asyncio.create_task(room.barrier.idle())
        while not idle.done():
            await asyncio.sleep(0)
            for guest in tuple(room.inside):
                guest.end()
        assert sorted(room.order) == sorted(guest.name for guest in guests)
        assert not left.intersection(room.inside)
        assert (room.barrier.busy, room.counters.rpc_pending_num) == (0, 0)

    run(scenario())


def test_newcomers_keep_nobody_waiting_who_is_there() -> None:
    room = Room(1)
    first = room.enter("first")
    guests = [room.enter(f"new {number}", is_newcomer=True) for number in range(1000)]
    guests += [room.enter(f"old {number}") for number in range(3)]
    assert room.counters.rpc_pending_num == 1003
    room.barrier.leave(guests[1])
    first.end()
    while room.inside:
        room.inside[0].end()
    assert room.order[1:8] == ["new 0", "old 0", "new 2", "old 1", "new 3", "old 2", "new 4"]
    assert room.order[-1] == "new 999"
    assert len(room.order) == 1003
    assert (room.barrier.busy, room.counters.rpc_pending_num) == (0, 0)


def test_one_that_cannot_begin_keeps_nobody_else_waiting() -> None:
    class Broken(Guest):
        def begin(self) -> None:
            raise RuntimeError("odd")

    async def scenario() -> None:
        room = Room(1)
        first = room.enter("first")
        room.barrier.enter(Broken(room, "broken", leaves_at_once=False))
        last = room.enter("last")
        with pytest.raises(RuntimeError):
            first.end()
        # It has taken its slot with it: to give that back is for its caller.
        room.barrier.release()
        await settle()
        assert last in room.inside

    run(scenario())
