"""The contract of SessionCache, run over every adapter."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from catenary.messages.names import Sid
from catenary.ports import SessionCache
from tests.contracts.brokers import LATE_S, SESSION_CACHES, Subject, answer
from tests.parts.heart import in_loop

Open = Callable[[int], AbstractAsyncContextManager[Subject[SessionCache]]]

A, B = Sid("a"), Sid("b")


@pytest.fixture(params=list(SESSION_CACHES))
def opened(request: pytest.FixtureRequest) -> Open:
    return SESSION_CACHES[request.param]


async def save(cache: SessionCache, sid: Sid, snapshot: bytes) -> None:
    await answer(cache.save(sid, snapshot))


async def touch(cache: SessionCache, sid: Sid) -> None:
    await answer(cache.touch([sid]))


async def take(cache: SessionCache, sid: Sid) -> bytes | None:
    return await answer(cache.take(sid))


async def expire(cache: SessionCache) -> list[bytes]:
    return sorted(await answer(cache.expire()))


@pytest.mark.parametrize("snapshot", [b"", b"{}", bytes(range(256)), b"x" * 100_000])
@in_loop
async def test_what_is_saved_can_be_taken_once(opened: Open, snapshot: bytes) -> None:
    async with opened(60) as subject:
        await save(subject.port, A, snapshot)
        await save(subject.port, B, b"other")
        assert await take(subject.port, A) == snapshot
        assert await take(subject.port, A) is None
        assert await take(subject.port, B) == b"other"


@in_loop
async def test_nobody_has_saved_it(opened: Open) -> None:
    async with opened(60) as subject:
        await touch(subject.port, A)
        assert await take(subject.port, A) is None
        assert await expire(subject.port) == []


@in_loop
async def test_of_several_who_take_one_gets_it(opened: Open) -> None:
    async with opened(60) as subject:
        await save(subject.port, A, b"1")
        taken = await asyncio.gather(*(take(subject.port, A) for _ in range(10)))
        assert sorted(each or b"" for each in taken) == [b""] * 9 + [b"1"]


@in_loop
async def test_the_last_one_saved_counts(opened: Open) -> None:
    async with opened(60) as subject:
        await save(subject.port, A, b"1")
        await save(subject.port, A, b"2")
        assert await take(subject.port, A) == b"2"
        assert await take(subject.port, A) is None
        await save(subject.port, A, b"3")
        assert await take(subject.port, A) == b"3"


LINES = b"first\nsecond\nthird"


@in_loop
async def test_lines_are_replaced_and_added_by_their_numbers(opened: Open) -> None:
    async with opened(60) as subject:
        cache = subject.port
        await save(cache, A, LINES)
        await answer(cache.amend(A, {1: b"2nd"}))
        await answer(cache.amend(A, {0: b"1st", 3: b"4th", 4: b""}))
        assert await take(cache, A) == b"1st\n2nd\nthird\n4th\n"
        # Nothing of it is left.
        await save(cache, A, b"new")
        assert await take(cache, A) == b"new"


@in_loop
async def test_only_what_is_kept_is_amended(opened: Open) -> None:
    async with opened(60) as subject:
        cache = subject.port
        await answer(cache.amend(A, {0: b"1st", 1: b"2nd"}))
        assert await take(cache, A) is None
        await save(cache, A, LINES)
        assert await take(cache, A) == LINES
        await answer(cache.amend(A, {1: b"2nd"}))
        assert await take(cache, A) is None
        await save(cache, A, b"one")
        assert await take(cache, A) == b"one"


@pytest.mark.parametrize("is_new", [True, False])
@in_loop
async def test_a_session_has_the_lines_that_it_was_saved_with_last(
    opened: Open, is_new: bool
) -> None:
    async with opened(60) as subject:
        cache = subject.port
        await save(cache, A, b"\n".join(b"%d" % number for number in range(30)))
        await answer(cache.save(A, LINES, is_new=is_new))
        await answer(cache.amend(A, {3: b"fourth"}))
        assert await take(cache, A) == LINES + b"\nfourth"
        await save(cache, A, LINES)
        await answer(cache.save(A, b"alone", is_new=is_new))
        assert await take(cache, A) == b"alone"


@in_loop
async def test_lines_leave_together_when_their_time_is_over(opened: Open) -> None:
    async with opened(2) as subject:
        cache = subject.port
        await save(cache, A, LINES)
        await save(cache, B, b"alone")
        await subject.elapse(1)
        await answer(cache.amend(A, {2: b"3rd"}))
        await subject.elapse(1 + LATE_S)
        assert b"alone" in await expire(cache)
        await subject.elapse(2 + LATE_S)
        assert await expire(cache) in ([b"first\nsecond\n3rd"], [])


@in_loop
async def test_of_several_who_take_lines_one_gets_all(opened: Open) -> None:
    async with opened(60) as subject:
        await save(subject.port, A, LINES)
        taken = await asyncio.gather(*(take(subject.port, A) for _ in range(10)))
        assert sorted(each or b"" for each in taken) == [b""] * 9 + [LINES]


@in_loop
async def test_time_takes_it_and_tells_once(opened: Open) -> None:
    async with opened(1) as subject:
        await save(subject.port, A, b"1")
        await save(subject.port, B, b"2")
        assert await expire(subject.port) == []
        await subject.elapse(1 + LATE_S)
        assert await take(subject.port, A) is None
        assert await expire(subject.port) == [b"1", b"2"]
        assert await expire(subject.port) == []
        assert await take(subject.port, B) is None


@in_loop
async def test_a_touch_and_a_save_let_its_time_run_anew(opened: Open) -> None:
    async with opened(4) as subject:
        await save(subject.port, A, b"1")
        await save(subject.port, B, b"2")
        await subject.elapse(3)
        await touch(subject.port, A)
        await save(subject.port, B, b"3")
        await subject.elapse(3)
        assert await expire(subject.port) == []
        assert await take(subject.port, A) == b"1"
        assert await take(subject.port, B) == b"3"


@in_loop
async def test_a_touch_that_comes_too_late_brings_nothing_back(opened: Open) -> None:
    async with opened(1) as subject:
        await save(subject.port, A, b"1")
        await subject.elapse(1 + LATE_S)
        await touch(subject.port, A)
        assert await take(subject.port, A) is None
        assert await expire(subject.port) == [b"1"]


@in_loop
async def test_what_was_taken_does_not_expire(opened: Open) -> None:
    async with opened(1) as subject:
        await save(subject.port, A, b"1")
        await take(subject.port, A)
        await subject.elapse(1 + LATE_S)
        assert await expire(subject.port) == []
