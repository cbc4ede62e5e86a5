"""The connection to one primary of a Redis Cluster.

Knows: refusals of a node that does not have a slot. Does not know: which node has which slot.
Source: redis.io, "Redis Cluster specification", section "Redirection and resharding".
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Protocol

from redis.asyncio import Redis

from catenary.adapters.redis.commands import REPLY_TIMEOUT_S, Call, Commands, Script, run_id_of
from catenary.adapters.redis.connection import pack
from catenary.errors import BackendRefused
from catenary.metrics.counters import Counters
from catenary.protocols.redis_cluster import Place
from catenary.supervision.service import Supervisor

PATIENCE: Final = 3
"""Refusals of a call after which the next attempt is delayed."""

_ASKING: Final = pack("ASKING")
_REFUSALS: Final = ("MOVED ", "ASK ", "TRYAGAIN ")


class RoutedCall(Call):
    """A call that belongs to a slot.

    ``before`` and ``after`` are the packed command; between them is the argument that identifies the run of the server, if
    ``has_run``. ``refusal`` is the error with which a node has refused it, for the ``refused_num``-th time; until ``due_s`` (the
    loop's clock), it is sent to another node then.
    """

    __slots__ = ("after", "before", "due_s", "has_run", "refusal", "refused_num", "slot")

    def __init__(
        self, slot: int, packed: bytes, run: bytes, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(packed, loop)
        self.slot = slot
        self.before, found, self.after = packed.partition(run) if run else (packed, b"", b"")
        self.has_run = bool(found)
        self.refusal = ""
        self.refused_num = 0
        self.due_s = self.sent_at + REPLY_TIMEOUT_S


class Shards(Protocol):
    """The cluster, as far as one of its nodes knows it."""

    def runs(self, shard: "Shard", slot: int, *, is_asking: bool) -> bytes:
        """The run of this server, a comma, those of the other primaries, and how scripts publish."""

    def route_again(self, shard: "Shard") -> None:
        """Routes the calls of :meth:`Shard.take_refused`, in order."""

    def suspect(self) -> None:
        """A node was lost, or may have another role."""


class Shard(Commands):
    """If the node refuses calls because it does not have their slot, then, when all calls before them are answered, they are
    routed again, with all that were called meanwhile, in order."""

    __slots__ = ("_is_routing", "_shards", "is_sharded", "opened_s", "place")

    def __init__(
        self,
        client: Redis,
        scripts: Sequence[Script],
        counters: Counters,
        supervisor: Supervisor | None,
        *,
        place: Place,
        keeps: bool,
        shards: Shards,
    ) -> None:
        super().__init__(
            client,
            scripts,
            counters,
            supervisor,
            name=f"Redis {place.host}:{place.port}",
            keeps=keeps,
        )
        self.place = place
        self.is_sharded = False
        """Has the server SSUBSCRIBE and SPUBLISH (from Redis 7 on)?"""
        self.opened_s = self._loop.time()
        self._shards = shards
        self._is_routing = False

    @property
    def max_argument_bytes(self) -> int:
        """The longest argument that the node accepts."""
        return self._max_argument_bytes

    def begin(self) -> None:
        """Starts to connect."""
        self._service.start()

    def submit(self, call: RoutedCall, *, is_asking: bool = False) -> None:
        """Sends a call, after ASKING if it was redirected once. Fails it if the node is unavailable."""
        call.refusal = ""
        call.sent_at = self._loop.time()
        call.packed = call.before
        if call.has_run:
            runs = self._shards.runs(self, call.slot, is_asking=is_asking)
            call.packed = b"%b$%d\r\n%b\r\n%b" % (call.before, len(runs), runs, call.after)
        call.replies = 1
        if is_asking:
            call.packed = _ASKING + call.packed
            call.replies = 2
        self._send_or_fail(call)

    def last_call(self) -> "asyncio.Future[Any] | None":
        """The result of the last call that waits for its reply; None if no call waits."""
        waiting = self._after_those or self._without_script or self._pending
        return waiting[-1].future if waiting else None

    def submit_again(self, call: Call) -> None:
        """Sends a call of :meth:`take_refused` that belongs to this node."""
        self._send_or_fail(call)

    def take_refused(self) -> list[Call]:
        """The calls that were refused, and then those that were called after them."""
        calls = [*self._without_script, *self._after_those]
        self._without_script.clear()
        self._after_those.clear()
        self._is_routing = False
        return calls

    @property
    def refusals(self) -> list[str]:
        """The errors of the refused calls."""
        return [each.refusal for each in self._without_script if isinstance(each, RoutedCall)]

    @property
    def is_refusing_again(self) -> bool:
        """Whether some calls are sent back and forth, because nodes disagree."""
        calls = self._without_script
        return any(isinstance(each, RoutedCall) and each.refused_num > PATIENCE for each in calls)

    async def connected(self, timeout_s: float) -> bool:
        """Returns when the node can be used, or False after ``timeout_s``."""
        give_up_at = self._loop.time() + timeout_s
        while self.trouble is not None and self._loop.time() < give_up_at:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        return self.trouble is None

    def _take_error(self, call: Call, error: str) -> None:
        if error.startswith("CLUSTERDOWN"):
            self._shards.suspect()
        if (
            isinstance(call, RoutedCall)
            and error.startswith(_REFUSALS)
            and self._loop.time() < call.due_s
        ):
            call.refusal = error
            call.refused_num += 1
            self._without_script.append(call)
        else:
            super()._take_error(call, error)

    def _resend(self) -> None:
        if self._is_routing:
            return
        self._is_routing = True
        if any(call.is_repeated for call in self._without_script):
            self._load_scripts()
        self._shards.route_again(self)

    async def _learn(self) -> None:
        try:
            known = await self._ask("COMMAND", "INFO", "SSUBSCRIBE", "SPUBLISH")
        except BackendRefused:
            known = [None]  # without the permission to ask
        self.is_sharded = None not in known

    def _read_info(self, info: bytes) -> bytes:
        return run_id_of(info)

    def _fail(self, lost: "asyncio.Future[str]") -> None:
        super()._fail(lost)
        self._is_routing = False
        self._shards.suspect()
