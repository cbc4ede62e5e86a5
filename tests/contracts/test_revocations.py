"""Remote disconnects end kept sessions on every node: one contract for Redis and NATS, over real servers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass

import pytest

from catenary.errors import BackendError, NotCaughtUp
from catenary.messages.names import Sid
from catenary.messages.publications import Publishable, RemoteDisconnect
from catenary.node.takeover import PAUSE_S
from tests.contracts.brokers import answer
from tests.parts.heart import in_loop
from tests.parts.nats import NatsServer
from tests.parts.nats_node import NatsNode, jetstream_server, nats_node, until
from tests.parts.ports import free_port
from tests.parts.redis import RedisServer, redis_server
from tests.parts.redis_node import RedisNode, redis_node
from tests.parts.tcp_relay import TcpRelay, tcp_relay

EndNode = RedisNode | NatsNode
EVE = RemoteDisconnect('{"user":"ève"}', reconnect=False)
BOB = RemoteDisconnect('{"user":"bob"}', reconnect=True)
A = Sid("a")


@dataclass
class Engine:
    """A server of Redis or NATS, and nodes on it."""

    server: RedisServer | NatsServer
    forget: Callable[[], None]

    @asynccontextmanager
    async def node(
        self, *, deliver: Callable[[Publishable], None] | None = None, port: int | None = None
    ) -> AsyncIterator[EndNode]:
        scheme = self.server.url.partition(":")[0]
        url = None if port is None else f"{scheme}://127.0.0.1:{port}"
        opened: AbstractAsyncContextManager[EndNode]
        if isinstance(self.server, RedisServer):
            opened = redis_node(self.server, deliver=deliver, canary_interval_s=0.3, url=url)
        else:
            opened = nats_node(self.server, deliver=deliver, canary_interval_s=0.3, url=url)
        async with opened as node:
            yield node


@contextmanager
def on_redis() -> Iterator[Engine]:
    with redis_server() as server:
        yield Engine(server, lambda: None)


@contextmanager
def on_nats() -> Iterator[Engine]:
    with jetstream_server() as server:
        yield Engine(server, server.forget)


ENGINES: dict[str, Callable[[], AbstractContextManager[Engine]]] = {
    "redis": on_redis,
    "nats": on_nats,
}


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with ENGINES[request.param]() as engine:
        yield engine


async def send(node: EndNode, command: RemoteDisconnect) -> None:
    await answer(node.pubsub.send((command,)))


def commands(node: EndNode) -> list[RemoteDisconnect]:
    return [each for each in node.received if isinstance(each, RemoteDisconnect)]


def is_revoked(node: EndNode, command: RemoteDisconnect, since: int = 0) -> bool:
    return node.sessions.revocations.is_revoked(command.identifiers, since)


@in_loop
async def test_every_node_knows_of_the_revocation_when_the_command_is_delivered(
    engine: Engine,
) -> None:
    known: list[bool] = []
    nodes: list[EndNode] = []

    def deliver(publication: Publishable) -> None:
        assert publication == EVE
        known.append(is_revoked(nodes[len(known)], EVE))

    async with engine.node(deliver=deliver) as one:
        nodes += [one, one]
        await send(one, EVE)
        await until(lambda: len(known) == 1)
        await send(one, EVE)
        await until(lambda: len(known) == 2)
    assert known == [True, True]


@in_loop
async def test_nodes_agree_on_the_numbers(engine: Engine) -> None:
    async with engine.node() as one, engine.node() as other:
        for sender, command in ((one, EVE), (other, BOB), (one, EVE), (one, BOB)):
            before = other.sessions.revocations.newest
            await send(sender, command)
            await until(lambda: len(commands(one)) == len(commands(other)))
            for node in (one, other):
                await until(lambda: is_revoked(node, command, before))  # noqa: B023
                assert not is_revoked(node, command, node.sessions.revocations.newest)
        assert one.sessions.revocations.newest == other.sessions.revocations.newest
        assert commands(one) == commands(other) == [EVE, BOB, EVE, BOB]


@in_loop
async def test_a_node_that_was_away_receives_what_it_has_missed_in_order_and_once(
    engine: Engine,
) -> None:
    with tcp_relay(engine.server.port) as relay:
        async with engine.node() as one, engine.node(port=relay.port) as away:
            await send(one, BOB)
            await until(lambda: commands(away) == [BOB])
            await cut_off(relay, away)
            for command in (EVE, BOB, EVE):
                await send(one, command)
            since = away.sessions.revocations.newest
            relay.aim(engine.server.port)
            await until(lambda: away.pubsub.trouble is None)
            assert commands(away) == [BOB, BOB, EVE]
            assert is_revoked(away, EVE, since)
            await send(one, EVE)
            await until(lambda: len(commands(away)) == 4)


async def cut_off(relay: TcpRelay, node: EndNode) -> None:
    """Returns when the node has noticed."""
    relay.aim(free_port())
    relay.cut()
    await until(lambda: node.pubsub.trouble is not None)


@in_loop
async def test_a_node_that_starts_knows_of_earlier_revocations_and_disconnects_nobody(
    engine: Engine,
) -> None:
    async with engine.node() as one:
        await send(one, EVE)
        async with engine.node() as late:
            assert is_revoked(late, EVE)
            assert late.sessions.revocations.newest == one.sessions.revocations.newest
            assert commands(late) == []
            await send(one, BOB)
            await until(lambda: commands(late) == [BOB])


@in_loop
async def test_nothing_is_taken_before_all_revocations_are_known_and_ended_all_the_same(
    engine: Engine,
) -> None:
    """A node whose pub/sub has not begun to listen, or listens no more, while the rest works."""
    async with engine.node() as one:
        await one.sessions.save(A, b"1")
        await send(one, EVE)
        late = await half_started(engine)
        try:
            for _ in range(2):
                with pytest.raises(NotCaughtUp):
                    await late.sessions.take(A)
            assert await late.sessions.remove(A) == b"1"
            await one.sessions.save(A, b"2")
            await late.pubsub.start()
            await until(lambda: late.pubsub.trouble is None)
            assert await late.sessions.take(A) == b"2"
        finally:
            await late.close()


async def half_started(engine: Engine) -> EndNode:
    """A node that reaches the store, and does not listen."""
    if isinstance(engine.server, RedisServer):
        on_redis = RedisNode(engine.server)
        await on_redis.engine.start()
        await until(lambda: on_redis.engine.commands.trouble is None)
        return on_redis
    on_nats = NatsNode(engine.server)
    await on_nats.engine.start()
    await on_nats.engine.up()
    return on_nats


@in_loop
async def test_a_command_that_every_node_relays_takes_effect_once(engine: Engine) -> None:
    async with engine.node() as one, engine.node() as other:
        await one.pubsub.relay(EVE)
        await until(lambda: commands(one) == commands(other) == [EVE])
        await other.pubsub.relay(EVE)
        await other.pubsub.relay(BOB)
        await until(lambda: commands(one) == commands(other) == [EVE, BOB])
        # One that is sent is a new one, however soon.
        await send(one, EVE)
        await until(lambda: commands(one) == commands(other) == [EVE, BOB, EVE])


@in_loop
async def test_numbers_grow_when_everything_was_lost(engine: Engine) -> None:
    async with engine.node() as one:
        await send(one, BOB)
        await until(lambda: is_revoked(one, BOB))
        since = one.sessions.revocations.newest
        engine.server.stop()
        await until(lambda: one.pubsub.trouble is not None)
        engine.forget()
        await asyncio.sleep(1)  # NATS tells streams that had the same name apart by the second
        engine.server.start()
        await until(lambda: one.pubsub.trouble is None)
        await send_patiently(one, EVE)
        await until(lambda: is_revoked(one, EVE, since))


async def send_patiently(node: EndNode, command: RemoteDisconnect) -> None:
    for _ in range(20):
        try:
            await send(node, command)
        except BackendError:
            await asyncio.sleep(PAUSE_S)
        else:
            return


@in_loop
async def test_without_sessions_a_command_has_no_number_and_is_delivered(engine: Engine) -> None:
    opened: AbstractAsyncContextManager[EndNode]
    if isinstance(engine.server, RedisServer):
        opened = redis_node(engine.server, None)
    else:
        opened = nats_node(engine.server, None)
    async with opened as node:
        await send(node, EVE)
        await node.pubsub.relay(BOB)
        await until(lambda: commands(node) == [EVE, BOB])
