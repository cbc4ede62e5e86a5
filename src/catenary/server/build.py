"""One server under construction, shared by the modules of the assembly.

Each module builds the parts of its subject, and registers here how they are started, shut down, measured and announced.
"""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final

from catenary.broker.stream_rules import StreamRules
from catenary.config.effective import keys
from catenary.config.options import Options
from catenary.config.stream_rules import stream_rules
from catenary.metrics.counters import Counters
from catenary.metrics.registry import Registry
from catenary.node.observers import ObserverGroup
from catenary.process.port_sockets import PortSockets
from catenary.process.shutdown import Phase, Shutdown
from catenary.process.worker_context import WorkerContext
from catenary.server.reloads import Reloads, Settings
from catenary.server.shutdown_phases import PHASES, STOP_TIMERS
from catenary.supervision.health import CheckResult, HealthChecks, reported
from catenary.supervision.service import Supervisor
from catenary.supervision.ticker import Ticker
from catenary.tracer import Tracer


class ServerBuild:
    """Start functions, shutdown phases, figures and announcements. ``worker`` is set in a worker process, ``options`` are
    effective ones, ``sources`` says where their values come from (:class:`catenary.config.load.StartRequest`).
    """

    __slots__ = (
        "announcements",
        "checks",
        "counters",
        "figures",
        "is_stopping",
        "keys",
        "observers",
        "options",
        "reloads",
        "restored",
        "settings",
        "shutdown",
        "sockets",
        "start",
        "stream_rules",
        "supervisor",
        "tracer",
        "worker",
    )

    def __init__(
        self,
        options: Options,
        worker: WorkerContext | None = None,
        sources: Mapping[str, str] = MappingProxyType({}),
        tracer: Tracer | None = None,
        sockets: PortSockets | None = None,
    ) -> None:
        self.options: Final = options
        """Those of the start; :attr:`settings` has the present ones."""
        self.settings = Settings(options, sources=sources)
        """Changes with each reload; parts that keep a value are notified of a new one by :attr:`reloads`."""
        self.reloads: Final = Reloads()
        """Modules register what applies new values of reloadable options."""
        self.worker: Final = worker
        self.sockets: Final = sockets or PortSockets(worker=worker)
        """Opens the ports."""
        self.tracer: Final = tracer
        """None unless tracing is on."""
        self.keys: Final = keys(options)
        self.stream_rules: Final = StreamRules(stream_rules(options))
        """The rules of streams, shared by the engine and the node."""
        self.counters: Final = Counters()
        self.figures: Final = Registry(self.counters)
        self.observers: Final = ObserverGroup()
        """Modules attach what is to be notified of clients and publications."""
        self.supervisor: Final = Supervisor(self.counters)
        self.start: Final[list[Callable[[], Awaitable[None]]]] = []
        """Called in order before clients are served; an exception ends the start."""
        self.shutdown: Final = Shutdown(PHASES)
        self.is_stopping = False
        """Whether the server has been asked to stop. It should not receive clients from then on."""
        self.checks: Final = HealthChecks()
        """Whether the parts of this node work. The order is that of the assembly: a cause comes before its effects."""
        self.checks.add("shutdown", reported("the server is shutting down", self._stopping))
        self.checks.add("services", reported("a service of the server has failed", self._failed))
        self.restored: Final[list[Callable[[], None]]] = []
        """Called when a lost connection to the other nodes is available again: the data stored there may be lost."""
        self.announcements: Final[list[str]] = []
        """Lines for the log that name the served URLs."""

    def add(
        self,
        start: Callable[[], Awaitable[None]],
        phase: Phase,
        close: Callable[[float], Awaitable[None]],
    ) -> None:
        """Registers a part that is started, and closed in a phase of the shutdown."""
        self.start.append(start)
        self.shutdown.add(phase, close)

    def tick(self, interval_s: float, call: Callable[[], object]) -> None:
        """Calls a function every ``interval_s`` seconds while the server runs."""
        ticker = Ticker(interval_s, call)
        self.add(ticker.start, STOP_TIMERS, ticker.stop)

    def restore(self) -> None:
        """The connection to the other nodes is available again."""
        for each in self.restored:
            each()

    def stop(self) -> None:
        """The server has been asked to stop: it serves its clients until they are closed, but is not ready for others."""
        self.is_stopping = True

    def health(self) -> tuple[CheckResult, ...]:
        """Whether the parts of this node work, with details that only operators may read."""
        return self.checks.results()

    def _stopping(self) -> str | None:
        if not self.is_stopping:
            return None
        left = self.counters.open_connections_num
        return f"the server is shutting down: {left} clients are connected"

    def _failed(self) -> str | None:
        return self.supervisor.trouble
