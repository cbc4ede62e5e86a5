"""Commands to a Redis Cluster: each goes to the primary that has the slot of its key, over one connection to each primary.

Calls of one slot keep their order, also while the slot moves to another node: see :class:`Shard`. If a primary fails, calls of
its slots fail at once until the cluster has replaced it; it is asked for its nodes several times a second then.
Knows: slots, nodes. Does not know: keys, values.
Source: redis.io, "Redis Cluster specification".
"""

import asyncio
import logging
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

from redis.exceptions import RedisError

from catenary.adapters.redis.client import check_tls, connect_to
from catenary.adapters.redis.cluster_nodes import ClusterNodes
from catenary.adapters.redis.cluster_shard import RoutedCall, Shard
from catenary.adapters.redis.commands import MAX_ARGUMENT_BYTES, Script
from catenary.adapters.redis.connection import Argument, pack
from catenary.adapters.redis.large_commands import LargeCommand, ScriptCall, check_size
from catenary.config.addresses import RedisAddress, RedisServer, redis_reason
from catenary.errors import BackendError, TooLarge
from catenary.metrics.counters import Counters
from catenary.protocols.redis_cluster import (
    Place,
    SlotRange,
    read_redirection,
    slot_of,
)
from catenary.supervision.backoff import Backoff
from catenary.supervision.service import Service, Supervisor

_log: Final = logging.getLogger("catenary.redis")

ASK_EVERY_S: Final = 10.0
"""Interval at which the cluster is asked for its nodes."""

ASK_AGAIN_S: Final = 0.3
"""The same while a node is lost, and the shortest interval."""

CONNECT_S: Final = 2.0
"""How long calls for a node that has just got a slot wait for the connection to it."""

TRY_AGAIN_S: Final = 0.02
"""Pause before a script is repeated of which one key has been moved to another node, and one has not."""

MOVING_S: Final = 5.0
"""How long subscribers may need to find a slot at its new primary."""

NEW_S: Final = 60.0
"""The time for which the connection to a node without slots is kept: the cluster is moving slots to it."""


class ClusterCommands:
    """Satisfies :class:`catenary.adapters.redis.commands.RedisCommands`.

    A command belongs to the slot of its first argument, a script to that of its first key.
    """

    __slots__ = (
        "_address",
        "_asked",
        "_counters",
        "_is_suspect",
        "_keeps",
        "_loop",
        "_moved_s",
        "_moving",
        "_nodes",
        "_primaries",
        "_reason",
        "_run",
        "_scripts",
        "_service",
        "_shards",
        "_slots",
        "_supervisor",
        "_tasks",
        "_was_lost",
        "moves_num",
        "replaced",
        "run_id",
        "up_since_s",
    )

    def __init__(
        self,
        address: RedisAddress,
        scripts: Sequence[Script],
        counters: Counters,
        supervisor: Supervisor | None = None,
        *,
        keeps: bool = False,
        moving: bytes = b"",
    ) -> None:
        """``moving`` is the channel on which scripts publish while a slot moves."""
        if address.server.is_encrypted:
            check_tls(address)
        self._address = address
        self._scripts = scripts
        self._keeps = keeps
        self._moving = moving
        # When slots have got another primary
        self._moved_s: dict[int, float] = {}
        self.moves_num = 0
        """How often slots have got other primaries."""
        self._counters = counters
        self._supervisor = supervisor
        self._loop = asyncio.get_running_loop()
        self._nodes = ClusterNodes(address)
        self._service = Service("Redis Cluster", self._follow, supervisor)
        self.run_id = secrets.token_hex(20).encode()
        """A stand-in, which no other text contains: each node gets its own run in its place."""
        self._run = b"$%d\r\n%b\r\n" % (len(self.run_id), self.run_id)
        # The nodes with a connection; those that have slots; and which one has each slot
        self._shards: dict[Place, Shard] = {}
        self._primaries: tuple[Shard, ...] = ()
        self._slots: list[Shard] = []
        self._reason = "not connected to the Redis Cluster yet"
        self._is_suspect = asyncio.Event()
        self._was_lost = False
        self.up_since_s = 0.0
        self.replaced: asyncio.Future[str] = self._loop.create_future()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def trouble(self) -> str | None:
        """Why a part of the cluster can't be used at the moment; None if all of it can."""
        if not self._slots:
            return self._reason
        return next((each.trouble for each in self._primaries if each.trouble is not None), None)

    @property
    def waiting_num(self) -> int:
        """The largest number of commands that wait for one of the nodes."""
        return max((each.waiting_num for each in self._primaries), default=0)

    async def start(self) -> None:
        """Starts to connect; does not wait for Redis."""
        self._service.start()

    async def close(self, timeout_s: float) -> None:
        """Waits for outstanding replies, then disconnects."""
        await self._service.stop()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.gather(*(each.close(timeout_s) for each in self._shards.values()))

    def is_settled(self, ttl_s: float) -> bool:
        """As :meth:`catenary.adapters.redis.commands.Commands.is_settled`."""
        return self.trouble is None and self._loop.time() - self.up_since_s >= max(ttl_s / 3, 1)

    # Calls

    def call(self, *args: Argument) -> "asyncio.Future[Any]":
        """Sends a command to the node of its first argument."""
        return self._call(args[1], args, b"")

    def call_all(self, *args: Argument) -> "list[asyncio.Future[Any]]":
        """Sends a command to each primary."""
        if not self._slots:
            return [self.call(*args)]
        return [each.call(*args) for each in self._primaries]

    def last_calls(self) -> "list[asyncio.Future[Any]]":
        """The last call of each node that waits for its reply: when they are done, so are all calls until now."""
        return [last for each in self._shards.values() if (last := each.last_call()) is not None]

    def run(
        self, script: Script, keys: Sequence[Argument], *args: Argument
    ) -> "asyncio.Future[Any]":
        """Runs a script where its first key is."""
        return self._call(keys[0], ("EVALSHA", script.sha, len(keys), *keys, *args), self._run)

    def script_call(self, script: Script, key: Argument = "") -> ScriptCall:
        """Begins a call of a script that belongs to the slot of ``key``, to be sent with :meth:`send`."""
        return ScriptCall(script.sha, self._max_argument_bytes, key)

    def send(self, command: LargeCommand) -> "asyncio.Future[Any]":
        """Sends a call that was packed part by part."""
        assert isinstance(command, ScriptCall), "a transaction has no slot"
        return self._route(self._routed(command.key, command.packed(), self._run))

    def _call(self, key: Argument, args: tuple[Argument, ...], run: bytes) -> "asyncio.Future[Any]":
        packed = pack(*args)
        call = self._routed(key, packed, run)
        try:
            check_size(packed, args, self._max_argument_bytes)
        except TooLarge as error:
            call.future.set_exception(error)
            return call.future
        return self._route(call)

    def _routed(self, key: Argument, packed: bytes, run: bytes) -> RoutedCall:
        name = key if isinstance(key, bytes) else str(key).encode()
        return RoutedCall(slot_of(name), packed, run, self._loop)

    def _route(self, call: RoutedCall) -> "asyncio.Future[Any]":
        if self._slots:
            self._slots[call.slot].submit(call)
        else:
            call.future.set_exception(BackendError(self._reason))
        return call.future

    @property
    def _max_argument_bytes(self) -> int:
        return min(
            (each.max_argument_bytes for each in self._primaries), default=MAX_ARGUMENT_BYTES
        )

    # For the nodes

    def runs(self, shard: Shard, slot: int, *, is_asking: bool) -> bytes:
        """The run of a node, those of all primaries, and how messages are published there: ``!s`` with SPUBLISH, ``!m`` on a
        channel of the whole cluster, because subscribers may not know yet that the slot is here; else with PUBLISH.

        A stream whose newest message was stored by the run of another node that still is a primary was moved from there,
        with all its messages. If that node is no primary any more, messages may have been lost with it.
        """
        runs = b",".join(
            (shard.run_id, *(each.run_id for each in self._primaries if each.trouble is None))
        )
        if is_asking or self._has_moved(slot):
            return runs + b"!m" + self._moving
        return runs + b"!s" if shard.is_sharded else runs

    def _has_moved(self, slot: int) -> bool:
        moved_s = self._moved_s.get(slot)
        if moved_s is None:
            return False
        if self._loop.time() < moved_s + MOVING_S:
            return True
        del self._moved_s[slot]
        return False

    def shard_of(self, slot: int) -> Shard | None:
        """The primary that has a slot; None before the cluster is known."""
        return self._slots[slot] if self._slots else None

    def server(self, place: Place) -> RedisServer:
        """How to connect to a node."""
        return self._nodes.server(place)

    def learn(self, error: str, shard: Shard) -> None:
        """A node has refused a command: another one has the slot now, if that is what the error says."""
        found = read_redirection(error, shard.place)
        if found is not None and found.is_lasting and self._slots:
            self._move(found.slot, self._open(found.place))
            self.suspect()

    def _move(self, slot: int, shard: Shard) -> None:
        if self._slots[slot] is not shard:
            self._slots[slot] = shard
            self._moved_s[slot] = self._loop.time()
            self.moves_num += 1

    def suspect(self) -> None:
        """A node was lost, or may have another role: the cluster is asked for its nodes soon."""
        self._is_suspect.set()

    def route_again(self, shard: Shard) -> None:
        """Routes calls that a node has refused; at once, if the nodes to which they are redirected are connected."""
        refusals = shard.refusals
        found = [read_redirection(each, shard.place) for each in refusals if each]
        places = {each.place for each in found if each is not None}
        unknown = {place for place in places if not self._is_connected(place)}
        if any(each is not None and each.is_lasting for each in found):
            self.suspect()
        pause_s = TRY_AGAIN_S if None in found or shard.is_refusing_again else 0.0
        if not unknown and not pause_s:
            self._send_refused(shard)
            return
        task = self._loop.create_task(self._send_refused_later(shard, unknown, pause_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_refused_later(
        self, shard: Shard, unknown: Iterable[Place], pause_s: float
    ) -> None:
        await asyncio.gather(*(self._open(place).connected(CONNECT_S) for place in unknown))
        await asyncio.sleep(pause_s)
        self._send_refused(shard)

    def _send_refused(self, shard: Shard) -> None:
        calls = shard.take_refused()
        redirections = {
            each: read_redirection(each.refusal, shard.place)
            for each in calls
            if isinstance(each, RoutedCall)
        }
        for found in redirections.values():
            if found is not None and found.is_lasting:
                self._move(found.slot, self._open(found.place))
        for call in calls:
            if not isinstance(call, RoutedCall):
                shard.submit_again(call)
                continue
            found = redirections[call]
            if found is None or found.is_lasting:
                self._slots[call.slot].submit(call)
            else:
                self._open(found.place).submit(call, is_asking=True)

    def _is_connected(self, place: Place) -> bool:
        shard = self._shards.get(place)
        return shard is not None and shard.trouble is None

    # Following the cluster

    def _open(self, place: Place) -> Shard:
        """The connection to a node, which is opened if there is none."""
        shard = self._shards.get(place)
        if shard is None:
            client = connect_to(self._address, self._nodes.server(place))
            shard = self._shards[place] = Shard(
                client,
                self._scripts,
                self._counters,
                self._supervisor,
                place=place,
                keeps=self._keeps,
                shards=self,
            )
            shard.begin()
        return shard

    async def _follow(self) -> None:
        """Asks for the nodes of the cluster, at intervals and when one was lost."""
        backoff = Backoff()
        while True:
            self._is_suspect.clear()
            try:
                await self._adopt(await self._nodes.slots())
            except (RedisError, OSError) as error:
                self._was_lost = True
                reason = redis_reason(error)
                if not self._slots:
                    self._reason = f"Redis is away: {reason}"
                if backoff.failed().is_logged:
                    _log.warning("The nodes of the Redis Cluster are unknown: %s", reason)
            else:
                if backoff.works():
                    places = ", ".join(f"{host}:{port}" for host, port in self._shards)
                    _log.info("Primaries of the Redis Cluster: %s", places)
            self._note_whole()
            await asyncio.sleep(ASK_AGAIN_S)
            if self.trouble is None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(ASK_EVERY_S):
                        await self._is_suspect.wait()

    async def _adopt(self, ranges: list[SlotRange]) -> None:
        """Connects to the primaries, and routes by these ranges from then on."""
        places = dict.fromkeys(each.primary for each in ranges)
        shards = {place: self._open(place) for place in places}
        await asyncio.gather(*(each.connected(CONNECT_S) for each in shards.values()))
        slots: list[Shard] = []
        for each in sorted(ranges):
            slots += [shards[each.primary]] * (each.last - each.first + 1)
        former = self._primaries
        if not set(former) <= set(shards.values()):
            self._was_lost = True
        former_slots, self._slots = self._slots, slots
        if former_slots and former_slots != slots:
            now_s = self._loop.time()
            changed = zip(slots, former_slots, strict=True)
            self._moved_s |= {
                slot: now_s for slot, (new, old) in enumerate(changed) if new is not old
            }
            self.moves_num += 1
        self._primaries = tuple(shards.values())
        oldest_s = self._loop.time() - NEW_S
        for shard in [each for each in self._shards.values() if each.place not in places]:
            if shard in former or shard.opened_s < oldest_s:
                await self._forget(shard)

    async def _forget(self, shard: Shard) -> None:
        del self._shards[shard.place]
        await shard.close(0)

    def _note_whole(self) -> None:
        """Reports that the cluster works again, if a part of it did not."""
        if self.trouble is not None:
            self._was_lost = True
        elif self.up_since_s == 0:
            self._was_lost = False
            self.up_since_s = self._loop.time()
        elif self._was_lost:
            self._was_lost = False
            self.up_since_s = self._loop.time()
            self.replaced.set_result("a primary of the Redis Cluster was lost")
            self.replaced = self._loop.create_future()
