"""What is measured: a table of scenarios, and how one is carried out against one server.

Each measurement has a fresh server, a fresh load generator and, where it is asked for, a fresh
application. Knows: phases and figures. Does not know: how they are compared or printed.
"""

import importlib.util
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, TypeVar

import msgspec

from bench.load import Job
from bench.servers import BenchError, Contestant, Cores, Process, Usage, free_port, running
from catenary.terminal.load import Connected, Plan, Worked

SETTLE_S: Final = 1.0
"""After the start and after connecting: what a server does when it is idle belongs to neither."""

_Said = TypeVar("_Said", Connected, Worked)

_PUBLIC: Final[tuple[str, ...]] = ("--public", "--norpc")


class Figure(msgspec.Struct, frozen=True):
    """One number of a scenario's result, as the report calls it."""

    name: str
    title: str


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """A plan, and the figures that it is made for."""

    name: str
    summary: str
    plan: Plan
    figures: tuple[Figure, ...]

    @property
    def needs_application(self) -> bool:
        return self.plan.echoes > 0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario against one server, once; ``problems`` is empty where all arrived in order.

    ``load_share`` is the part of a core that the generator and the application were busy: near 1,
    they set latencies and rates as much as the server did. ``server_cpu_s`` tells how coarse a figure is
    that was counted in ticks of 10 ms.
    """

    scenario: str
    server: str
    round: int
    plan: Plan
    figures: dict[str, float]
    connected: Connected | None = None
    worked: Worked | None = None
    load_share: float = 0
    server_share: float = 0
    server_cpu_s: float = 0
    problems: tuple[str, ...] = ()

    @property
    def published_per_s(self) -> float:
        """The rate that was held; 0 where nothing was published."""
        if self.worked is None or not self.worked.publishing_s:
            return 0
        return self.worked.published / self.worked.publishing_s


_CPU: Final = Figure("cpu_us_per_delivery", "CPU per delivery, µs")
_RATE: Final = Figure("deliveries_per_s", "deliveries per second")
_P50: Final = Figure("p50_ms", "latency p50, ms")
_P99: Final = Figure("p99_ms", "latency p99, ms")

SCENARIOS: Final = (
    Scenario(
        name="connect",
        summary="clients connect and subscribe to one stream",
        plan=Plan(clients=5000),
        figures=(
            Figure("cpu_us_per_connect", "CPU per connect + subscribe, µs"),
            Figure("connects_per_s", "connects per second"),
            Figure("kb_per_connection", "memory per connection, KB"),
        ),
    ),
    Scenario(
        name="fanout",
        summary="one stream; each publication waits until all have the one before",
        plan=Plan(clients=5000, publications=100),
        figures=(_CPU, _P50, _P99),
    ),
    Scenario(
        name="private",
        summary="a stream for each client",
        plan=Plan(clients=5000, streams=5000, publications=10_000, rate=2000),
        figures=(_CPU, _P50, _P99),
    ),
    Scenario(
        name="burst",
        summary="one stream, 500,000 deliveries per second on offer",
        plan=Plan(clients=1000, publications=1000, rate=500, payload_bytes=200),
        figures=(_CPU, _RATE, _P99),
    ),
    Scenario(
        name="idle",
        summary="nothing but pings, every 3 s",
        plan=Plan(clients=5000, idle_s=10),
        figures=(Figure("cpu_us_per_client_s", "CPU per client and second, µs"),),
    ),
    Scenario(
        name="rpc",
        summary="an application over gRPC echoes; each client waits for its echo",
        plan=Plan(clients=200, echoes=50),
        figures=(
            Figure("cpu_us_per_delivery", "CPU per echo, µs"),
            Figure("deliveries_per_s", "echoes per second"),
            _P50,
            _P99,
        ),
    ),
)


def has_grpc() -> bool:
    """Is there what the application of the RPC scenario is made of?"""
    return importlib.util.find_spec("grpc") is not None


def quickened(plan: Plan) -> Plan:
    """The same in a second or two: a trial of the benchmark, whose figures say little."""
    clients = min(plan.clients, 200)
    return msgspec.structs.replace(
        resized(plan, clients),
        publications=min(plan.publications, 200),
        echoes=min(plan.echoes, 10),
        idle_s=min(plan.idle_s, 2.5),
        ping_interval_s=1,
    )


def resized(plan: Plan, clients: int) -> Plan:
    """The same for another number of clients; private streams and what they carry go along."""
    if plan.streams == 1:
        return msgspec.structs.replace(plan, clients=clients)
    per_stream = plan.publications // plan.streams
    return msgspec.structs.replace(
        plan, clients=clients, streams=clients, publications=per_stream * clients
    )


def measure(
    scenario: Scenario,
    server: Contestant,
    number: int,
    *,
    cores: Cores,
    on_phase: Callable[[str], None],
) -> Result:
    """Carries a scenario out once; what goes wrong is told in the result's problems.

    ``number`` is the round; ``on_phase`` is told what begins.
    """
    result = Result(
        scenario=scenario.name, server=server.name, round=number, plan=scenario.plan, figures={}
    )
    try:
        with ExitStack() as stack:
            return _measured(result, _Stage(scenario, server, cores, stack), on_phase)
    except BenchError as error:
        return msgspec.structs.replace(result, problems=(str(error),))


class _Stage:
    """The processes of one measurement, started; ``before`` is the server's usage until then."""

    __slots__ = ("_application", "_load", "before", "server")

    def __init__(
        self, scenario: Scenario, server: Contestant, cores: Cores, stack: ExitStack
    ) -> None:
        behind = _PUBLIC
        self._application: Process | None = None
        if scenario.needs_application:
            rpc_port = free_port()
            behind = (f"--rpc_host=127.0.0.1:{rpc_port}",)
            application = (sys.executable, "-m", "bench.application", str(rpc_port))
            self._application = stack.enter_context(running(application, cores.application))
            self._application.wait_until_listening(rpc_port)
        port, broadcast_port = free_port(), free_port()
        command = (*server.command, *_flags(scenario.plan, port, broadcast_port), *behind)
        self.server: Process = stack.enter_context(running(command, cores.server))
        self.server.wait_until_listening(port, broadcast_port)
        time.sleep(SETTLE_S)
        self.before = self.server.usage()
        job = Job(plan=scenario.plan, port=port, broadcast_port=broadcast_port)
        load = (sys.executable, "-m", "bench.load", msgspec.json.encode(job).decode())
        self._load: Process = stack.enter_context(running(load, cores.load, talks=True))

    def application_cpu_s(self) -> float:
        """What the application has used so far; 0 where there is none."""
        return self._application.usage().cpu_s if self._application else 0

    def hear(self, kind: type[_Said]) -> _Said:
        """Waits for the generator's next line. Raises BenchError where it ends instead."""
        assert self._load.child.stdout is not None
        line = self._load.child.stdout.readline()
        if not line:
            raise BenchError(f"the load generator ended: {self._load.error_output()}")
        return msgspec.json.decode(line, type=kind)

    def go_on(self) -> None:
        """Lets the generator go on."""
        assert self._load.child.stdin is not None
        self._load.child.stdin.write(b"\n")
        self._load.child.stdin.flush()


def _flags(plan: Plan, port: int, broadcast_port: int) -> tuple[str, ...]:
    return (
        "--host=127.0.0.1",
        f"--port={port}",
        "--broadcast_adapter=http",
        f"--http_broadcast_port={broadcast_port}",
        f"--ping_interval={plan.ping_interval_s}",
        "--log_level=error",
    )


def _measured(result: Result, stage: _Stage, on_phase: Callable[[str], None]) -> Result:
    on_phase("connecting")
    connected = stage.hear(Connected)
    after = stage.server.usage()
    time.sleep(SETTLE_S)
    settled = stage.server.usage()
    application_cpu_s = stage.application_cpu_s()
    on_phase("working")
    stage.go_on()
    worked = stage.hear(Worked)
    done = stage.server.usage()
    application_cpu_s = stage.application_cpu_s() - application_cpu_s
    stage.go_on()
    cpu_s = done.cpu_s - settled.cpu_s
    is_connecting = not worked.expected
    if is_connecting:
        cpu_s = after.cpu_s - stage.before.cpu_s
    phase = connected if is_connecting else worked
    return msgspec.structs.replace(
        result,
        figures={
            **_connect_figures(connected, stage.before, after, settled),
            **_work_figures(result.plan, connected, worked, cpu_s),
        },
        connected=connected,
        worked=worked,
        load_share=(phase.load_cpu_s + application_cpu_s) / phase.seconds,
        server_share=cpu_s / phase.seconds,
        server_cpu_s=cpu_s,
        problems=_problems(result.plan, connected, worked),
    )


def _connect_figures(
    connected: Connected, before: Usage, after: Usage, settled: Usage
) -> dict[str, float]:
    if not connected.ready:
        return {}
    return {
        "cpu_us_per_connect": (after.cpu_s - before.cpu_s) * 1e6 / connected.ready,
        "connects_per_s": connected.ready / connected.seconds,
        "kb_per_connection": (settled.pss_kb - before.pss_kb) / connected.ready,
    }


def _work_figures(
    plan: Plan, connected: Connected, worked: Worked, cpu_s: float
) -> dict[str, float]:
    if plan.idle_s and connected.ready:
        return {"cpu_us_per_client_s": cpu_s * 1e6 / (connected.ready * worked.seconds)}
    if not worked.received:
        return {}
    return {
        "cpu_us_per_delivery": cpu_s * 1e6 / worked.received,
        "deliveries_per_s": worked.received / worked.seconds,
        "p50_ms": worked.latency.p50_ms,
        "p99_ms": worked.latency.p99_ms,
    }


def _problems(plan: Plan, connected: Connected, worked: Worked) -> tuple[str, ...]:
    """Each way in which not everything arrived once and in order."""
    counts = {
        "not connected": plan.clients - connected.ready,
        "lost": worked.lost,
        "twice": worked.duplicates,
        "out of order": worked.out_of_order,
        "publications not accepted": worked.refused,
        "connections closed": worked.closed,
        "unexpected messages": worked.unexpected,
    }
    found = [f"{count:,} {what}" for what, count in counts.items() if count]
    if connected.failure:
        found.append(f"first failure: {connected.failure}")
    return tuple(found)
