"""The nodes of a Redis Cluster, and connections of redis-py that find their node when they connect.

Knows: the known nodes, CLUSTER SLOTS. Does not know: what is sent there.
Source: redis.io, "Redis Cluster specification"; "CLUSTER SLOTS".
"""

import random
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, Connection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AskError, ReadOnlyError, RedisError
from redis.exceptions import ConnectionError as Disconnected

from catenary.config.addresses import RedisAddress, RedisServer, redis_reason, redis_settings
from catenary.protocols.redis_cluster import Place, SlotRange, read_slots, slot_of

PATIENCE_S: Final = 1.0
"""How long a node may take to answer, before the next one is asked."""


class ClusterNodes:
    """Asks nodes of the cluster which primary has which slots: those of the last answer first, then those of the address."""

    __slots__ = ("_address", "_known", "_seeds")

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._seeds = [Place(each.host, each.port) for each in address.cluster_nodes]
        self._known: list[Place] = []

    async def slots(self) -> list[SlotRange]:
        """Asks the nodes in turn. Raises :class:`redis.exceptions.ConnectionError` if none gives a whole answer."""
        reasons = []
        for place in dict.fromkeys((*self._known, *self._seeds)):
            try:
                ranges = await self._ask(place)
            except (RedisError, OSError, ValueError) as error:
                reason = error if isinstance(error, ValueError) else redis_reason(error)
                reasons.append(f"{place.host}:{place.port}: {reason}")
            else:
                self.learn(ranges)
                return ranges
        raise Disconnected("no node of the Redis Cluster knows its slots: " + "; ".join(reasons))

    def learn(self, ranges: list[SlotRange]) -> None:
        """These nodes are asked the next time, in another order: the first one may be cut off from the others."""
        places = [each for found in ranges for each in (found.primary, *found.replicas)]
        self._known = list(dict.fromkeys(places))
        random.shuffle(self._known)

    async def find(self, key: bytes | None) -> Place:
        """The primary that has a key; without one, any primary."""
        ranges = await self.slots()
        if key is None:
            return random.choice(ranges).primary  # noqa: S311
        slot = slot_of(key)
        return next(each.primary for each in ranges if each.first <= slot <= each.last)

    def server(self, place: Place) -> RedisServer:
        """A node, with the settings that all have."""
        first = self._address.cluster_nodes[0]
        return msgspec.structs.replace(first, host=place.host, port=place.port)

    async def _ask(self, place: Place) -> list[SlotRange]:
        client = Redis(
            **redis_settings(self._address, self.server(place)),
            socket_connect_timeout=PATIENCE_S,
            socket_timeout=PATIENCE_S,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            # Not ``execute_command``, which changes the reply.
            connection: AbstractConnection = client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
            try:
                await connection.connect()  # type: ignore[no-untyped-call]
                await connection.send_command("CLUSTER", "SLOTS")
                return read_slots(await connection.read_response(), place)
            finally:
                await connection.disconnect(nowait=True)
        finally:
            await client.aclose()


class _FindingConnection(Connection):
    """Connects to the primary that has ``key`` at that moment. If the node does not have it any more, the connection is closed,
    so that the next command finds the right one."""

    def __init__(self, *, nodes: ClusterNodes, key: bytes | None, **settings: Any) -> None:
        self._nodes = nodes
        self._key = key
        super().__init__(**settings)

    async def connect(self) -> None:
        if self.is_connected:
            return
        try:
            self.host, self.port = await self._nodes.find(self._key)
        except StopIteration as error:
            raise Disconnected("no node of the Redis Cluster has this key") from error
        await super().connect()  # type: ignore[no-untyped-call]

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)
        except (AskError, ReadOnlyError) as error:
            await self.disconnect()
            raise Disconnected(f"this node does not have the slot any more: {error}") from error


class _FindingSSLConnection(_FindingConnection, SSLConnection):
    pass


def cluster_client(address: RedisAddress, key: str | None, settings: dict[str, Any]) -> Redis:
    """A client whose connections find the primary of ``key``, or any primary. Other ``settings`` are those of redis-py."""
    nodes = ClusterNodes(address)
    settings = {
        name: value for name, value in settings.items() if name not in ("host", "port", "ssl")
    }
    kind = _FindingSSLConnection if address.server.is_encrypted else _FindingConnection
    wanted = None if key is None else key.encode()
    client: Redis = Redis.from_pool(
        ConnectionPool(connection_class=kind, nodes=nodes, key=wanted, **settings)
    )
    return client
