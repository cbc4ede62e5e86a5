"""The application in processes of its own, which can be replaced while clients stay connected.

Satisfies :class:`catenary.ports.Application`. Calls go to the worker that has the fewest under way;
where none is free they wait here, in order, for a limited time. New code is started beside the old,
takes over when all of it is ready, and the old finishes what it has begun: no call is lost, none is
made twice. Knows: workers, calls. Does not know: the application, sockets of clients.
"""

import asyncio
import functools
import logging
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Sequence
from typing import Final, Protocol

from catenary.channels.ended_subscriptions import EndedSubscriptions
from catenary.channels.reading import Reader
from catenary.channels.subscription_key import SubscriptionKey
from catenary.codeworkers import messages as protocol
from catenary.codeworkers.link import WorkerCall, WorkerLink
from catenary.codeworkers.messages import Counted, Kind
from catenary.codeworkers.process import CodeProcess
from catenary.codeworkers.timers import WorkerTimers
from catenary.errors import AppNotReached, AppUnavailable, ConfigError
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from catenary.metrics.counters import Counters
from catenary.supervision.backoff import Backoff
from catenary.supervision.service import Service, Supervisor

_log: Final = logging.getLogger("catenary.code")
_limited: Final = RateLimitedLogger(_log)

CALLS_LIMIT: Final = 1_000
"""Calls under way in one worker; as many clients may wait for slow methods at once."""

START_S: Final = 120.0
"""How long code may take to be loaded: some load models of gigabytes, none may hang for ever."""

STOP_S: Final = 5.0
"""How long the application may take to end when its calls are done, and when no time is left."""

LATE_S: Final = 5.0
"""How long the end of a session waits for a call of it that is being broken off."""

SHORT_LIFE_S: Final = 5.0
"""A worker that dies sooner after its start is replaced later and later."""

_RESTORED: Final = "restored"
_TIMER: Final = "every:"
_NOBODY: Final = Identifier("")


class Host(Protocol):
    """What a node does for the application."""

    def publish(self, raw: bytes, /) -> Awaitable[None] | None:
        """Takes a publication."""
        ...

    def perform(self, sid: Sid, identifier: Identifier, data: str, /) -> bool:
        """As if a client had said it; False where there is no such subscription."""
        ...


class CodeWorkerPool:
    """Runs ``command`` in ``number`` processes. Belongs to the running loop."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        number: int,
        patience_s: float,
        end_s: float,
        counters: Counters,
        supervisor: Supervisor | None = None,
        not_reloaded: str = "",
    ) -> None:
        """Calls wait ``patience_s`` for a worker, 0 for no limit; code that is replaced has
        ``end_s`` to finish its calls. ``not_reloaded`` names pages of the serving process whose code
        stays, for the log."""
        self._command = tuple(command)
        self._number = number
        self._except = f", but not of the pages of {not_reloaded}" if not_reloaded else ""
        self._patience_s = patience_s
        self._end_s = end_s
        self._counters = counters
        self._supervisor = supervisor
        self._loop = asyncio.get_running_loop()
        # What the cables have counted: see Cable
        self.limited_total = 0
        self.failed_total = 0
        self.slow_total = 0
        self._host: Host | None = None
        self._reader: Reader | None = None
        self._closing = False
        # What the node performs for us
        word = f"${secrets.token_hex(8)}:"
        self.restored_action = word + _RESTORED
        self._prefix = f'{{"action":"{word}'
        self._timers = WorkerTimers(self._fire)
        # Calls
        self._lines: list[WorkerLink] = []
        self._waiting: OrderedDict[WorkerCall, float] = OrderedDict()
        self._patience: asyncio.TimerHandle | None = None
        self._ended = EndedSubscriptions()
        self._late: dict[Sid, WorkerCall] = {}
        # Processes
        self._generation = 0
        self._workers: list[CodeProcess] = []
        self._keepers: list[Service] = []
        self._old: set[CodeProcess] = set()
        """What was replaced and has not ended yet."""
        self._retiring: set[asyncio.Task[None]] = set()
        self._reloading: asyncio.Task[None] | None = None
        self._is_reload_wanted = False

    # Its life

    async def start(self, host: Host, reader: Reader) -> None:
        """Returns when the code is loaded everywhere. Raises :class:`ConfigError`."""
        self._host = host
        self._reader = reader
        workers = await self._start_generation()
        if workers is None:
            raise ConfigError(
                "app_workers: expected code that can be loaded, got what is told above"
            )
        self._adopt(workers)
        if self._is_reload_wanted:
            self.reload()

    async def close(self, timeout_s: float) -> None:
        """Takes no more calls; lets those under way and the application come to their end."""
        self._closing = True
        self._timers.stop()
        tasks = [*filter(None, (self._reloading, *self._retiring))]
        for task in tasks:
            task.cancel()
        for keeper in self._keepers:
            await keeper.stop()
        for asked in tuple(self._waiting):
            self._unqueue(asked)
            self._fail(asked, AppUnavailable("the server is shutting down"))
        await asyncio.gather(*tasks, return_exceptions=True)
        stop_s = min(STOP_S, timeout_s)
        ends = [
            worker.end(max(timeout_s - stop_s, 0), stop_s)
            for worker in (*self._workers, *self._old)
        ]
        await asyncio.gather(*ends)

    def reload(self) -> None:
        """Loads the code again. A request during a reload causes one more reload."""
        self._is_reload_wanted = not self._closing
        if self._is_reload_wanted and self._workers and self._reloading is None:
            self._reloading = self._loop.create_task(self._reload())

    # What the node asks

    def connect(self, environment: Environment) -> Awaitable[Decision]:
        return self._ask(protocol.CONNECT, environment)

    def subscribe(self, environment: Environment, identifier: Identifier) -> Awaitable[Decision]:
        self._ended.pop(SubscriptionKey(environment.sid, identifier))
        asked = self._ask(protocol.SUBSCRIBE, environment, identifier)
        asked.add_done_callback(self._subscribed)
        return asked

    def unsubscribe(self, environment: Environment, identifier: Identifier) -> Awaitable[Decision]:
        key = SubscriptionKey(environment.sid, identifier)
        asked = self._ask(protocol.UNSUBSCRIBE, environment, identifier)
        self._ended.add(key, self._loop.time())
        self._timers.remove(key)
        asked.add_done_callback(self._unsubscribed)
        return asked

    def perform(
        self, environment: Environment, identifier: Identifier, data: str
    ) -> Awaitable[Decision]:
        if data.startswith(self._prefix):
            return self._perform_own(environment, identifier, data)
        return self._ask(protocol.PERFORM, environment, identifier, data)

    async def disconnect(
        self, environment: Environment, subscriptions: tuple[Identifier, ...]
    ) -> None:
        late = self._late.get(environment.sid)
        if late is not None:
            await asyncio.wait([late], timeout=LATE_S)
        keys = [SubscriptionKey(environment.sid, each) for each in subscriptions]
        for key in keys:
            self._timers.remove(key)
        told = {each for each in keys if self._ended.pop(each) is not None}
        untold = tuple(each.identifier for each in keys if each not in told)
        try:
            await self._ask(protocol.DISCONNECT, environment, subscriptions=untold)
        except AppNotReached:
            # It is called once more, with all of them.
            for key in told:
                self._ended.add(key, self._loop.time())
            raise

    # Around calls

    def _perform_own(
        self, environment: Environment, identifier: Identifier, data: str
    ) -> Awaitable[Decision]:
        """What the node performs for us: a session was resumed, a timer is due."""
        key = SubscriptionKey(environment.sid, identifier)
        what = data.removeprefix(self._prefix).removesuffix('"}')
        if what == _RESTORED:
            self._ended.pop(key)
            self._timers.add(key)
            return self._ask(protocol.RESTORED, environment, identifier)
        timer = what.removeprefix(_TIMER)
        asked = self._ask(protocol.TIMER, environment, identifier, timer)
        asked.add_done_callback(lambda _: self._timers.finish_run(timer, key))
        return asked

    def _fire(self, timer: str, key: SubscriptionKey) -> bool:
        assert self._host is not None
        command = f'{self._prefix}{_TIMER}{timer}"}}'
        return self._host.perform(key.sid, key.identifier, command)

    def _subscribed(self, asked: "asyncio.Future[Decision]") -> None:
        assert isinstance(asked, WorkerCall)
        if asked.cancelled() or asked.exception() is not None:
            return
        if asked.result().verdict is not Verdict.SUCCESS:
            return
        if not asked.is_abandoned:
            self._timers.add(SubscriptionKey(asked.environment.sid, asked.identifier))
        elif not self._closing:
            # It was let in as it left: nobody else will tell of its end.
            ending = self._ask(protocol.UNSUBSCRIBE, asked.environment, asked.identifier)
            ending.add_done_callback(_note_end)

    def _unsubscribed(self, asked: "asyncio.Future[Decision]") -> None:
        """What was not told is to be told with the end of the session."""
        assert isinstance(asked, WorkerCall)
        was_told = asked.line is not None if asked.cancelled() else asked.exception() is None
        if not was_told:
            self._ended.pop(SubscriptionKey(asked.environment.sid, asked.identifier))

    # One call

    def _ask(
        self,
        kind: Kind,
        environment: Environment,
        identifier: Identifier = _NOBODY,
        data: str = "",
        subscriptions: tuple[Identifier, ...] = (),
    ) -> WorkerCall:
        """Sends a call to a worker, or lets it wait for one."""
        if self._closing:
            raise AppUnavailable("the server is shutting down")
        self._counters.rpc_call_total += 1
        asked = WorkerCall(
            kind,
            environment,
            identifier,
            data,
            subscriptions,
            loop=self._loop,
            abandon=self._abandon,
        )
        line = None if self._waiting else self._free()
        if line is None:
            self._queue(asked)
        else:
            line.ask(asked)
        return asked

    def _free(self) -> WorkerLink | None:
        """The worker with the fewest calls under way; None where all have as many as they may."""
        best, fewest = None, CALLS_LIMIT
        for line in self._lines:
            if len(line.calls) < fewest:
                best, fewest = line, len(line.calls)
        return best

    def _freed(self) -> None:
        while self._waiting and (line := self._free()) is not None:
            asked = next(iter(self._waiting))
            self._unqueue(asked)
            line.ask(asked)

    def _queue(self, asked: WorkerCall) -> None:
        self._waiting[asked] = self._loop.time() + self._patience_s
        self._counters.rpc_pending_num += 1
        if self._patience is None and self._patience_s > 0:
            self._patience = self._loop.call_later(self._patience_s, self._lose_patience)

    def _unqueue(self, asked: WorkerCall) -> None:
        del self._waiting[asked]
        self._counters.rpc_pending_num -= 1

    def _lose_patience(self) -> None:
        """All calls wait equally long: one timer for the first of them is enough."""
        self._patience = None
        while self._waiting:
            asked, due = next(iter(self._waiting.items()))
            if due > self._loop.time():
                self._patience = self._loop.call_at(due, self._lose_patience)
                return
            self._unqueue(asked)
            self._counters.rpc_timeout_total += 1
            self._fail(asked, AppNotReached("no code worker was free in time"))

    def _fail(self, asked: WorkerCall, error: AppUnavailable) -> None:
        self._counters.rpc_error_total += 1
        asked.set_exception(error)

    def _abandon(self, asked: WorkerCall) -> None:
        """The client has left: what was not sent is dropped, what was is broken off."""
        self._counters.rpc_canceled_total += 1
        if asked.line is None:
            self._unqueue(asked)
            asked.drop()
            return
        asked.line.abandon(asked)
        self._late[asked.environment.sid] = asked
        asked.add_done_callback(self._forget_late)

    def _forget_late(self, asked: "asyncio.Future[Decision]") -> None:
        assert isinstance(asked, WorkerCall)
        if self._late.get(asked.environment.sid) is asked:
            del self._late[asked.environment.sid]

    # Generations of code

    async def _reload(self) -> None:
        try:
            while self._is_reload_wanted:
                self._is_reload_wanted = False
                _log.info("Loading the code again%s", self._except)
                workers = await self._start_generation()
                if workers is None:
                    self._counters.app_failed_reloads_total += 1
                    _log.error("The new code can't be loaded: the old goes on")
                else:
                    self._counters.app_reloads_total += 1
                    self._adopt(workers)
        finally:
            self._reloading = None

    async def _start_generation(self) -> list[CodeProcess] | None:
        """As many workers as are wanted, all of them ready, or none.

        The first goes ahead: code that can't be loaded is told once.
        """
        self._generation += 1
        first = await self._start_worker()
        if first is None:
            return None
        others = [self._loop.create_task(self._start_worker()) for _ in range(self._number - 1)]
        try:
            workers = [first, *await asyncio.gather(*others)]
        except BaseException:
            for task in others:
                task.cancel()
            ends = await asyncio.gather(*others, return_exceptions=True)
            for each in (first, *ends):
                if isinstance(each, CodeProcess):
                    await each.kill()
            raise
        ready = [worker for worker in workers if worker is not None]
        if len(ready) == self._number:
            return ready
        for worker in ready:
            await worker.kill()
        return None

    async def _start_worker(self) -> CodeProcess | None:
        """A worker that is ready; None where it ended before, and has said why."""
        assert self._host is not None
        assert self._reader is not None
        line = WorkerLink(
            self._host.publish,
            self._reader,
            self._counters,
            freed=self._freed,
            lost=self._lose_worker,
            counted=self._count,
        )
        try:
            worker = await CodeProcess.start(self._command, line)
        except OSError as error:
            _log.error("A code worker can't be started: %s", error)
            return None
        try:
            async with asyncio.timeout(START_S):
                is_ready = await line.ready is not None
        except TimeoutError:
            _log.error("The code was not loaded within %.0f s", START_S)
            is_ready = False
        except BaseException:
            await worker.kill()
            raise
        if not is_ready:
            await worker.kill()
            return None
        return worker

    def _adopt(self, workers: list[CodeProcess]) -> None:
        """From now on these take all new calls; those before them finish theirs, and end."""
        for keeper in self._keepers:
            keeper.cancel()
        old, self._workers = self._workers, workers
        self._lines = [each.line for each in workers if not each.line.gone.is_set()]
        self._counters.app_workers_num = len(self._lines)
        self._timers.declare(workers[0].line.ready.result() or ())
        self._keepers = [
            Service(
                f"keeper of code worker {index + 1}",
                functools.partial(self._keep, index),
                self._supervisor,
            )
            for index in range(self._number)
        ]
        for keeper in self._keepers:
            keeper.start()
        for worker in old:
            self._old.add(worker)
            task = self._loop.create_task(self._retire(worker))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        pids = ", ".join(str(each.pid) for each in workers)
        _log.info("Code %d runs (pid %s)", self._generation, pids)
        self._freed()

    async def _retire(self, worker: CodeProcess) -> None:
        await worker.end(self._end_s, STOP_S)
        self._old.discard(worker)

    def _count(self, counted: Counted) -> None:
        self.limited_total += counted.limited
        self.failed_total += counted.failed
        self.slow_total += counted.slow

    def _lose_worker(self, line: WorkerLink) -> None:
        """At once, before anything else is sent there."""
        if line in self._lines:
            self._lines.remove(line)
            self._counters.app_workers_num = len(self._lines)

    async def _keep(self, index: int) -> None:
        """Sees to it that there is a worker in one place of this generation."""
        backoff = Backoff(steady_s=SHORT_LIFE_S)
        backoff.works()
        while True:
            worker = self._workers[index]
            await worker.line.gone.wait()
            status = await worker.kill()
            self._counters.app_worker_deaths_total += 1
            pause = backoff.failed()
            if pause.is_logged:
                _log.error(
                    "A code worker (pid %d) has died (%s); another takes its place in %.1f s",
                    worker.pid,
                    f"signal {-status}" if status < 0 else f"status {status}",
                    pause.seconds,
                )
            await asyncio.sleep(pause.seconds)
            another = await self._start_worker()
            while another is None:
                await asyncio.sleep(backoff.failed().seconds)
                another = await self._start_worker()
            is_news = backoff.works()
            self._workers[index] = another
            self._lines.append(another.line)
            self._counters.app_workers_num = len(self._lines)
            if is_news:
                _log.info("A code worker has taken its place (pid %d)", another.pid)
            self._freed()


def _note_end(asked: "asyncio.Future[Decision]") -> None:
    """Nobody awaits it: what went wrong is logged here."""
    if not asked.cancelled() and (error := asked.exception()) is not None:
        _limited.warning("The end of a subscription could not be told: %s", error)
