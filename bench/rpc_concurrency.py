"""Throughput and latency of calls to an application with few workers, by the concurrency: 5, 100 and adaptive.

    python -m bench.rpc_concurrency [--workers 30] [--service-ms 100] [--callers 300] [--seconds 10]

The application runs in a process of its own. It lets calls wait for a worker, as a Ruby or Python server with a pool of
threads does, or refuses them with ResourceExhausted. Callers call again as soon as they are answered.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
from time import monotonic

import uvloop

from catenary.errors import AppError
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from catenary.metrics.counters import Counters
from catenary.rpc.adaptive_limit import AdaptiveRules
from catenary.rpc.calls import CallLimits
from catenary.rpc.grpc import GrpcApplication

WARM_UP_S = 3.0


async def measure(host: str, limits: CallLimits, callers: int, seconds: float) -> str:
    """Returns a row of the table."""
    counters = Counters()
    application = GrpcApplication(host, counters=counters, limits=limits)
    await application.start()
    environment = Environment(Sid("s1"), "ws://cable.test/cable", {})
    latencies_s: list[float] = []
    errors = 0

    async def call_again_and_again() -> None:
        nonlocal errors
        while True:
            began_at = monotonic()
            try:
                await application.perform(environment, Identifier("{}"), "{}")
            except AppError:
                errors += 1
            else:
                latencies_s.append(monotonic() - began_at)

    tasks = [asyncio.create_task(call_again_and_again()) for _ in range(callers)]
    await asyncio.sleep(WARM_UP_S)
    latencies_s.clear()
    errors, refused = 0, counters.rpc_exhausted_total
    histogram = counters.rpc_seconds.of("Command", "success")
    sum_s, count = histogram.read().sum, histogram.read().count
    await asyncio.sleep(seconds)
    now = histogram.read()
    at_application_s = (now.sum - sum_s) / max(now.count - count, 1)
    refused = counters.rpc_exhausted_total - refused
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    capacity = application.capacity
    await application.close(0)
    p50, p99 = (statistics.quantiles(latencies_s, n=100)[at] * 1000 for at in (49, 98))
    return (
        f"{len(latencies_s) / seconds:.0f} | {at_application_s * 1000:.0f} ms | {p50:.0f} ms | {p99:.0f} ms"
        f" | {refused / seconds:.0f} | {errors} | {capacity}"
    )


def main() -> None:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=30)
    parser.add_argument("--service-ms", type=int, default=100)
    parser.add_argument("--callers", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=10)
    given = parser.parse_args()
    sys.stdout.write(
        "| application | concurrency | calls/s | at the application | p50 | p99 | refused/s | errors | limit |\n"
    )
    sys.stdout.write("|---|---|---|---|---|---|---|---|---|\n")
    for refuses in (False, True):
        for name, limits in (
            ("5", CallLimits(concurrency=5)),
            ("100", CallLimits(concurrency=100)),
            ("adaptive", CallLimits(adaptive=AdaptiveRules())),
        ):
            command = [sys.executable, "-m", "bench.limited_app", "grpc"]
            command += [f"--workers={given.workers}", f"--service-ms={given.service_ms}"]
            command += ["--refuses"] * refuses
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as app:  # noqa: S603  (fixed words)
                assert app.stdout is not None
                host = app.stdout.readline().strip()
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    row = runner.run(measure(host, limits, given.callers, given.seconds))
                app.terminate()
            kind = "refuses" if refuses else "queues"
            sys.stdout.write(f"| {kind} | {name} | {row} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
