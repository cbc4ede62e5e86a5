"""Heartbeats of many nodes, and of nodes that another program makes up."""

from collections.abc import Iterator

import msgspec
import pytest

from catenary.adapters.nats import nodes as nodes_module
from catenary.adapters.nats.nodes import FORGOTTEN_AT_ONCE, HEARTBEATS_PER_S, Nodes
from catenary.adapters.nats.subjects import Subjects
from tests.parts.heart import in_loop
from tests.parts.nats_node import LIMITS, JetStreamServer, NatsNode, jetstream_server, nats_node

HEARTBEATS = Subjects("test.between").heartbeats
MANY = 1_200
"""More than the 1,024 subjects that JetStream answers at once."""

SHORT = msgspec.structs.replace(LIMITS, presence_ttl_s=2, sessions_ttl_s=2)


@pytest.fixture(scope="module")
def running_server() -> Iterator[JetStreamServer]:
    with jetstream_server() as running:
        yield running


@pytest.fixture
def server(running_server: JetStreamServer) -> JetStreamServer:
    return running_server


async def make_up(node: NatsNode, number: int) -> None:
    connection = node.engine.connection
    for each in range(number):
        connection.publish(f"{HEARTBEATS}made-up-{each}", b"")
    await connection.flushed()


def nodes_of(node: NatsNode) -> Nodes:
    assert node.engine._nodes is not None
    return node.engine._nodes


@in_loop
async def test_a_node_reads_a_limited_number_of_heartbeats_a_second(
    server: JetStreamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with nats_node(server) as node:
        records, nodes = node.engine.records(), nodes_of(node)
        await make_up(node, MANY)
        await nodes.begin(records)
        assert len(nodes._ages_s) == MANY + 1
        requests = node.engine.connection._requests
        asked = requests.requests_total
        for _ in range(20):
            await nodes.beat(records)
        assert requests.requests_total - asked <= 25, "own heartbeats alone"
        now = nodes._loop.time()
        monkeypatch.setattr(nodes, "_read_at", now - MANY / HEARTBEATS_PER_S - 1)
        await nodes.beat(records)
        assert nodes._read_at >= now


@in_loop
async def test_a_node_starts_beside_made_up_nodes_and_the_first_one_deletes_them(
    server: JetStreamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes_module, "HEARTBEATS_PER_S", 1e6)
    async with nats_node(server, SHORT) as one, nats_node(server, SHORT) as other:
        await one.engine.records().purge(f"{HEARTBEATS}*")
        made_up = 3 * FORGOTTEN_AT_ONCE
        await make_up(one, made_up)
        counted = {each: each.engine.connection._requests for each in (one, other)}
        asked = {each: requests.requests_total for each, requests in counted.items()}
        await one.nodes_are(2)
        spent = sorted(requests.requests_total - asked[each] for each, requests in counted.items())
        # Four requests for each made-up node, by one of the two.
        assert spent[0] < made_up < spent[1]


@in_loop
async def test_a_name_that_is_a_pattern_of_subjects_is_no_node(server: JetStreamServer) -> None:
    async with nats_node(server) as node:
        connection = node.engine.connection
        for name in ("*", ">", "a*"):
            connection.publish(HEARTBEATS + name, b"")
        await connection.flushed()
        nodes = nodes_of(node)
        await nodes.begin(node.engine.records())
        assert not {"*", ">", "a*"} & set(nodes._ages_s)
