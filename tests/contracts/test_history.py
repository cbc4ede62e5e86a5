"""The contract of History, run over every adapter."""

import asyncio
import itertools
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import msgspec
import pytest

from catenary.broker.stream_rules import StreamRules
from catenary.config.stream_rules import StreamRule
from catenary.errors import LostPosition
from catenary.messages.names import Sid, Stream
from catenary.messages.publications import Page, Position, Publication
from catenary.node.reads import Reads
from catenary.ports import History
from tests.contracts.brokers import HISTORIES, LATE_S, Kept, answer
from tests.parts.heart import in_loop

Open = Callable[..., AbstractAsyncContextManager[Kept]]

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
async def test_a_limit_gives_the_first_messages_after_a_position(opened: Open) -> None:
    async with opened(100, 60) as subject:
        other = await publish(subject, *range(5), stream=Stream("other"))
        kept = []
        for number in range(20):
            kept += await publish(subject, number)
            other += await publish(subject, number, stream=Stream("other"))
        for first, limit in itertools.product((0, 1, 9, 18, 19), (1, 2, 18, 19, 20, 1000)):
            found = await answer(subject.port.after(S, at(kept[first]), limit))
            assert list(found) == kept[first + 1 :][:limit]


@in_loop
async def test_a_limit_gives_the_first_or_the_newest_messages_since_a_moment(opened: Open) -> None:
    async with opened(10, 60) as subject:
        await publish(subject, *range(20), stream=Stream("other"))
        early = await publish(subject, *range(6))
        await subject.elapse(2)
        moment = int(subject.now_s())
        late = await publish(subject, *range(7))
        kept = [*early, *late][-10:]
        for limit in (1, 2, 6, 7, 8, 9, 10, 11, 1000):
            assert list(await answer(subject.port.since(S, 0, limit))) == kept[:limit]
            assert list(await answer(subject.port.since(S, moment, limit))) == late[:limit]
            newest = await answer(subject.port.since(S, 0, limit, newest=True))
            assert list(newest) == kept[-limit:]
            newest = await answer(subject.port.since(S, moment, limit, newest=True))
            assert list(newest) == late[-limit:]
        assert await answer(subject.port.since(S, moment + 100, 5)) == ()
        assert await answer(subject.port.since(S, 2**60, 5)) == ()
        assert await answer(subject.port.since(Stream("nothing"), 0, 5)) == ()


@in_loop
async def test_a_limit_does_not_hide_a_gap(opened: Open) -> None:
    async with opened(5, 60) as subject:
        kept = await publish(subject, *range(20))
        assert list(await answer(subject.port.after(S, at(kept[14]), 2))) == kept[15:17]
        for lost in (kept[13], kept[0]):
            with pytest.raises(LostPosition):
                await answer(subject.port.after(S, at(lost), 2))


@in_loop
async def test_pages_go_on_while_more_is_published(opened: Open) -> None:
    async with opened(1000, 60) as subject:
        kept = await publish(subject, *range(50))
        found = list(await answer(subject.port.since(S, 0, 7)))
        while len(found) < 90:
            if len(kept) < 90:
                kept += await publish(subject, len(kept), len(kept) + 1)
            found += await answer(subject.port.after(S, at(found[-1]), 7))
        assert found == kept[: len(found)]


@in_loop
async def test_pages_go_back_from_the_newest_message_to_the_oldest(opened: Open) -> None:
    """As the REST API reads them; other streams are in between."""
    async with opened(20, 60) as subject:
        reads = Reads(subject.port, None)
        for number in range(10):
            await publish(subject, number)
            await publish(subject, "other", stream=Stream("t"))
        for limit in (1, 3, 4, 9, 10, 11):
            found: list[str] = []
            page = await reads.page_before(S, None, limit)
            while True:
                found += [each.data for each in page.messages]
                assert len(page.messages) <= limit
                if not page.more:
                    break
                page = await reads.page_before(S, at(page.messages[-1]), limit)
            assert found == [str(number) for number in reversed(range(10))]
        first = page.messages[-1]
        assert await reads.page_before(S, at(first), 5) == Page((), more=False)
        beyond = further(at(first), 1_000)
        assert [each.data for each in (await reads.page_before(S, beyond, 2)).messages] == [
            "9",
            "8",
        ]
        with pytest.raises(LostPosition):
            await reads.page_before(S, Position("other", 5), 5)


@in_loop
async def test_pages_go_back_as_far_as_messages_are_kept(opened: Open) -> None:
    async with opened(10, 60) as subject:
        reads = Reads(subject.port, None)
        published = await publish(subject, *range(25))
        page = await reads.page_before(S, at(published[20]), 3)
        assert [each.data for each in page.messages] == ["19", "18", "17"]
        page = await reads.page_before(S, at(page.messages[-1]), 5)
        assert ([each.data for each in page.messages], page.more) == (["16", "15"], False)


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


@in_loop
async def test_the_rule_of_a_stream_sets_the_length_of_its_history(opened: Open) -> None:
    rules = StreamRules(
        (
            StreamRule(match="short/*", history_limit=2),
            StreamRule(match="long/*", history_limit=8),
            StreamRule(match="none/*", history_limit=0),
        )
    )
    async with opened(4, 60, rules) as subject:
        for name, kept in (("short/1", 2), ("long/1", 8), ("none/1", 0), ("s", 4)):
            stream = Stream(name)
            sent = await publish(subject, *range(12), stream=stream)
            assert await everything(subject.port, stream) == sent[12 - kept :], name
            assert await behind(subject.port, at(sent[-1]), stream) == []
            assert await behind(subject.port, at(sent[11 - kept]), stream) == sent[12 - kept :]
            with pytest.raises(LostPosition):
                await behind(subject.port, at(sent[10 - kept]), stream)
            some = await answer(subject.port.since(stream, 0, 1))
            assert list(some) == sent[12 - kept : 12][:1]


@in_loop
async def test_the_rule_of_a_stream_sets_how_long_its_messages_are_stored(opened: Open) -> None:
    rules = StreamRules(
        (StreamRule(match="brief", history_ttl=1), StreamRule(match="lasting", history_ttl=60))
    )
    brief, lasting = Stream("brief"), Stream("lasting")
    async with opened(10, 1, rules) as subject:
        first, *_ = await publish(subject, 1, stream=brief)
        kept = await publish(subject, 1, stream=lasting)
        await subject.elapse(1 + LATE_S)
        await publish(subject, 2, stream=brief)
        assert [each.data for each in await everything(subject.port, brief)] == ["2"]
        assert await everything(subject.port, lasting) == kept
        assert await behind(subject.port, at(first), brief) != []


@pytest.mark.parametrize("engine", ["memory", "redis"])
@in_loop
async def test_the_rule_of_a_stream_limits_the_bytes_of_its_history(engine: str) -> None:
    """On Redis, 40 bytes at most are our own in each message."""
    rules = StreamRules((StreamRule(match="s", history_bytes=4_000),))
    async with HISTORIES[engine](100, 60, rules) as subject:
        sent = await publish(subject, *["x" * 900] * 10)
        assert await everything(subject.port) == sent[-4:]
        assert await behind(subject.port, at(sent[5])) == sent[6:]
        with pytest.raises(LostPosition):
            await behind(subject.port, at(sent[4]))
        after = await publish(subject, "y" * 2_000)
        assert await everything(subject.port) == [*sent[-2:], *after]
        too_large = await publish(subject, "z" * 5_000)
        assert await everything(subject.port) == []
        assert await behind(subject.port, at(too_large[0])) == []
        last = await publish(subject, 1)
        assert await everything(subject.port) == last
        assert await behind(subject.port, at(too_large[0])) == last


@in_loop
async def test_rules_that_are_replaced_hold_for_histories_that_exist(opened: Open) -> None:
    rules = StreamRules()
    async with opened(10, 60, rules) as subject:
        await publish(subject, *range(6))
        rules.replace((StreamRule(match="*", history_limit=3),))
        await subject.elapse(0)
        await publish(subject, 6)
        assert [each.data for each in await everything(subject.port)] == ["4", "5", "6"]
