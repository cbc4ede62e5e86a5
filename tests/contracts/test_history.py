"""The contract of History, run over every adapter."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import msgspec
import pytest

from catenary.errors import LostPosition
from catenary.messages.names import Sid, Stream
from catenary.messages.publications import Position, Publication
from catenary.ports import History
from tests.contracts.brokers import HISTORIES, LATE_S, Kept, answer
from tests.parts.heart import in_loop

Open = Callable[[int, int], AbstractAsyncContextManager[Kept]]

S = Stream("s")


@pytest.fixture(params=list(HISTORIES))
def opened(request: pytest.FixtureRequest) -> Open:
    return HISTORIES[request.param]


async def publish(subject: Kept, *data: object, stream: Stream = S) -> list[Publication]:
    return [await answer(subject.append(Publication(stream, str(each)))) for each in data]


def at(publication: Publication) -> Position:
    assert publication.position is not None
    return publication.position


async def behind(history: History, position: Position, stream: Stream = S) -> list[Publication]:
    return list(await answer(history.after(stream, position)))


async def everything(history: History, stream: Stream = S) -> list[Publication]:
    return list(await answer(history.since(stream, 0)))


def further(position: Position, offsets: int) -> Position:
    return Position(position.epoch, position.offset + offsets)


@pytest.mark.parametrize(
    "publication",
    [
        Publication(S, '{"text":"Hi"}'),
        Publication(Stream("é:/ \n\x00*>."), "no JSON, é\x00"),
        Publication(S, "", Sid("abc"), "whisper"),
        Publication(S, "x" * 100_000),
    ],
)
@in_loop
async def test_what_is_kept_is_what_was_published(opened: Open, publication: Publication) -> None:
    async with opened(10, 60) as subject:
        kept = await answer(subject.append(publication))
        assert msgspec.structs.replace(kept, position=None) == publication
        assert await everything(subject.port, publication.stream) == [kept]


@in_loop
async def test_offsets_grow_by_one(opened: Open) -> None:
    async with opened(3, 60) as subject:
        kept = await publish(subject, *range(10))
        assert [at(each) for each in kept] == [further(at(kept[0]), n) for n in range(10)]


@in_loop
async def test_offsets_are_in_the_order_of_the_calls(opened: Open) -> None:
    async with opened(100, 60) as subject:
        one_by_one = [answer(subject.append(Publication(S, str(number)))) for number in range(50)]
        kept = await asyncio.gather(*one_by_one)
        assert [at(each) for each in kept] == [further(at(kept[0]), n) for n in range(50)]
        assert await everything(subject.port) == kept


@in_loop
async def test_transient_messages_come_back_as_they_are(opened: Open) -> None:
    async with opened(10, 60) as subject:
        (first,) = await publish(subject, 1)
        transient = Publication(S, "2", transient=True)
        assert await answer(subject.append(transient)) == transient
        (third,) = await publish(subject, 3)
        assert at(third) == further(at(first), 1)
        assert await everything(subject.port) == [first, third]


@in_loop
async def test_everything_behind_a_position_in_order(opened: Open) -> None:
    async with opened(10, 60) as subject:
        kept = await publish(subject, *range(10))
        for number, each in enumerate(kept):
            assert await behind(subject.port, at(each)) == kept[number + 1 :]


@in_loop
async def test_a_position_just_before_the_oldest_is_enough(opened: Open) -> None:
    async with opened(3, 60) as subject:
        kept = await publish(subject, *range(10))
        assert await behind(subject.port, at(kept[6])) == kept[7:]
        with pytest.raises(LostPosition):
            await behind(subject.port, at(kept[5]))
        assert await everything(subject.port) == kept[7:]


@in_loop
async def test_positions_of_nowhere_are_lost(opened: Open) -> None:
    async with opened(10, 60) as subject:
        kept = await publish(subject, *range(3))
        newest = at(kept[-1])
        for position in (
            further(newest, 1),
            further(newest, 2**40),
            further(newest, -(2**40)),
            Position("another", newest.offset),
            Position("", newest.offset),
            Position("another", newest.offset - 1),
        ):
            with pytest.raises(LostPosition):
                await behind(subject.port, position)


@in_loop
async def test_a_position_on_a_stream_that_has_nothing_is_lost(opened: Open) -> None:
    async with opened(10, 60) as subject:
        (kept,) = await publish(subject, 1)
        with pytest.raises(LostPosition):
            await behind(subject.port, at(kept), Stream("other"))


@in_loop
async def test_streams_do_not_mix(opened: Open) -> None:
    async with opened(3, 60) as subject:
        names = [Stream("a"), Stream("a:b"), Stream("A"), Stream("*")]
        kept = {name: await publish(subject, name, stream=name) for name in names}
        await publish(subject, *range(10), stream=Stream("busy"))
        for name in names:
            assert await everything(subject.port, name) == kept[name]
            assert await behind(subject.port, at(kept[name][0]), name) == []
        assert await everything(subject.port, Stream("b")) == []


@in_loop
async def test_since_a_moment(opened: Open) -> None:
    async with opened(10, 60) as subject:
        early = await publish(subject, 1, 2)
        await subject.elapse(2)
        moment = int(subject.now_s())
        late = await publish(subject, 3, 4)

        async def since(moment_s: int) -> list[Publication]:
            return list(await answer(subject.port.since(S, moment_s)))

        assert await since(moment) == late
        assert await since(moment - 10) == early + late
        assert await since(moment + 10) == []


@in_loop
async def test_time_takes_the_messages_and_leaves_the_newest_position(opened: Open) -> None:
    async with opened(10, 1) as subject:
        kept = await publish(subject, *range(3))
        await subject.elapse(1 + LATE_S)
        assert await everything(subject.port) == []
        assert await behind(subject.port, at(kept[-1])) == []
        with pytest.raises(LostPosition):
            await behind(subject.port, at(kept[-2]))


@in_loop
async def test_offsets_go_on_when_the_messages_are_over(opened: Open) -> None:
    async with opened(10, 1) as subject:
        old = (await publish(subject, *range(3)))[-1]
        await subject.elapse(1 + LATE_S)
        new = await publish(subject, *range(3))
        assert at(new[0]) == further(at(old), 1)
        assert await behind(subject.port, at(old)) == new


@in_loop
async def test_a_limit_of_0_keeps_nothing(opened: Open) -> None:
    async with opened(0, 60) as subject:
        kept = await publish(subject, *range(3))
        assert [at(each) for each in kept] == [further(at(kept[0]), n) for n in range(3)]
        assert await everything(subject.port) == []
        assert await behind(subject.port, at(kept[-1])) == []
        with pytest.raises(LostPosition):
            await behind(subject.port, at(kept[-2]))


@in_loop
async def test_a_time_to_live_of_0_keeps_nothing(opened: Open) -> None:
    async with opened(10, 0) as subject:
        kept = await publish(subject, *range(3))
        assert await everything(subject.port) == []
        with pytest.raises(LostPosition):
            await behind(subject.port, at(kept[0]))
