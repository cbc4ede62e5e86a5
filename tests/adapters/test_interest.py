"""Which streams are wanted: what the engine is told, and who waits until it is in force."""

import asyncio
from collections.abc import Awaitable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catenary.adapters.interest import Changes, StreamInterest
from catenary.messages.names import Stream
from catenary.messages.publications import Position
from tests.parts.heart import in_loop, settle

A, B = Stream("a"), Stream("b")


async def is_over(wait: Awaitable[None] | None) -> bool:
    """Whether a wait is over after a few turns of the loop; it is cancelled otherwise."""
    if wait is None:
        return True
    task = asyncio.ensure_future(wait)
    await settle()
    if task.done():
        return True
    task.cancel()
    await asyncio.wait([task])
    return False


def open_interest(*streams: Stream) -> StreamInterest:
    """One whose engine is there, and knows these streams."""
    interest = StreamInterest()
    for stream in streams:
        interest.listen(stream)
    assert interest.up() == streams
    return interest


@in_loop
async def test_there_are_no_waits_while_the_engine_is_unavailable() -> None:
    interest = StreamInterest()
    interest.listen(A)
    assert interest.when_live([A]) is None
    assert interest.is_live(A)
    assert interest.up() == (A,)


@in_loop
async def test_changes_are_one_batch_with_one_wait() -> None:
    interest = open_interest(A)
    interest.listen(B)
    interest.unlisten(A)
    wait = interest.when_live([B])
    assert wait is not None
    waiting = asyncio.ensure_future(wait)
    changes = await interest.changes()
    assert (changes.removed, changes.added) == ((A,), (B,))
    await settle()
    assert not waiting.done()
    assert not interest.is_live(B)
    interest.in_force(changes)
    await waiting
    assert interest.is_live(B)
    assert interest.when_live([A, B]) is None


@in_loop
async def test_changes_come_when_there_are_some() -> None:
    interest = open_interest()
    changes = asyncio.create_task(interest.changes())
    await settle()
    assert not changes.done()
    interest.listen(A)
    assert (await changes).added == (A,)


@in_loop
async def test_a_stream_that_is_added_during_a_batch_waits_for_the_next() -> None:
    interest = open_interest()
    interest.listen(A)
    first = await interest.changes()
    interest.listen(B)
    interest.in_force(first)
    assert interest.when_live([A]) is None
    assert not await is_over(interest.when_live([B]))
    second = await interest.changes()
    assert (second.removed, second.added) == ((), (B,))
    interest.in_force(second)
    assert await is_over(interest.when_live([A, B]))


@in_loop
async def test_a_returning_subscriber_waits_for_the_new_subscription() -> None:
    interest = open_interest()
    interest.listen(A)
    first = await interest.changes()
    cursor = interest.cursors[A]
    interest.unlisten(A)
    interest.listen(A)
    assert interest.cursors[A] is not cursor
    interest.in_force(first)
    assert not await is_over(interest.when_live([A]))
    second = await interest.changes()
    assert (second.removed, second.added) == ((A,), (A,))
    interest.in_force(second)
    assert interest.when_live([A]) is None


@in_loop
async def test_whoever_waits_goes_on_when_the_engine_goes_away() -> None:
    interest = open_interest()
    interest.listen(A)
    told = await interest.changes()
    interest.listen(B)
    waits = [interest.when_live([A]), interest.when_live([B]), interest.when_live([A, B])]
    tasks = [asyncio.ensure_future(wait) for wait in waits if wait is not None]
    assert len(tasks) == 3
    await settle()
    interest.down()
    await asyncio.gather(*tasks)
    assert interest.when_live([A, B]) is None
    interest.in_force(told)  # too late, and nothing follows from it
    assert interest.up() == (A, B)
    later = asyncio.create_task(interest.changes())
    await settle()
    assert not later.done()
    later.cancel()
    await asyncio.wait([later])


@in_loop
async def test_a_cancelled_wait_cancels_no_other() -> None:
    interest = open_interest()
    interest.listen(A)
    waits = [interest.when_live([A]) for _ in range(2)]
    leaving, staying = (asyncio.ensure_future(wait) for wait in waits if wait is not None)
    await settle()
    leaving.cancel()
    await asyncio.wait([leaving])
    assert not staying.done()
    interest.in_force(await interest.changes())
    await staying


def test_a_stream_has_one_first_and_one_last_listener() -> None:
    interest = StreamInterest()
    with pytest.raises(KeyError):
        interest.unlisten(A)


# Histories that are ahead of what arrives


@in_loop
async def test_a_call_is_made_when_everything_up_to_a_position_has_arrived() -> None:
    interest = open_interest(A)
    cursor = interest.cursors[A]
    cursor.advance(Position("e", 5))
    called: list[int] = []
    assert interest.has_arrived(A, Position("e", 5))
    assert interest.has_arrived(B, Position("e", 5))
    assert not interest.has_arrived(A, Position("e", 6))
    interest.call_when_arrived(A, Position("e", 7), lambda: called.append(7))
    interest.call_when_arrived(A, Position("e", 9), lambda: called.append(9))
    cursor.advance(Position("e", 6))
    await settle()
    assert called == []
    cursor.advance(Position("e", 8))
    await settle()
    assert called == [7]
    interest.unlisten(A)
    await settle()
    assert called == [7, 9]


@in_loop
async def test_a_call_is_made_when_a_new_epoch_has_begun() -> None:
    interest = open_interest(A)
    cursor = interest.cursors[A]
    cursor.advance(Position("e", 5))
    called: list[str] = []
    interest.call_when_arrived(A, Position("e", 7), lambda: called.append("e"))
    interest.call_when_arrived(A, Position("f", 2), lambda: called.append("f"))
    cursor.advance(Position("f", 1))
    await settle()
    assert called == ["e"]
    cursor.advance(Position("f", 2))
    await settle()
    assert called == ["e", "f"]
    assert not interest.cursors[A].waits


# Whatever happens, in whatever order: the engine listens to what is wanted


@given(
    steps=st.lists(
        st.sampled_from(["listen a", "listen b", "take", "confirm", "down", "up"]), max_size=30
    )
)
@settings(max_examples=300, deadline=None)
def test_the_engine_has_all_wanted_streams_whenever_no_wait_is_left(steps: list[str]) -> None:
    async def play() -> None:
        interest = StreamInterest()
        engine: set[Stream] | None = None
        told: Changes | None = None
        wanted: set[Stream] = set()
        for step in [*steps, "up", "confirm", "take", "confirm"]:
            match step.split():
                case ["listen", name]:
                    stream = Stream(name)
                    if stream in wanted:
                        interest.unlisten(stream)
                    else:
                        interest.listen(stream)
                    wanted ^= {stream}
                case ["take"] if engine is not None and told is None:
                    task = asyncio.create_task(interest.changes())
                    await settle(2)
                    if task.done():
                        told = task.result()
                    else:
                        task.cancel()
                case ["confirm"] if engine is not None and told is not None:
                    engine = (engine - set(told.removed)) | set(told.added)
                    interest.in_force(told)
                    told = None
                case ["down"] if engine is not None:
                    interest.down()
                    engine = told = None
                case ["up"] if engine is None:
                    engine = set(interest.up())
            assert set(interest.cursors) == wanted
            live = {stream for stream in wanted if await is_over(interest.when_live([stream]))}
            assert engine is None or live <= engine
        assert engine == wanted == live

    asyncio.run(play())
