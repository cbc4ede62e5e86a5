"""A Redis Cluster of processes on this machine: primaries with or without a replica, in one or two seconds.

``VALKEY_SERVER`` names another program than ``redis-server`` for all servers of the tests (``parts/redis.py``).
"""

import atexit
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import redis

from catenary.protocols.redis_cluster import SLOTS, slot_of
from tests.parts.ports import free_port
from tests.parts.redis import RedisServer

NODE_TIMEOUT_MS = 800
"""After this time a silent primary is replaced, after about twice as long it has been."""


class ClusterNode(RedisServer):
    """One server. Its files are in a directory of its own, so that it keeps its place in the cluster over a restart."""

    def __init__(self, directory: Path, flags: Sequence[str]) -> None:
        self.bus_port = free_port()
        self.directory = directory
        super().__init__(
            directory,
            flags=(
                *("--cluster-enabled", "yes", "--cluster-port", str(self.bus_port)),
                *("--cluster-node-timeout", str(NODE_TIMEOUT_MS)),
                *("--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"),
                *flags,
            ),
        )

    def lose_data(self) -> None:
        """Deletes the keys of a node that does not run; it keeps its place in the cluster."""
        shutil.rmtree(self.directory / "appendonlydir", ignore_errors=True)

    def ask(self, *command: str | int) -> Any:
        """Runs a command. Raises :class:`redis.RedisError`."""
        with redis.Redis(port=self.port, socket_timeout=5, decode_responses=True) as client:
            return client.execute_command(*command)

    def cluster_info(self) -> str:
        with redis.Redis(port=self.port, decode_responses=True) as client:
            client.set_response_callback("CLUSTER INFO", str)
            return str(client.execute_command("CLUSTER INFO"))

    @property
    def id(self) -> str:
        return str(self.ask("CLUSTER", "MYID"))


class RedisCluster:
    """Each of the ``primaries`` has an equal part of the slots, and a replica if ``has_replicas``."""

    def __init__(
        self,
        directory: Path,
        *,
        primaries: int = 3,
        has_replicas: bool = False,
        has_slots: bool = True,
        flags: Sequence[str] = (),
    ) -> None:
        number = primaries * (2 if has_replicas else 1)
        directories = [directory / f"node-{index}" for index in range(number)]
        for each in directories:
            each.mkdir()
        self.nodes = [ClusterNode(each, flags) for each in directories]
        self._primaries = primaries
        self._has_slots = has_slots

    @property
    def url(self) -> str:
        """The address of two of the nodes, as an option names it."""
        return ",".join(f"redis+cluster://127.0.0.1:{each.port}" for each in self.nodes[:2])

    def start(self) -> None:
        """Returns when every node knows all others, and can be used. Raises TimeoutError."""
        for node in self.nodes:
            node.start()
        if not self._has_slots:
            return
        first, *others = self.nodes
        for index, node in enumerate(self.nodes):
            # Before they meet: two nodes with the same epoch would have to agree on new ones.
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for index, node in enumerate(self.nodes[: self._primaries]):
            start, end = (SLOTS * each // self._primaries for each in (index, index + 1))
            node.ask("CLUSTER", "ADDSLOTSRANGE", start, end - 1)
        for node in others:
            node.ask("CLUSTER", "MEET", "127.0.0.1", first.port, first.bus_port)
        known = f"cluster_known_nodes:{len(self.nodes)}"
        self._until(lambda: all(known in node.cluster_info() for node in self.nodes))
        for index, replica in enumerate(self.nodes[self._primaries :]):
            replica.ask("CLUSTER", "REPLICATE", self.nodes[index].id)
        self._until(lambda: all("cluster_state:ok" in node.cluster_info() for node in self.nodes))
        self.until_replicated()

    def meet(self, other: ClusterNode) -> None:
        """Adds a node without slots; returns when all know it."""
        other.ask("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port, self.nodes[0].bus_port)
        known = f"cluster_known_nodes:{len(self.nodes) + 1}"
        nodes = (*self.nodes, other)
        self._until(
            lambda: all(
                known in each.cluster_info() and "cluster_state:ok" in each.cluster_info()
                for each in nodes
            )
        )

    def until_replicated(self) -> None:
        """Returns when each primary has a replica that follows it. Raises TimeoutError."""
        number = len(self.nodes) - self._primaries
        self._until(lambda: sum(map(self._is_connected, self.nodes)) == number)

    def start_again(self) -> None:
        """Starts the nodes that do not run; returns when the cluster can be used again. Raises TimeoutError."""
        for node in self.nodes:
            node.start()
        self._until(lambda: all("cluster_state:ok" in node.cluster_info() for node in self.nodes))

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def primary_of(self, key: str) -> ClusterNode:
        """The node that has the slot of a key now, in the eyes of all nodes that answer."""
        slot = slot_of(key.encode())
        for asked in self.nodes:
            if not asked.is_running:
                continue
            ranges = asked.ask("CLUSTER", "SLOTS")
            port = next(each[2][1] for each in _rows(ranges) if each[0] <= slot <= each[1])
            return next(node for node in self.nodes if node.port == port)
        raise RuntimeError("expected a node that runs")

    def move(self, slot: int, source: ClusterNode, target: ClusterNode) -> None:
        """Moves a slot with its keys, as ``redis-cli --cluster reshard`` does."""
        self.begin_move(slot, source, target)
        self.move_keys(slot, source, target)
        self.end_move(slot, source, target)

    def begin_move(self, slot: int, source: ClusterNode, target: ClusterNode) -> None:
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)

    def move_keys(
        self, slot: int, source: ClusterNode, target: ClusterNode, limit: int = 100
    ) -> None:
        keys = source.ask("CLUSTER", "GETKEYSINSLOT", slot, limit)
        if keys:
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)

    def end_move(self, slot: int, source: ClusterNode, target: ClusterNode) -> None:
        identity = target.id
        for node in (target, source, *self.nodes[: self._primaries]):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", identity)

    def _is_connected(self, replica: ClusterNode) -> bool:
        with redis.Redis(port=replica.port) as client:
            return bool(client.info("replication").get("master_link_status") == "up")

    def _until(self, condition: Callable[[], bool]) -> None:
        give_up_at = time.monotonic() + 20
        while not condition():
            if time.monotonic() > give_up_at:
                raise TimeoutError("the Redis Cluster did not become ready")
            time.sleep(0.02)


def _rows(ranges: Any) -> list[Any]:
    """redis-py turns the reply to CLUSTER SLOTS into a dict of ranges."""
    if isinstance(ranges, dict):
        return [[*slots, found["primary"]] for slots, found in ranges.items()]
    return list(ranges)


_shared: list[RedisCluster] = []


def shared_redis_cluster() -> RedisCluster:
    """A cluster without replicas, which all tests of this process share, empty: starting one takes two seconds.

    A test that kills nodes has to start them again.
    """
    if not _shared:
        resources = ExitStack()
        atexit.register(resources.close)
        flags = ("--proto-max-bulk-len", "1mb")
        _shared.append(resources.enter_context(redis_cluster(flags=flags)))
    (cluster,) = _shared
    for node in cluster.nodes:
        node.ask("FLUSHALL")
    return cluster


@contextmanager
def redis_cluster(
    *,
    primaries: int = 3,
    has_replicas: bool = False,
    has_slots: bool = True,
    flags: Sequence[str] = (),
) -> Iterator[RedisCluster]:
    """A cluster for the length of a with block."""
    with TemporaryDirectory(prefix="catenary-redis-", ignore_cleanup_errors=True) as directory:
        cluster = RedisCluster(
            Path(directory),
            primaries=primaries,
            has_replicas=has_replicas,
            has_slots=has_slots,
            flags=flags,
        )
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
