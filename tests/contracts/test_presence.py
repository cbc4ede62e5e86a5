"""The contract of Presence, run over every adapter."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from catenary.messages.names import Sid, Stream
from catenary.messages.presence import Member, PresenceChange
from catenary.ports import Presence
from tests.contracts.brokers import LATE_S, PRESENCES, Subject, answer
from tests.parts.heart import in_loop

Open = Callable[[int], AbstractAsyncContextManager[Subject[Presence]]]

S, T = Stream("s"), Stream("t")
JACK = '{"name":"Jack"}'


@pytest.fixture(params=list(PRESENCES))
def opened(request: pytest.FixtureRequest) -> Open:
    return PRESENCES[request.param]


async def join(
    presence: Presence, sid: str, member_id: str, info: str = "null", stream: Stream = S
) -> PresenceChange | None:
    return await answer(presence.join(stream, Sid(sid), member_id, info))


async def leave(presence: Presence, sid: str, stream: Stream = S) -> PresenceChange | None:
    return await answer(presence.leave(stream, Sid(sid)))


async def touch(presence: Presence, sid: str) -> None:
    await answer(presence.touch([Sid(sid)]))


async def members(presence: Presence, stream: Stream = S) -> list[Member]:
    return list(await answer(presence.members(stream)))


async def ids(presence: Presence, stream: Stream = S) -> list[str]:
    return [member.id for member in await members(presence, stream)]


async def expire(presence: Presence) -> list[PresenceChange]:
    changes = await answer(presence.expire())
    return sorted(changes, key=lambda change: (change.stream, change.id))


def left(member_id: str, stream: Stream = S) -> PresenceChange:
    return PresenceChange(stream, "leave", member_id)


@in_loop
async def test_the_first_session_joins_and_the_last_one_leaves(opened: Open) -> None:
    async with opened(60) as subject:
        presence = subject.port
        assert await join(presence, "1", "jack", JACK) == PresenceChange(S, "join", "jack", JACK)
        assert await join(presence, "2", "jack", JACK) is None
        assert await members(presence) == [Member("jack", JACK)]
        assert await leave(presence, "1") is None
        assert await members(presence) == [Member("jack", JACK)]
        assert await leave(presence, "2") == left("jack")
        assert await members(presence) == []


@in_loop
async def test_a_session_that_joins_twice_is_there_once(opened: Open) -> None:
    async with opened(60) as subject:
        await join(subject.port, "1", "jack")
        assert await join(subject.port, "1", "jack") is None
        assert await leave(subject.port, "1") == left("jack")
        assert await leave(subject.port, "1") is None


@pytest.mark.parametrize("sid", ["1", "2"])
@in_loop
async def test_new_info_is_an_update(opened: Open, sid: str) -> None:
    async with opened(60) as subject:
        presence = subject.port
        await join(presence, "1", "jack", "1")
        await join(presence, "3", "rose")
        assert await join(presence, sid, "jack", "2") == PresenceChange(S, "update", "jack", "2")
        assert await join(presence, sid, "jack", "2") is None
        assert await members(presence) == [Member("jack", "2"), Member("rose", "null")]


@in_loop
async def test_a_session_keeps_its_id(opened: Open) -> None:
    async with opened(60) as subject:
        presence = subject.port
        await join(presence, "1", "jack", "1")
        assert await join(presence, "1", "rose", "2") is None
        assert await members(presence) == [Member("jack", "1")]
        assert await leave(presence, "1") == left("jack")
        assert await join(presence, "1", "rose") == PresenceChange(S, "join", "rose", "null")


@in_loop
async def test_members_come_in_order(opened: Open) -> None:
    async with opened(60) as subject:
        presence = subject.port
        for number in "5314":
            await join(presence, number, number)
        await join(presence, "5+", "5", "again")
        await leave(presence, "3")
        await join(presence, "3", "3")
        assert await ids(presence) == ["5", "1", "4", "3"]


@in_loop
async def test_streams_do_not_mix(opened: Open) -> None:
    async with opened(60) as subject:
        presence = subject.port
        await join(presence, "1", "jack", "1")
        change = await join(presence, "1", "rose", "2", T)
        assert change == PresenceChange(T, "join", "rose", "2")
        assert await leave(presence, "1") == left("jack")
        assert await ids(presence) == []
        assert await members(presence, T) == [Member("rose", "2")]


@in_loop
async def test_who_was_never_there_does_not_leave(opened: Open) -> None:
    async with opened(60) as subject:
        await touch(subject.port, "1")
        assert await leave(subject.port, "1") is None
        await join(subject.port, "1", "jack")
        assert await leave(subject.port, "2") is None
        assert await leave(subject.port, "1", T) is None
        assert await ids(subject.port) == ["jack"]


@pytest.mark.parametrize("text", ["", "é ünï", 'a:b*"\n\x00', "x" * 1000])
@in_loop
async def test_any_text_is_an_id(opened: Open, text: str) -> None:
    async with opened(60) as subject:
        stream = Stream(text + "s")
        await join(subject.port, "1", text, '"é"', stream)
        assert await members(subject.port, stream) == [Member(text, '"é"')]
        assert await leave(subject.port, "1", stream) == left(text, stream)


@in_loop
async def test_many_who_come_and_go_at_once(opened: Open) -> None:
    async with opened(60) as subject:
        presence = subject.port
        changes = await asyncio.gather(*(join(presence, str(n), str(n % 5)) for n in range(50)))
        assert sum(change is not None for change in changes) == 5
        assert sorted(await ids(presence)) == ["0", "1", "2", "3", "4"]
        gone = await asyncio.gather(*(leave(presence, str(n)) for n in range(50)))
        assert sorted(change.id for change in gone if change) == ["0", "1", "2", "3", "4"]
        assert await ids(presence) == []


@in_loop
async def test_time_takes_sessions_and_tells_once(opened: Open) -> None:
    async with opened(1) as subject:
        presence = subject.port
        await join(presence, "1", "jack")
        await join(presence, "2", "jack")
        await join(presence, "2", "rose", stream=T)
        assert await expire(presence) == []
        await subject.elapse(1 + LATE_S)
        assert await expire(presence) == [left("jack"), left("rose", T)]
        assert await expire(presence) == []
        assert await ids(presence) == await ids(presence, T) == []
        assert await leave(presence, "1") is None


@in_loop
async def test_a_touch_is_for_all_streams_of_a_session(opened: Open) -> None:
    async with opened(4) as subject:
        presence = subject.port
        await join(presence, "1", "jack")
        await join(presence, "1", "jack", stream=T)
        await join(presence, "2", "rose")
        await subject.elapse(3)
        await touch(presence, "1")
        await subject.elapse(1 + LATE_S)
        assert await expire(presence) == [left("rose")]
        assert await ids(presence) == await ids(presence, T) == ["jack"]
        await subject.elapse(2 + LATE_S)
        assert await expire(presence) == [left("jack"), left("jack", T)]


@in_loop
async def test_a_member_stays_with_the_session_that_is_touched(opened: Open) -> None:
    async with opened(4) as subject:
        presence = subject.port
        await join(presence, "1", "jack")
        await join(presence, "2", "jack")
        await subject.elapse(3)
        await touch(presence, "2")
        await subject.elapse(1 + LATE_S)
        assert await expire(presence) == []
        assert await ids(presence) == ["jack"]
        assert await leave(presence, "2") == left("jack")


@in_loop
async def test_the_streams_of_a_session(opened: Open) -> None:
    async with opened(60) as subject:
        presence = subject.port
        assert await answer(presence.streams(Sid("1"))) == ()
        for stream in (S, T):
            await join(presence, "1", "jack", stream=stream)
        await join(presence, "2", "jack")
        assert set(await answer(presence.streams(Sid("1")))) == {S, T}
        assert await answer(presence.streams(Sid("2"))) == (S,)
        await leave(presence, "1")
        assert await answer(presence.streams(Sid("1"))) == (T,)


@in_loop
async def test_a_session_with_many_streams_leaves_all(opened: Open) -> None:
    """The occupancy of a node is one session on all its streams."""
    streams = [Stream(f"s{number}") for number in range(2_100)]
    async with opened(4) as subject:
        presence = subject.port
        await asyncio.gather(*(join(presence, "1", "node", stream=each) for each in streams))
        await subject.elapse(4 + LATE_S)
        gone: list[PresenceChange] = []
        while changes := await expire(presence):
            gone += changes
        assert sorted(change.stream for change in gone) == sorted(streams)
        assert await answer(presence.streams(Sid("1"))) == ()


@in_loop
async def test_who_is_gone_joins_anew(opened: Open) -> None:
    async with opened(1) as subject:
        await join(subject.port, "1", "jack", "1")
        await subject.elapse(1 + LATE_S)
        await expire(subject.port)
        change = await join(subject.port, "1", "rose", "2")
        assert change == PresenceChange(S, "join", "rose", "2")
