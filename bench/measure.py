"""Runs a scenario once with one server, and computes its figures.

Each measurement starts a new server, a new load generator, and a new broker or application.
Knows: phases and figures. Does not know: how they are compared or printed.
"""

import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from math import inf
from pathlib import Path
from typing import Final

import msgspec

from bench.blocks import ask
from bench.generator import Generator
from bench.pauses import longest_ms
from bench.plan import Checkpoint, Connected, Intake, Job, Plan, Worked
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


def measure(
    scenario: Scenario, server: Contestant, number: int, *, on_phase: Callable[[str], None]
) -> Result:
    """Runs a scenario once; failures are in the ``problems`` of the result.

    ``number`` is the round; ``on_phase`` is called with the name of each phase.
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
    """The running processes of one measurement; ``before`` is the server's usage at its beginning."""

    __slots__ = (
        "_allocations_file",
        "_backend",
        "_began",
        "_collections",
        "_metrics",
        "_started_at",
        "before",
        "limits",
        "load",
        "samples",
        "server",
    )

    def __init__(self, scenario: Scenario, server: Contestant, stack: ExitStack) -> None:
        plan = scenario.plan
        self.limits = scenario.limits_of.get(server.name, {})
        cores = shared_cores() if scenario.shares_cores else split_cores()
        port, intake_port = free_port(), free_port()
        command, self._collections, self._allocations_file = _observed(server, plan, stack)
        command += (*_flags(plan, port, intake_port), *scenario.flags)
        command += scenario.flags_of.get(server.name, ())
        self._backend: Process | None = None
        if plan.echoes:
            rpc_port = free_port()
            command += (f"--rpc_host=127.0.0.1:{rpc_port}",)
            application = (sys.executable, "-m", "bench.application", str(rpc_port))
            self._backend = stack.enter_context(running(application, cores.application))
            self._backend.wait_until_listening(rpc_port)
        elif plan.intake != "http":
            between = _broker_command(plan.intake, intake_port)
            self._backend = stack.enter_context(running(between, cores.application))
            self._backend.wait_until_listening(intake_port)
        self.server: Process = stack.enter_context(running(command, cores.server))
        self.server.wait_until_listening(port, intake_port)
        self.samples: list[Sample] = []
        self._metrics = f"http://127.0.0.1:{port}/metrics" if plan.work == "idle" else ""
        self._began = 0.0
        job = Job(plan=plan, port=port, intake_port=intake_port)
        self.load = Generator(job, cores.load, stack)
        # Not earlier: from now on, memory pages that both processes share count half.
        self.load.receive(Checkpoint)
        time.sleep(plan.settle_s)
        self.before: Usage = self.server.usage()
        self._started_at = time.monotonic()
        self.load.resume()

    def begin(self) -> None:
        """Starts the clock of samples."""
        self._began = time.monotonic()

    def backend_cpu_s(self) -> float:
        """The CPU of the application, Redis or NATS so far; 0 if there is none."""
        return self._backend.usage().cpu_s if self._backend else 0

    def longest_collection_ms(self) -> float | None:
        """The longest garbage collection since the start; None if the server does not report it."""
        return longest_ms(self._collections, self._started_at) if self._collections else None

    def worked(self, on_sample: Callable[[int], None]) -> Worked:
        """Waits for the end of the work, and samples the server at each checkpoint before it.

        ``on_sample`` is called with the number of samples. Raises BenchError if the generator ends.
        """

        def sample(checkpoint: Checkpoint) -> None:
            self.samples.append(self._sample(checkpoint))
            on_sample(len(self.samples))

        return self.load.receive(Worked, sample)

    def _sample(self, checkpoint: Checkpoint) -> Sample:
        usage = self.server.usage()
        return Sample(
            name=checkpoint.name,
            at_s=time.monotonic() - self._began,
            cpu_s=usage.cpu_s,
            pss_kb=usage.pss_kb,
            load_cpu_s=checkpoint.load_cpu_s,
            lag_ms=_lag_ms(self._metrics) if self._metrics else None,
            blocks=self._blocks() if checkpoint.name == "rest" else None,
        )

    def _blocks(self) -> int | None:
        """The blocks that the server has allocated; None if it can't report them. Raises BenchError."""
        if self._allocations_file is None:
            return None
        try:
            return ask(self.server.child.pid, self._allocations_file).blocks
        except (OSError, TimeoutError) as error:
            raise BenchError(str(error)) from None


def _observed(
    server: Contestant, plan: Plan, stack: ExitStack
) -> tuple[tuple[str, ...], Path | None, Path | None]:
    """The command of the server, the file to which it writes garbage collections, and the file to which
    it writes allocations."""
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


def _broker_command(intake: Intake, port: int) -> tuple[str, ...]:
    """The command of the broker between publishers and servers. Raises BenchError."""
    name = "nats-server" if intake == "nats" else "redis-server"
    path = program(name)
    if path is None:
        raise BenchError(f"expected {name}, found none")
    if intake == "nats":
        return (path, "-a", "127.0.0.1", "-p", str(port))
    return (path, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no")


def _lag_ms(url: str) -> float | None:
    """The worst event-loop lag, if the server reports it. Raises BenchError."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310  (http only)
            lines = response.read().decode().splitlines()
    except OSError as error:
        raise BenchError(f"no metrics: {error}") from None
    return next((float(line.split()[-1]) for line in lines if line.startswith(_LAG)), None)


def _measured(result: Result, stage: _Stage, on_phase: Callable[[str], None]) -> Result:
    plan = result.plan
    on_phase("connecting")
    connected = stage.load.receive(Connected)
    after = stage.server.usage()
    time.sleep(plan.settle_s)
    settled = stage.server.usage()
    backend_cpu_s = stage.backend_cpu_s()
    on_phase("working")
    stage.begin()
    stage.load.resume()
    worked = stage.worked(lambda count: on_phase(f"working, sample {count}"))
    done = stage.server.usage()
    backend_cpu_s = stage.backend_cpu_s() - backend_cpu_s
    collection_ms = stage.longest_collection_ms()
    stage.load.resume()
    cost = _cost(plan, connected, worked, stage.samples, (stage.before, after, settled, done))
    sampled = _sample_figures(plan, stage.samples)
    if collection_ms is not None:
        sampled["collection_ms"] = collection_ms
    figures = {
        **_connect_figures(connected, stage.before, after, settled),
        **_work_figures(plan, connected, worked, cost),
        **_memory_figures(settled, done),
        **sampled,
    }
    return msgspec.structs.replace(
        result,
        figures=figures,
        connected=connected,
        worked=worked,
        samples=tuple(stage.samples),
        load_share=(cost.load_cpu_s + backend_cpu_s) / cost.seconds,
        server_share=cost.server_cpu_s / cost.seconds,
        server_cpu_s=cost.server_cpu_s,
        problems=(*_problems(plan, connected, worked), *_excesses(stage.limits, figures)),
    )


class _Cost(msgspec.Struct, frozen=True):
    """The cost of the measured part of the work."""

    seconds: float
    server_cpu_s: float
    load_cpu_s: float


def _cost(
    plan: Plan,
    connected: Connected,
    worked: Worked,
    samples: list[Sample],
    usages: tuple[Usage, Usage, Usage, Usage],
) -> _Cost:
    """The cost of connecting; between the first and the last sample of a storm, a jitter or a flood; or of all work.

    ``usages`` are before and after connecting, settled, and done.
    """
    before, after, settled, done = usages
    if plan.work == "none":
        cpu_s = after.cpu_s - before.cpu_s
        return _Cost(connected.seconds, cpu_s, connected.load_cpu_s)
    if plan.work in ("storm", "jitter", "flood"):
        first, last = samples[0], samples[-1]
        return _Cost(
            last.at_s - first.at_s,
            last.cpu_s - first.cpu_s,
            last.load_cpu_s - first.load_cpu_s,
        )
    return _Cost(worked.seconds, done.cpu_s - settled.cpu_s, worked.load_cpu_s)


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
    plan: Plan, connected: Connected, worked: Worked, cost: _Cost
) -> dict[str, float]:
    if plan.work == "idle" and connected.ready:
        return {"cpu_us_per_client_s": cost.server_cpu_s * 1e6 / (connected.ready * worked.seconds)}
    if not worked.received:
        return {}
    figures = {
        "cpu_us_per_delivery": cost.server_cpu_s * 1e6 / worked.received,
        "deliveries_per_s": worked.received / cost.seconds,
        "p50_ms": worked.p50_ms,
        "p99_ms": worked.p99_ms,
        "server_cpu_share": 100 * cost.server_cpu_s / cost.seconds,
    }
    if worked.publishing_s:
        figures["accepted_per_s"] = (worked.published - worked.refused) / worked.publishing_s
    if cost.server_cpu_s:
        figures["deliveries_per_cpu_s"] = worked.received / cost.server_cpu_s
    if worked.resumed:
        figures["twice"] = float(worked.duplicates)
        figures["cpu_us_per_resume"] = cost.server_cpu_s * 1e6 / worked.resumed
        figures["resumes_per_s"] = worked.resumed / cost.seconds
    return figures


def _memory_figures(settled: Usage, done: Usage) -> dict[str, float]:
    return {"mb_before": settled.pss_kb / 1024, "mb_after": done.pss_kb / 1024}


def _sample_figures(plan: Plan, samples: list[Sample]) -> dict[str, float]:
    """The figures that come from samples."""
    figures = {}
    lags = [sample.lag_ms for sample in samples if sample.lag_ms is not None]
    if lags:
        figures["lag_ms"] = max(lags)
    if plan.work == "churn":
        figures |= _growth(plan, samples)
    return figures


def _growth(plan: Plan, samples: list[Sample]) -> dict[str, float]:
    """The growth of memory by the cycles, from the first rest to the second."""
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


def _excesses(limits: dict[str, float], figures: dict[str, float]) -> Iterator[str]:
    """The figures that are above their limits, or missing."""
    for name, limit in limits.items():
        if not figures.get(name, inf) <= limit:
            yield f"{name} is {figures.get(name, inf):.3g}, above {limit:g}"


def _problems(plan: Plan, connected: Connected, worked: Worked) -> tuple[str, ...]:
    """Every way in which messages did not arrive once and in order."""
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
