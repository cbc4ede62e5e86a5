"""Sessions, streams and channels of a node, page by page, while clients come and go."""

import asyncio
from itertools import pairwise

import msgspec
import pytest

from catenary.messages.commands import Subscribe
from catenary.messages.environment import Environment, Ingress
from catenary.messages.names import Identifier, Sid
from catenary.node import listing as listing_module
from catenary.node.listing import (
    OTHER_CHANNELS,
    Listing,
    SessionQuery,
    SessionRecord,
    SubscriptionRecord,
)
from catenary.node.session import Subscription, Traits
from catenary.node.turns import CLIENTS_BUDGET_US, Turns
from tests.parts.heart import NEVER, Heart, MemoryOutbound, confirming, in_loop, room

EVERYONE = SessionQuery()


class House:
    """A node whose clients are listed."""

    def __init__(self) -> None:
        self.heart = Heart()
        call_soon = asyncio.get_running_loop().call_soon
        self.listing = Listing("n", self.heart.hub, Turns(CLIENTS_BUDGET_US, call_soon))

    async def page(
        self, query: SessionQuery = EVERYONE, after: str = "", limit: int = 100
    ) -> tuple[list[SessionRecord], str | None]:
        page = await self.listing.page(query, after, limit)
        return [msgspec.json.decode(each, type=SessionRecord) for each in page.records], page.next

    async def sids(self, query: SessionQuery = EVERYONE, limit: int = 7) -> list[str]:
        """Those of all pages."""
        found: list[str] = []
        after: str | None = ""
        while after is not None:
            records, after = await self.page(query, after, limit)
            found += [each.sid for each in records]
        return found


@in_loop
async def test_every_session_is_on_one_page() -> None:
    house = House()
    assert await house.page() == ([], None)
    everyone = {house.heart.connect().session.sid for _ in range(100)}
    for limit in (1, 7, 99, 100, 101):
        found = await house.sids(limit=limit)
        assert set(found) == everyone
        assert len(found) == 100


@in_loop
async def test_sessions_that_stay_are_listed_once_while_others_come_and_go() -> None:
    house = House()
    staying = [house.heart.connect() for _ in range(60)]
    leaving = [house.heart.connect() for _ in range(60)]
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        records, after = await house.page(after=after, limit=10)
        found += [each.sid for each in records]
        for _ in range(5):
            house.heart.connect()
        for client in leaving[:10]:
            client.leave()
        del leaving[:10]
    for client in staying:
        assert found.count(client.session.sid) == 1
    assert len(found) == len(set(found))


@in_loop
async def test_a_session_that_leaves_during_a_search_is_left_out() -> None:
    house = House()
    clients = [house.heart.connect() for _ in range(2_000)]
    search = asyncio.ensure_future(house.page(limit=1_000))
    await asyncio.sleep(0)
    assert not search.done()
    for client in clients:
        client.session.closed = True
    records, after = await search
    assert len(records) < 1_000
    assert after is None


@in_loop
async def test_clients_with_the_same_identifiers_are_found_by_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = House()
    heart = house.heart
    for number in range(60):
        client = heart.connect()
        heart.hub.sessions.identify(client.session, f"user {number % 2}")
    query = SessionQuery(identifiers="user 1")
    assert len(await house.sids(query)) == len(set(await house.sids(query))) == 30
    assert await house.listing.count(query) == 30
    assert await house.listing.count(EVERYONE) == 60
    few = await house.sids(query)
    monkeypatch.setattr(listing_module, "FEW", 10)
    assert await house.sids(query) == few


@in_loop
async def test_a_page_ends_when_enough_was_visited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing_module, "VISITED", 10)
    house = House()
    for _ in range(25):
        house.heart.connect()
    wanted = house.heart.member("r").session.sid
    query = SessionQuery(min_subscriptions=1)
    pages = [await house.page(query)]
    while pages[-1][1] is not None:
        pages.append(await house.page(query, pages[-1][1]))
    assert len(pages) == 3
    assert [each.sid for records, _ in pages for each in records] == [wanted]
    monkeypatch.setattr(listing_module, "PAGE_BYTES", 300)
    monkeypatch.setattr(listing_module, "VISITED", 1_000)
    records, after = await house.page()
    assert len(records) == 2
    assert after == records[-1].sid


@in_loop
async def test_a_session_as_it_is_shown() -> None:
    house = House()
    heart = house.heart
    environment = Environment(
        Sid("a"),
        "wss://example.test:8080/cable?token=secret",
        {"REMOTE_ADDR": "10.0.0.7"},
        ingress=Ingress("", "sse", "event-stream", ""),
    )
    session = heart.node.admit(environment, heart.encoder, MemoryOutbound(), Traits(NEVER))
    heart.application.prepare("subscribe", confirming(room("r"), "one", "two"))
    heart.node.execute(session, Subscribe(room("r")))
    [record], _ = await house.page()
    assert record.connected_at > 1_700_000_000
    shown = msgspec.structs.asdict(record)
    assert shown == {
        "sid": "a",
        "identifiers": '{"sid": "a"}',
        "address": "10.0.0.7",
        "path": "/cable",
        "transport": "sse",
        "protocol": "event-stream",
        "connected_at": record.connected_at,
        "subscriptions": 1,
        "node": "n",
    }
    details = await house.listing.details(Sid("a"))
    assert details is not None
    subscription = SubscriptionRecord(room("r"), ["one", "two"])
    assert msgspec.structs.asdict(details) == {**shown, "subscriptions": [subscription]}
    assert await house.listing.details(Sid("b")) is None


@in_loop
async def test_streams_in_the_order_of_their_names() -> None:
    house = House()
    for number in range(30):
        house.heart.member(*[f"r{each:03}" for each in range(number, 100, 30)])
    house.heart.member("r001")
    found: list[str] = []
    after, more = "", True
    while more:
        records, more = await house.listing.streams("r0", after, 7)
        found += [each.stream for each in records]
        after = found[-1]
    assert found == [f"r{number:03}" for number in range(100)]
    assert all(one < other for one, other in pairwise(found))
    [record], _ = await house.listing.streams("r001", "", 7)
    assert record.listeners == 2
    assert await house.listing.streams("nothing", "", 7) == ([], False)
    assert await house.listing.streams("", "r099", 7) == ([], False)


@in_loop
async def test_channels_are_counted_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    client = house.heart.member("a", "b")
    for each in ('{"channel":"Chat","id":1}', '{"channel":"Chat","id":2}', "no JSON", "3"):
        identifier = Identifier(each)
        client.session.subscriptions[identifier] = Subscription(client.session, identifier)
    assert await house.listing.channels() == {"Room": 2, "Chat": 2, "no JSON": 1, "3": 1}
    monkeypatch.setattr(listing_module, "CHANNELS", 1)
    assert await house.listing.channels() == {"Room": 2, OTHER_CHANNELS: 4}


@in_loop
async def test_a_failure_belongs_to_its_search_alone() -> None:
    house = House()
    client = house.heart.connect()
    client.session.environment.identifiers = None  # type: ignore[assignment]
    with pytest.raises(TypeError):
        await house.page(SessionQuery(q="a"))
    client.session.environment.identifiers = ""
    assert len((await house.page())[0]) == 1


@in_loop
async def test_a_cancelled_search_is_not_continued() -> None:
    house = House()
    for _ in range(3_000):
        house.heart.connect()
    search = asyncio.ensure_future(house.listing.count(SessionQuery(q="x")))
    await asyncio.sleep(0)
    search.cancel()
    await asyncio.wait([search])
    turns = 0
    while not house.listing._turns.is_free:
        turns += 1
        await asyncio.sleep(0)
    assert turns <= 2
