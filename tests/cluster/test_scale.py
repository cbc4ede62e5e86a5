"""What a publication costs in clusters of different sizes: bytes that the shared server sends, as it counts them itself.

Announcements and heartbeats of many nodes: tests/node/test_directory.py, tests/adapters/nats/test_nodes.py.
docs/scaling.md has the figures.
"""

import asyncio
import json
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from catenary.messages.names import Stream
from tests.parts.heart import in_loop
from tests.parts.nats import nats_server
from tests.parts.nats_node import NatsNode, nats_node, until
from tests.parts.ports import free_port
from tests.parts.redis import redis_server
from tests.parts.redis_node import RedisNode, redis_node

S = Stream("s")
MESSAGES = 300
LISTENERS = 2

Node = RedisNode | NatsNode


class Shared:
    """A server, nodes on it, and the bytes that it has sent to all of them."""

    def __init__(self, make: Callable[[], Any], sent_bytes: Callable[[], int]) -> None:
        self.make = make
        self.sent_bytes = sent_bytes


@pytest.fixture(params=["redis", "nats"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shared]:
    if request.param == "redis":
        with redis_server() as server:
            connection = redis.Redis(port=server.port)

            def of_redis() -> int:
                stats: Any = connection.info("stats")
                return int(stats["total_net_output_bytes"])

            yield Shared(lambda: redis_node(server), of_redis)
            connection.close()
    else:
        port = free_port()
        with nats_server("-m", str(port), store_dir=tmp_path / "store") as nats:

            def of_nats() -> int:
                url = f"http://127.0.0.1:{port}/varz"
                with urllib.request.urlopen(url, timeout=5) as answer:
                    return int(json.load(answer)["out_bytes"])

            yield Shared(lambda: nats_node(nats), of_nats)


async def bytes_per_message(shared: Shared, nodes: int) -> float:
    """Sent to all nodes for each message of a stream that two of them listen to."""
    async with AsyncExitStack() as stack:
        cluster: Sequence[Node] = [
            await stack.enter_async_context(shared.make()) for _ in range(nodes)
        ]
        for node in cluster[:LISTENERS]:
            await node.listen([S])
        # Every other node has a stream of its own.
        for number, node in enumerate(cluster[LISTENERS:]):
            await node.listen([Stream(f"other-{number}")])
        before = await asyncio.to_thread(shared.sent_bytes)
        await cluster[-1].publish(S, *("x" * 1_000 for _ in range(MESSAGES)))
        await until(lambda: all(len(each.data(S)) == MESSAGES for each in cluster[:LISTENERS]))
        after = await asyncio.to_thread(shared.sent_bytes)
        assert all(each.received == [] for each in cluster[LISTENERS:])
    return (after - before) / MESSAGES


@in_loop
async def test_a_message_costs_the_nodes_that_want_it_whatever_their_number(
    shared: Shared,
) -> None:
    few = await bytes_per_message(shared, 3)
    many = await bytes_per_message(shared, 12)
    # 1 KB to each of two nodes, and what answers the publisher; canaries and heartbeats run beside it.
    assert 2_000 < few < 3_000
    assert many < few * 1.2
