"""A client that does not read its socket catches up from the history of an engine, whichever node or worker publishes."""

import re
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.parts.cluster import FLAGS, nats_cluster, redis_cluster
from tests.parts.server import CableServer, cable_server
from tests.transports.test_slow_consumers import (
    BATCH,
    RULES,
    a_stream,
    numbers,
    publish,
    read_until,
    slow_reader,
)

WORKERS = ("--workers=2", "--broker=nats", "--embed_nats")


class Nodes(NamedTuple):
    """The server of the reader, and the one that publications are sent to."""

    reader: CableServer
    publisher: CableServer


@contextmanager
def opened(kind: str, directory: Path) -> Iterator[Nodes]:
    file = directory / "anycable.toml"
    file.write_text(RULES)
    flags = (f"--config-path={file}", "--metrics_http=/metrics")
    with ExitStack() as stack:
        if kind == "workers":
            store = f"--enats_store_dir={directory / 'nats'}"
            server = stack.enter_context(cable_server(*FLAGS, *flags, *WORKERS, store))
            yield Nodes(server, server)
        else:
            cluster = redis_cluster if kind == "redis" else nats_cluster
            yield Nodes(*stack.enter_context(cluster(2, *flags)).nodes)


@pytest.fixture(scope="module", params=["redis", "nats", "workers"])
def nodes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Nodes]:
    with opened(request.param, tmp_path_factory.mktemp("slow")) as started:
        yield started


def figure(server: CableServer, name: str) -> int:
    """A counter, of all workers together."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    return sum(
        map(int, re.findall(rf"^anycable_go_{name}(?:{{[^}}]*}})? (\d+)$", text, re.MULTILINE))
    )


def fall_behind(nodes: Nodes, stream: str, more: int) -> int:
    """Publishes until the client is behind, and then more; returns the number of messages."""
    before = figure(nodes.reader, "slow_consumers_total")
    published = 0
    while figure(nodes.reader, "slow_consumers_total") == before:
        assert published < 4_000, "the kernel takes 80 MB"
        publish(nodes.publisher, stream, published, BATCH)
        published += BATCH
    for _ in range(more):
        publish(nodes.publisher, stream, published, BATCH)
        published += BATCH
    return published


def test_a_slow_client_loses_nothing(nodes: Nodes) -> None:
    stream = a_stream("history")
    caught_up = figure(nodes.reader, "slow_caught_up_messages_total")
    with slow_reader(nodes.reader, "json", stream) as reader:
        published = fall_behind(nodes, stream, 8)
        data = read_until(reader, b"n=%06d" % (published - 1))
        assert numbers(data) == list(range(published))
        assert figure(nodes.reader, "slow_caught_up_messages_total") > caught_up
        publish(nodes.publisher, stream, published, 1)
        assert numbers(read_until(reader, b"n=%06d" % published)) == [published]


def test_a_client_that_is_slower_than_its_history_is_told(nodes: Nodes) -> None:
    """And gets what follows."""
    stream = a_stream("short")
    lost = figure(nodes.reader, "slow_lost_histories_total")
    with slow_reader(nodes.reader, "json", stream) as reader:
        published = fall_behind(nodes, stream, 8)
        data = read_until(reader, b"reject_history")
        publish(nodes.publisher, stream, published, 1)
        if b"n=%06d" % published not in data:
            data += read_until(reader, b"n=%06d" % published)
        before, _, after = data.partition(b"reject_history")
        assert numbers(before) == list(range(len(numbers(before))))
        assert len(numbers(before)) < numbers(after)[0]
        assert numbers(after) == list(range(numbers(after)[0], published + 1))
        assert figure(nodes.reader, "slow_lost_histories_total") == lost + 1
