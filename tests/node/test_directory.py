"""The directory of a cluster's nodes: what it costs with many nodes, and with nodes that somebody makes up."""

from collections.abc import Callable

import msgspec
import pytest

from catenary.messages.nodes import NodeEntry
from catenary.metrics.counters import Counters
from catenary.node import directory as directory_module
from catenary.node.directory import ANNOUNCEMENTS, LONGEST_S, NODES, SILENT, Directory
from catenary.protocols.cluster_messages import ANNOUNCE_S, Announced, Left, pack, unpack


class Bus:
    """Carries the messages of all directories at once, and counts those that each node receives. The time is virtual."""

    def __init__(self) -> None:
        self.now = 0.0
        self.received: dict[str, int] = {}
        self._nodes: dict[str, Directory] = {}

    def start(self, name: str) -> Directory:
        peers = Peers(self, name)
        entry = NodeEntry(name, name, "host", 1, 0, "0", 0)
        directory = Directory(entry, peers, Counters(), lambda: self.now, lambda node, why: None)
        self._nodes[name] = directory
        self.received[name] = 0
        directory.announce_again()
        return directory

    def kill(self, name: str) -> None:
        del self._nodes[name]

    def send(self, names: list[str] | None, message: bytes) -> None:
        read = unpack(message)
        for name in list(self._nodes) if names is None else names:
            node = self._nodes.get(name)
            if node is None:
                continue
            self.received[name] += 1
            if isinstance(read, Announced):
                node.note_announcement(read)
            elif isinstance(read, Left):
                node.note_goodbye(read.node)

    def run(self, duration_s: float) -> None:
        end = self.now + duration_s
        while self.now < end:
            self.now += ANNOUNCE_S
            for node in list(self._nodes.values()):
                node.announce()


class Peers:
    """Satisfies :class:`catenary.ports.Peers`."""

    def __init__(self, bus: Bus, node: str) -> None:
        self.node = node
        self.on_message: Callable[[bytes], None] = lambda _: None
        self._bus = bus

    def send_to(self, node: str, message: bytes) -> None:
        self._bus.send([node], message)

    def send_to_all(self, message: bytes) -> None:
        self._bus.send(None, message)


MINUTE_S = 60


@pytest.fixture
def few_announcements(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the usual limit: 100 nodes show what 1,000 cost."""
    monkeypatch.setattr(directory_module, "ANNOUNCEMENTS", 10)


def messages_per_second(number: int) -> float:
    """What the busiest of so many nodes receives, once all know each other."""
    bus = Bus()
    nodes = [bus.start(f"n{each}") for each in range(number)]
    bus.run(2 * nodes[0].interval_s)
    assert all(len(each.nodes()) == number for each in nodes)
    before = dict(bus.received)
    bus.run(MINUTE_S)
    assert all(len(each.nodes()) == number for each in nodes)
    return max(bus.received[each] - before[each] for each in before) / MINUTE_S


@pytest.mark.usefixtures("few_announcements")
@pytest.mark.parametrize("number", [10, 40, 100])
def test_a_node_receives_announcements_at_a_rate_that_does_not_grow_with_their_number(
    number: int,
) -> None:
    # 10 in 3 s, those that come early (a fifth), and the node's own.
    assert messages_per_second(number) <= 10 / ANNOUNCE_S * 1.25 + 1 / ANNOUNCE_S


@pytest.mark.usefixtures("few_announcements")
def test_a_node_of_a_large_cluster_that_dies_is_forgotten_by_all() -> None:
    bus = Bus()
    nodes = [bus.start(f"n{each}") for each in range(30)]
    bus.run(30)
    bus.kill("n7")
    survivors = [each for each in nodes if each is not nodes[7]]
    bus.run(9)
    assert all(len(each.nodes()) == 30 for each in survivors)
    bus.run(SILENT * nodes[0].interval_s)
    assert all(len(each.nodes()) == 29 for each in survivors)


@pytest.mark.usefixtures("few_announcements")
def test_nodes_of_a_large_cluster_do_not_announce_themselves_at_once_after_an_outage() -> None:
    bus = Bus()
    nodes = [bus.start(f"n{each}") for each in range(100)]
    bus.run(60)
    before = sum(bus.received.values())
    for each in nodes:
        each.announce_again()
    # To all these would be 10,000 messages; now each to itself, and to all from those whose time has come.
    assert sum(bus.received.values()) - before < 4_000


def announced(number: int, interval_s: float = ANNOUNCE_S) -> bytes:
    name = f"made-up-{number}"
    return pack(Announced(name, NodeEntry(name, name, "", 1, 0, "", 0), interval_s))


def test_made_up_nodes_are_bounded_and_the_known_nodes_stay() -> None:
    bus = Bus()
    one = bus.start("one")
    bus.start("real")
    counters = one._counters
    for number in range(NODES + 500):
        bus.send(["one"], announced(number, interval_s=1e9))
    names = [each.name for each in one.nodes()]
    assert len(names) == NODES + 1
    assert {"one", "real"} <= set(names)
    assert counters.cluster_refused_nodes_total == 501
    assert one.interval_s == pytest.approx(LONGEST_S, rel=0.01)
    # They are forgotten, however rarely they wanted to announce themselves.
    bus.run(SILENT * LONGEST_S + ANNOUNCE_S)
    assert [each.name for each in one.nodes()] == ["one", "real"]
    assert one.interval_s == ANNOUNCE_S


def test_made_up_nodes_get_a_limited_number_of_replies() -> None:
    sent: list[bytes] = []
    bus = Bus()
    peers = Peers(bus, "one")
    peers.send_to = lambda node, message: sent.append(message)  # type: ignore[method-assign]
    entry = NodeEntry("one", "one", "host", 1, 0, "0", 0)
    one = Directory(entry, peers, Counters(), lambda: bus.now, lambda node, why: None)
    for number in range(500):
        message = unpack(announced(number))
        assert isinstance(message, Announced)
        one.note_announcement(message)
    assert len(sent) == ANNOUNCEMENTS


def test_an_announcement_of_an_earlier_version_has_the_shortest_interval() -> None:
    message = unpack(msgspec.msgpack.encode(["here", "x", ["x", "", "", 1, 0, "", 0]]))
    assert isinstance(message, Announced)
    assert message.interval_s == ANNOUNCE_S


@pytest.mark.parametrize("interval", [float("nan"), float("inf"), -1.0])
def test_an_interval_that_is_none_is_bounded(interval: float) -> None:
    bus = Bus()
    one = bus.start("one")
    bus.send(["one"], announced(1, interval))
    bus.run(SILENT * LONGEST_S + ANNOUNCE_S)
    assert [each.name for each in one.nodes()] == ["one"]


def test_an_announcement_that_a_goodbye_has_overtaken_is_ignored() -> None:
    bus = Bus()
    here, there = bus.start("here"), bus.start("there")
    late = Announced("there", there.nodes()[-1], ANNOUNCE_S)
    there.leave()
    here.note_announcement(late)
    assert [each.id for each in here.nodes()] == ["here"]
