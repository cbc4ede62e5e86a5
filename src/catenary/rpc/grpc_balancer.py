"""Picks a connection for each call, round robin; calls wait in a queue while none has room.

Sources: load-balancing.md, wait-for-ready.md (grpc/grpc, doc/).
Knows: calls, time limits, the connections that take calls. Does not know: addresses, what a call is about.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from operator import attrgetter
from typing import Final

from catenary.errors import AppError, AppUnavailable
from catenary.rpc.calls import AppBusy
from catenary.rpc.grpc_connection import GrpcAttempt, GrpcConnection
from catenary.rpc.grpc_status import failure
from catenary.rpc.grpc_subchannels import ChannelConfig, ResolvedTarget
from catenary.rpc.grpc_targets import GrpcTarget

_NEVER: Final = float("inf")


class Balancer:
    """Satisfies :class:`catenary.rpc.grpc_subchannels.Picker`. Belongs to one event loop."""

    __slots__ = (
        "_backlog",
        "_is_closed",
        "_loop",
        "_ready",
        "_scan_at",
        "_scanned",
        "_targets",
        "_timer",
        "_turn",
        "_wakes_at",
        "connections",
        "time",
    )

    def __init__(self, targets: Iterable[GrpcTarget], config: ChannelConfig) -> None:
        self._loop = asyncio.get_running_loop()
        self.time = self._loop.time
        """The clock by which calls expire, in seconds."""
        self.connections: set[GrpcConnection] = set()
        self._ready: list[GrpcConnection] = []
        self._turn = 0
        # Ordered, with a removal in the middle at constant cost. The concurrency limiter bounds its length.
        self._backlog: OrderedDict[GrpcAttempt, None] = OrderedDict()
        # Time limits: the calls that the last scan has found, latest first, some of which have ended since then; and the
        # earliest limit of those that were submitted after it
        self._scanned: list[GrpcAttempt] = []
        self._scan_at = _NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = _NEVER
        self._is_closed = False
        self._targets = [ResolvedTarget(target, config, self) for target in targets]

    # Calls

    def submit(self, call: GrpcAttempt) -> None:
        """Sends a call over the next connection that has room; if none has, the call waits.

        Raises :class:`AppError` where no server can be reached.
        """
        connection = self._next()  # none has room while calls wait: see dispatch()
        if connection is None:
            trouble = self._unreachable()
            if trouble is not None:
                raise trouble
            self._backlog[call] = None
            self._await_room()
        call.pool = self
        if call.expires_at < self._scan_at:
            self._scan_at = call.expires_at
            self._wake_by(call.expires_at)
        if connection is not None:
            connection.start(call)

    def withdraw(self, call: GrpcAttempt) -> None:
        """Drops a call: its answer is no longer wanted."""
        self._backlog.pop(call, None)
        if call.connection is not None:
            call.connection.abandon(call)

    def dispatch(self) -> None:
        """Sends the calls that wait, as far as connections have room."""
        while self._backlog:
            connection = self._next()
            if connection is None:
                self._await_room()
                return
            call, _ = self._backlog.popitem(last=False)
            connection.start(call)

    async def close(self) -> None:
        """Fails the calls under way and closes every connection."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        closed = AppUnavailable("the channel was closed under the call")
        self._fail_backlog(closed)
        # The subchannels first, which would connect again otherwise.
        await asyncio.gather(*(target.close() for target in self._targets))
        for connection in tuple(self.connections):
            connection.fail(closed)
        await asyncio.gather(*(connection.lost for connection in tuple(self.connections)))

    def _next(self) -> GrpcConnection | None:
        ready = self._ready
        for _ in ready:
            self._turn = (self._turn + 1) % len(ready)
            connection = ready[self._turn]
            if connection.core.has_room:
                return connection
        return None

    def _await_room(self) -> None:
        for connection in self._ready:
            connection.await_room()

    # Connections

    def add(self, connection: GrpcConnection) -> None:
        self._ready.append(connection)
        self.dispatch()

    def remove(self, connection: GrpcConnection) -> None:
        self._ready.remove(connection)

    def note_trouble(self) -> None:
        """Fails the calls that wait if no server can be reached."""
        trouble = self._unreachable() if self._backlog else None
        if trouble is not None:
            self._fail_backlog(trouble)

    @property
    def trouble(self) -> str | None:
        """Why no server can be reached; None while one is, or may soon be."""
        if self._ready:
            return None
        troubles = [target.trouble for target in self._targets]
        return "; ".join(troubles) if all(troubles) else None

    def _unreachable(self) -> AppError | None:
        """Why no connection can be expected soon; None if one can."""
        if self._is_closed:
            return AppUnavailable("the channel is closed")
        trouble = self.trouble
        return None if trouble is None else failure("UNAVAILABLE", trouble)

    def _fail_backlog(self, error: AppError) -> None:
        calls = tuple(self._backlog)
        self._backlog.clear()
        for call in calls:
            call.handler.failed(error)

    # Time limits, with one timer for all calls. A call costs one comparison when it is submitted: most are answered in
    # time. Each scan sorts all calls under way, and is needed only when one that was submitted after the last scan expires.

    def _wake_by(self, at: float) -> None:
        if at >= self._wakes_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_at = at
        self._timer = self._loop.call_at(at, self._expire)

    def _expire(self) -> None:
        """Fails the calls whose time limit has passed, and sets the timer for the next one."""
        self._timer = None
        self._wakes_at = _NEVER
        now = self._loop.time()
        if self._scan_at <= now:
            self._scan()
        scanned = self._scanned
        try:
            while scanned and scanned[-1].expires_at <= now:
                call = scanned.pop()
                if self._is_under_way(call):
                    self._fail_late(call)
        finally:
            while scanned and not self._is_under_way(scanned[-1]):
                scanned.pop()
            self._wake_by(min(scanned[-1].expires_at if scanned else _NEVER, self._scan_at))

    def _scan(self) -> None:
        calls = [*self._backlog]
        for connection in self.connections:
            calls += connection.calls
        self._scanned = sorted(calls, key=attrgetter("expires_at"), reverse=True)
        self._scan_at = _NEVER

    def _is_under_way(self, call: GrpcAttempt) -> bool:
        return call in self._backlog or (call.connection is not None and call.connection.has(call))

    def _fail_late(self, call: GrpcAttempt) -> None:
        if call.connection is not None:
            error = failure("DEADLINE_EXCEEDED", "no answer in time")
        elif self._ready:
            error = AppBusy("no server took the call in time: all streams are in use")
        else:
            error = failure("UNAVAILABLE", "no connection in time")
        self.withdraw(call)
        call.handler.failed(error)
