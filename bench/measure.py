"""How a scenario is carried out once against one server, and what its figures are.

Each measurement has a fresh server, a fresh load generator and whatever else it needs, fresh too.
Knows: phases and figures. Does not know: how they are compared or printed.
"""

import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from bench.blocks import ask
from bench.pauses import longest_ms
from bench.plan import Beat, Connected, Intake, Job, Plan, Said, Worked
from bench.scenarios import Result, Sample, Scenario
from bench.servers import (
    BenchError,
    Contestant,
    Process,
    Usage,
    free_port,
    program,
    running,
    shared_cores,
    split_cores,
)

_LAG: Final = "anycable_go_event_loop_lag_ms"

_Phase = TypeVar("_Phase", Beat, Connected, Worked)


def measure(
    scenario: Scenario, server: Contestant, number: int, *, on_phase: Callable[[str], None]
) -> Result:
    """Carries a scenario out once; what goes wrong is told in the result's problems.

    ``number`` is the round; ``on_phase`` is told what begins.
    """
    result = Result(
        scenario=scenario.name, server=server.name, round=number, plan=scenario.plan, figures={}
    )
    try:
        with ExitStack() as stack:
            return _measured(result, _Stage(scenario, server, stack), on_phase)
    except BenchError as error:
        return msgspec.structs.replace(result, problems=(str(error),))


class _Stage:
    """The processes of one measurement, started; ``before`` is the server's usage until then."""

    __slots__ = (
        "_began",
        "_behind",
        "_collections",
        "_held",
        "_load",
        "_metrics",
        "_there_at",
        "before",
        "samples",
        "server",
    )

    def __init__(self, scenario: Scenario, server: Contestant, stack: ExitStack) -> None:
        plan = scenario.plan
        cores = shared_cores() if scenario.shares_cores else split_cores()
        port, intake_port = free_port(), free_port()
        command, self._collections, self._held = _observed(server, plan, stack)
        command += (*_flags(plan, port, intake_port), *scenario.flags)
        command += scenario.flags_of.get(server.name, ())
        self._behind: Process | None = None
        if plan.echoes:
            rpc_port = free_port()
            command += (f"--rpc_host=127.0.0.1:{rpc_port}",)
            application = (sys.executable, "-m", "bench.application", str(rpc_port))
            self._behind = stack.enter_context(running(application, cores.application))
            self._behind.wait_until_listening(rpc_port)
        elif plan.intake != "http":
            between = _between(plan.intake, intake_port)
            self._behind = stack.enter_context(running(between, cores.application))
            self._behind.wait_until_listening(intake_port)
        self.server: Process = stack.enter_context(running(command, cores.server))
        self.server.wait_until_listening(port, intake_port)
        self.samples: list[Sample] = []
        self._metrics = f"http://127.0.0.1:{port}/metrics" if plan.work == "idle" else ""
        self._began = 0.0
        job = Job(plan=plan, port=port, intake_port=intake_port)
        load = (sys.executable, "-m", "bench.load", msgspec.json.encode(job).decode())
        self._load: Process = stack.enter_context(running(load, cores.load, talks=True))
        # Not sooner: pages that both have, such as those of Python, count half from now on.
        self.hear(Beat)
        time.sleep(plan.settle_s)
        self.before: Usage = self.server.usage()
        self._there_at = time.monotonic()
        self.go_on()

    def begin(self) -> None:
        """Samples count their seconds from now on."""
        self._began = time.monotonic()

    def cpu_s_behind(self) -> float:
        """What the application, Redis or NATS has used so far; 0 where there is none."""
        return self._behind.usage().cpu_s if self._behind else 0

    def longest_collection_ms(self) -> float | None:
        """Of garbage, since its start was over; None where that can't be told."""
        return longest_ms(self._collections, self._there_at) if self._collections else None

    def hear(self, kind: type[_Phase], on_sample: Callable[[int], None] | None = None) -> _Phase:
        """Waits for the generator's next phase, and takes a sample at each point on the way.

        ``on_sample`` is told how many there are. Raises BenchError where it ends instead.
        """
        assert self._load.child.stdout is not None
        while line := self._load.child.stdout.readline():
            said = msgspec.json.decode(line, type=Said)
            if isinstance(said, kind):
                return said
            if isinstance(said, Beat):
                self.samples.append(self._sample(said))
                if on_sample is not None:
                    on_sample(len(self.samples))
                self.go_on()
        raise BenchError(f"the load generator ended: {self._load.error_output()}")

    def go_on(self) -> None:
        """Lets the generator go on. Raises BenchError where it has ended."""
        assert self._load.child.stdin is not None
        try:
            self._load.child.stdin.write(b"\n")
            self._load.child.stdin.flush()
        except BrokenPipeError:
            raise BenchError(f"the load generator ended: {self._load.error_output()}") from None

    def _sample(self, beat: Beat) -> Sample:
        usage = self.server.usage()
        return Sample(
            name=beat.name,
            at_s=time.monotonic() - self._began,
            cpu_s=usage.cpu_s,
            pss_kb=usage.pss_kb,
            load_cpu_s=beat.load_cpu_s,
            lag_ms=_lag_ms(self._metrics) if self._metrics else None,
            blocks=self._blocks() if beat.name == "rest" else None,
        )

    def _blocks(self) -> int | None:
        """What the server holds; None where it can't be asked. Raises BenchError."""
        if self._held is None:
            return None
        try:
            return ask(self.server.child.pid, self._held).blocks
        except (OSError, TimeoutError) as error:
            raise BenchError(str(error)) from None


def _observed(
    server: Contestant, plan: Plan, stack: ExitStack
) -> tuple[tuple[str, ...], Path | None, Path | None]:
    """How the server is started, where its collections of garbage are written down, and where it
    says what it holds."""
    if plan.work == "idle" and server.observed:
        path = _scratch(stack)
        return (*server.observed, str(path)), path, None
    if plan.work == "churn" and server.counted:
        path = _scratch(stack)
        return (*server.counted, str(path)), None, path
    return server.command, None, None


def _scratch(stack: ExitStack) -> Path:
    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="catenary-bench-"))
    return Path(directory, "observed")


def _flags(plan: Plan, port: int, intake_port: int) -> tuple[str, ...]:
    intakes: dict[Intake, str] = {
        "http": f"--http_broadcast_port={intake_port}",
        "redis": f"--redis_url=redis://127.0.0.1:{intake_port}",
        "redisx": f"--redis_url=redis://127.0.0.1:{intake_port}",
        "nats": f"--nats_servers=nats://127.0.0.1:{intake_port}",
    }
    return (
        "--host=127.0.0.1",
        f"--port={port}",
        f"--broadcast_adapter={plan.intake}",
        intakes[plan.intake],
        f"--ping_interval={plan.ping_interval_s}",
        "--log_level=error",
    )


def _between(intake: Intake, port: int) -> tuple[str, ...]:
    """The command of what stands between publishers and servers. Raises BenchError."""
    name = "nats-server" if intake == "nats" else "redis-server"
    path = program(name)
    if path is None:
        raise BenchError(f"expected {name}, got nothing")
    if intake == "nats":
        return (path, "-a", "127.0.0.1", "-p", str(port))
    return (path, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no")


def _lag_ms(url: str) -> float | None:
    """The latest that the event loop was, where a server says so. Raises BenchError."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310  (http only)
            lines = response.read().decode().splitlines()
    except OSError as error:
        raise BenchError(f"no metrics: {error}") from None
    return next((float(line.split()[-1]) for line in lines if line.startswith(_LAG)), None)


def _measured(result: Result, stage: _Stage, on_phase: Callable[[str], None]) -> Result:
    plan = result.plan
    on_phase("connecting")
    connected = stage.hear(Connected)
    after = stage.server.usage()
    time.sleep(plan.settle_s)
    settled = stage.server.usage()
    behind_cpu_s = stage.cpu_s_behind()
    on_phase("working")
    stage.begin()
    stage.go_on()
    worked = stage.hear(Worked, lambda count: on_phase(f"working, look {count}"))
    done = stage.server.usage()
    behind_cpu_s = stage.cpu_s_behind() - behind_cpu_s
    collection_ms = stage.longest_collection_ms()
    stage.go_on()
    spent = _spent(plan, connected, worked, stage.samples, (stage.before, after, settled, done))
    looks = _sample_figures(plan, stage.samples)
    if collection_ms is not None:
        looks["collection_ms"] = collection_ms
    return msgspec.structs.replace(
        result,
        figures={
            **_connect_figures(connected, stage.before, after, settled),
            **_work_figures(plan, connected, worked, spent),
            **_memory_figures(settled, done),
            **looks,
        },
        connected=connected,
        worked=worked,
        samples=tuple(stage.samples),
        load_share=(spent.load_cpu_s + behind_cpu_s) / spent.seconds,
        server_share=spent.server_cpu_s / spent.seconds,
        server_cpu_s=spent.server_cpu_s,
        problems=_problems(plan, connected, worked),
    )


class _Spent(msgspec.Struct, frozen=True):
    """What the part of a measurement cost that its figures are about."""

    seconds: float
    server_cpu_s: float
    load_cpu_s: float


def _spent(
    plan: Plan,
    connected: Connected,
    worked: Worked,
    samples: list[Sample],
    usages: tuple[Usage, Usage, Usage, Usage],
) -> _Spent:
    """Of connecting, between the first sample and the last of a storm or a flood, or of all the work.

    Usages: before, after, settled, done.
    """
    before, after, settled, done = usages
    if plan.work == "none":
        cpu_s = after.cpu_s - before.cpu_s
        return _Spent(connected.seconds, cpu_s, connected.load_cpu_s)
    if plan.work in ("storm", "flood"):
        first, last = samples[0], samples[-1]
        return _Spent(
            last.at_s - first.at_s,
            last.cpu_s - first.cpu_s,
            last.load_cpu_s - first.load_cpu_s,
        )
    return _Spent(worked.seconds, done.cpu_s - settled.cpu_s, worked.load_cpu_s)


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
    plan: Plan, connected: Connected, worked: Worked, spent: _Spent
) -> dict[str, float]:
    if plan.work == "idle" and connected.ready:
        return {
            "cpu_us_per_client_s": spent.server_cpu_s * 1e6 / (connected.ready * worked.seconds)
        }
    if not worked.received:
        return {}
    figures = {
        "cpu_us_per_delivery": spent.server_cpu_s * 1e6 / worked.received,
        "deliveries_per_s": worked.received / spent.seconds,
        "p50_ms": worked.p50_ms,
        "p99_ms": worked.p99_ms,
        "server_cpu_share": 100 * spent.server_cpu_s / spent.seconds,
    }
    if worked.publishing_s:
        figures["accepted_per_s"] = (worked.published - worked.refused) / worked.publishing_s
    if spent.server_cpu_s:
        figures["deliveries_per_cpu_s"] = worked.received / spent.server_cpu_s
    if worked.resumed:
        figures["twice"] = float(worked.duplicates)
        figures["cpu_us_per_resume"] = spent.server_cpu_s * 1e6 / worked.resumed
        figures["resumes_per_s"] = worked.resumed / spent.seconds
    return figures


def _memory_figures(settled: Usage, done: Usage) -> dict[str, float]:
    return {"mb_before": settled.pss_kb / 1024, "mb_after": done.pss_kb / 1024}


def _sample_figures(plan: Plan, samples: list[Sample]) -> dict[str, float]:
    """What was seen on the way."""
    figures = {}
    lags = [sample.lag_ms for sample in samples if sample.lag_ms is not None]
    if lags:
        figures["lag_ms"] = max(lags)
    if plan.work == "churn":
        figures |= _growth(plan, samples)
    return figures


def _growth(plan: Plan, samples: list[Sample]) -> dict[str, float]:
    """What the cycles left behind, from one rest to the other."""
    cycles = sum(sample.name == "cycle" for sample in samples)
    rests = [sample for sample in samples if sample.name == "rest"]
    if not cycles or len(rests) != 2:
        return {}
    before, after = rests
    figures = {
        "cycles": float(cycles),
        "growth_kb_per_cycle": (after.pss_kb - before.pss_kb) / cycles,
    }
    if before.blocks is not None and after.blocks is not None:
        figures["blocks_per_client"] = (after.blocks - before.blocks) / (cycles * plan.clients)
    return figures


def _problems(plan: Plan, connected: Connected, worked: Worked) -> tuple[str, ...]:
    """Each way in which not everything arrived once and in order."""
    counts = {
        "not connected": plan.clients - connected.ready,
        "not resumed": worked.not_resumed,
        "lost": worked.lost,
        "twice": worked.duplicates,
        "out of order": worked.out_of_order,
        "publications not accepted": worked.refused,
        "connections closed": worked.closed,
        "unexpected messages": worked.unexpected,
    }
    found = [f"{count:,} {what}" for what, count in counts.items() if count]
    if failure := connected.failure or worked.failure:
        found.append(f"first failure: {failure}")
    return tuple(found)
