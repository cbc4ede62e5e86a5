"""Publications from NATS: a real nats-server, which comes, goes, freezes and refuses."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from catenary.errors import BackendError, PublicationError, TooLarge
from catenary.metrics.counters import Counters
from tests.adapters.nats.listening import (
    QUICK_S,
    node,
    peer,
    publish,
    settled,
    shorten_timeouts,
    until,
)
from tests.parts.heart import in_loop
from tests.parts.nats import NatsPublisher, NatsServer, nats_publisher, nats_server

SUBSCRIBED = "Subscribed to the NATS subject news"


@pytest.fixture
def nats() -> Iterator[NatsServer]:
    with nats_server() as server:
        yield server


@pytest.fixture
def app(nats: NatsServer) -> Iterator[NatsPublisher]:
    with nats_publisher(nats, "news") as publisher:
        yield publisher


@in_loop
async def test_publications_come_as_they_are_and_in_order(
    nats: NatsServer, app: NatsPublisher
) -> None:
    async with node(nats.url) as listener:
        sent = [b"", b"\xff\x00\r\n", b"x" * 1_048_576, *(str(n).encode() for n in range(500))]
        await publish(app, *sent)
        await asyncio.to_thread(app.broadcast, "chat", "é", exclude_socket="s")
        await until(lambda: len(listener.got) > len(sent))
        assert listener.got[:-1] == sent
        last = {"stream": "chat", "data": json.dumps("é"), "meta": {"exclude_socket": "s"}}
        assert json.loads(listener.got[-1]) == last


@in_loop
async def test_one_is_done_with_before_the_next_begins(
    nats: NatsServer, app: NatsPublisher
) -> None:
    began: list[bytes] = []
    done: list[bytes] = []
    gate = asyncio.Event()

    async def slowly(raw: bytes) -> None:
        began.append(raw)
        await gate.wait()
        await asyncio.sleep(0)
        done.append(raw)

    async with node(nats.url) as listener, node(nats.url) as other:
        listener.publish = slowly
        await publish(app, *map(str, range(20)))
        await until(lambda: bool(began) and len(other.got) == 20)
        assert (began, done) == ([b"0"], [])
        gate.set()
        await until(lambda: len(done) == 20)
        assert began == done == [str(number).encode() for number in range(20)]


@in_loop
async def test_a_failing_publication_does_not_affect_the_next(
    nats: NatsServer, app: NatsPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    counters = Counters()
    async with node(nats.url, counters=counters) as listener:

        async def fail(error: Exception) -> None:
            raise error

        def take(raw: bytes) -> Awaitable[None] | None:
            if raw == b"refused":
                raise PublicationError("expected a publication")
            if raw == b"broken":
                raise ZeroDivisionError
            if raw == b"broken later":
                return fail(ZeroDivisionError())
            if raw == b"away":
                return fail(BackendError("JetStream is away"))
            if raw == b"too large":
                return fail(TooLarge("expected at most 1048320 bytes"))
            listener.got.append(raw)
            return None

        listener.publish = take
        await publish(app, "refused", "1", "broken", "2", "broken later", "3")
        await until(lambda: listener.got == [b"1", b"2", b"3"])
        assert counters.lost_publications_total == 2
        await publish(app, "away", "4")
        await until(lambda: listener.got[3:] == [b"4"])
        await publish(app, "too large", "5")
        await until(lambda: listener.got[4:] == [b"5"])
        assert counters.lost_publications_total == 3
        assert counters.refused_publications_total == 1
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in errors] == [
        "Publishing failed; the publication begins with b'broken'",
        "Publishing failed; the publication begins with b'broken later'",
    ]
    assert "Publication lost: JetStream is away; it begins with b'away'" in caplog.text
    assert "Publication refused: expected at most 1048320 bytes; it begins" in caplog.text


class Gate:
    """Publications wait here; ``came`` are those that got here, ``done`` those that went through."""

    def __init__(self) -> None:
        self.came: list[bytes] = []
        self.done: list[bytes] = []
        self.is_open = asyncio.Event()

    async def take(self, raw: bytes) -> None:
        self.came.append(raw)
        await self.is_open.wait()
        self.done.append(raw)


MANY = 1000
BIG = b"x" * 20_000


@in_loop
async def test_messages_that_come_faster_than_they_are_published_wait_in_the_server(
    nats: NatsServer,
) -> None:
    counters = Counters()
    gate = Gate()
    async with node(nats.url, counters=counters) as listener, peer(nats.url) as app:
        listener.publish = gate.take
        for _ in range(MANY):
            await app.publish("news", BIG)
        await settled(app)
        await until(lambda: bool(gate.came))
        # Another node receives everything meanwhile.
        async with node(nats.url) as other:
            await app.publish("news", b"last")
            await until(lambda: other.got == [b"last"])
        assert gate.came == [BIG]
        assert sum(map(len, listener.broadcasts._intake._waiting)) < 2_000_000
        gate.is_open.set()
        await until(lambda: len(gate.done) == MANY + 1)
    assert gate.done == [BIG] * MANY + [b"last"]
    assert (counters.lost_publications_total, counters.broadcaster_reconnects_total) == (0, 0)


@in_loop
async def test_a_server_that_keeps_no_more_ends_the_connection_and_that_is_an_outage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "nats.conf"
    file.write_text("max_pending: 1MB")
    counters = Counters()
    gate = Gate()
    with nats_server("-c", str(file)) as nats:
        async with node(nats.url, counters=counters) as listener, peer(nats.url) as app:
            listener.publish = gate.take
            for _ in range(MANY):
                await app.publish("news", BIG)
            await settled(app)
            gate.is_open.set()
            await until(lambda: counters.broadcaster_reconnects_total == 1)
            await until(lambda: listener.is_up)
            await app.publish("news", b"last")
            await until(lambda: gate.done[-1:] == [b"last"])
    assert len(gate.done) < MANY
    assert "publications on news are lost until it is back" in caplog.text


@in_loop
async def test_nats_goes_and_comes_back(nats: NatsServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    counters = Counters()
    async with node(nats.url, counters=counters) as listener:
        for outage in range(2):
            with nats_publisher(nats, "news") as app:
                await publish(app, str(outage))
                await until(lambda n=outage: len(listener.got) > n)  # type: ignore[misc]
            nats.stop()
            await until(lambda n=outage: counters.broadcaster_reconnects_total > n)  # type: ignore[misc]
            nats.start()
            await until(lambda n=outage: caplog.text.count(SUBSCRIBED) == n + 2)  # type: ignore[misc]
        with nats_publisher(nats, "news") as app:
            await publish(app, "back")
        await until(lambda: listener.got == [b"0", b"1", b"back"])
    assert counters.broadcaster_reconnects_total == 2
    assert caplog.text.count("publications on news are lost until it is back") >= 2
    assert caplog.text.count("s without it") == 2


@in_loop
async def test_a_nats_that_says_nothing_is_noticed(
    nats: NatsServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its connection stays open all the time: only a question finds out."""
    shorten_timeouts(monkeypatch)
    counters = Counters()
    async with node(nats.url, counters=counters) as listener:
        nats.freeze()
        try:
            await until(lambda: counters.broadcaster_reconnects_total == 1, 5)
        finally:
            nats.thaw()
        assert f"silent for {QUICK_S:g} s" in caplog.text
        with nats_publisher(nats, "news") as app:
            await publish(app, "again")
        await until(lambda: listener.got == [b"again"])


@in_loop
async def test_a_wrong_password_is_logged_once_and_not_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    counters = Counters()
    with nats_server("--user", "app", "--pass", "correct-horse") as nats:
        url = nats.url.replace("//", "//app:battery-staple@")
        async with node(url, counters=counters, is_up=False) as listener:
            await until(lambda: "it refuses the user, the password or the token" in caplog.text)
            backoff = listener.broadcasts._reconnector._backoff
            await until(lambda: backoff._failures >= 2)
    assert counters.broadcaster_reconnects_total == 1
    assert caplog.text.count("it refuses") == 1
    assert "battery-staple" not in caplog.text


@in_loop
async def test_a_subject_that_is_not_allowed_is_an_outage_that_names_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "nats.conf"
    users = [{"user": "u", "password": "p", "permissions": {"subscribe": ["_INBOX.>"]}}]
    file.write_text(f'{{"authorization": {{"users": {users}}}}}'.replace("'", '"'))
    with nats_server("-c", str(file)) as nats:
        async with node(nats.url.replace("//", "//u:p@"), is_up=False) as listener:
            await until(lambda: "this user may not subscribe to news" in caplog.text)
            assert "news" in (listener.broadcasts.trouble or "")


@in_loop
async def test_a_node_starts_and_ends_while_nats_is_away(nats: NatsServer) -> None:
    nats.stop()
    counters = Counters()
    async with node(nats.url, counters=counters, is_up=False) as listener:
        await until(lambda: counters.broadcaster_reconnects_total == 1)
        nats.start()
        with nats_publisher(nats, "news") as app:
            await publish(app, "at last")
        await until(lambda: listener.got == [b"at last"])
        nats.stop()
        await until(lambda: counters.broadcaster_reconnects_total == 2)
        began = time.monotonic()
    assert time.monotonic() - began < 2


@in_loop
async def test_one_member_of_a_queue_group_receives_each(
    nats: NatsServer, app: NatsPublisher
) -> None:
    async with (
        node(nats.url, queue="nodes") as one,
        node(nats.url, queue="nodes") as other,
        node(nats.url) as everything,
    ):
        sent = [str(number).encode() for number in range(100)]
        await publish(app, *sent)
        await until(lambda: everything.got == sent)
        await until(lambda: len(one.got) + len(other.got) == 100)
        assert sorted(one.got + other.got) == sorted(sent)
        assert one.got
        assert other.got


@in_loop
async def test_leaving_a_queue_group_loses_nothing_and_doubles_nothing(
    nats: NatsServer,
) -> None:
    sent = [str(number).encode() for number in range(5000)]
    async with node(nats.url, queue="nodes") as stays, peer(nats.url) as app:
        async with node(nats.url, queue="nodes") as leaves:
            for raw in sent[:2500]:
                await app.publish("news", raw)
            await settled(app)
            publishing = asyncio.create_task(_publish_all(app, sent[2500:]))
        await publishing
        await until(lambda: len(stays.got) + len(leaves.got) == len(sent))
        assert sorted(stays.got + leaves.got) == sorted(sent)
        assert leaves.got


async def _publish_all(app: Client, messages: list[bytes]) -> None:
    for raw in messages:
        await app.publish("news", raw)
        await asyncio.sleep(0)
    await settled(app)


@in_loop
async def test_received_messages_are_published_before_the_end(nats: NatsServer) -> None:
    done: list[bytes] = []

    async def slowly(raw: bytes) -> None:
        await asyncio.sleep(0.005)
        done.append(raw)

    sent = [str(number).encode() for number in range(50)]
    async with peer(nats.url) as app, node(nats.url) as listener:
        listener.publish = slowly
        for raw in sent:
            await app.publish("news", raw)
        await settled(app)
    assert done == sent


@in_loop
async def test_messages_that_are_not_published_in_time_are_counted(
    nats: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    counters = Counters()
    gate = Gate()
    async with node(nats.url, counters=counters, close_s=0.2) as listener:
        listener.publish = gate.take
        for _ in range(3):
            # As if all had come in one read
            listener.broadcasts._take(b"news", b"", b"1")
        await until(lambda: bool(gate.came))
    assert counters.lost_publications_total == 3
    assert "3 publications on news may be lost: no time is left" in caplog.text
