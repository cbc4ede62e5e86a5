"""The load generator, in a separate process, so that its cost is not counted as the server's.

    python -m bench.load JOB

JOB is JSON of :class:`bench.plan.Job`. The generator prints a report when it has started, when all clients
have subscribed, at each checkpoint of the work, and at the end. After each report it waits for a line from
the measuring process, which samples the server meanwhile.
Knows: clients and publications. Does not know: the server's process, scenarios.
"""

import asyncio
import gc
import resource
import sys
from collections.abc import Sequence
from time import perf_counter
from typing import Final

import msgspec
import uvloop

from bench.crowd import Crowd
from bench.plan import Checkpoint, Connected, Job, Report, Worked
from bench.work import WORKS, Done, Site

STRAGGLERS_S: Final = 0.2
"""How long to receive after the last message, for duplicates."""


async def run(job: Job) -> None:
    """Runs a job, with a report around every phase."""
    crowd = Crowd(job.plan, job.port)
    await _reach("started")
    await _report(await _connect(crowd))
    gc.collect()
    gc.disable()  # its pauses would count as the server's latency
    site = Site(job.plan, crowd, job.intake_port, _reach)
    await _report(await _work(site))
    crowd.leave()
    for publisher in site.publishers:
        publisher.close()


async def _connect(crowd: Crowd) -> Connected:
    started, cpu_s = perf_counter(), _own_cpu_s()
    await crowd.connect()
    seconds, cpu_s = perf_counter() - started, _own_cpu_s() - cpu_s
    return Connected(len(crowd.clients), seconds, cpu_s, "".join(crowd.failures[:1]))


async def _work(site: Site) -> Worked:
    """Runs the work of the plan."""
    crowd, tally = site.crowd, site.crowd.tally
    earlier = len(crowd.failures)
    started, cpu_s = perf_counter(), _own_cpu_s()
    done = await WORKS[site.plan.work](site)
    seconds, cpu_s = perf_counter() - started, _own_cpu_s() - cpu_s
    received = tally.received if done.received is None else done.received
    await asyncio.sleep(STRAGGLERS_S)
    ordered = sorted(tally.latencies if done.waits_s is None else done.waits_s)
    published = sum(publisher.published for publisher in site.publishers)
    return Worked(
        seconds=seconds,
        load_cpu_s=cpu_s,
        expected=done.expected,
        received=received,
        lost=_lost(crowd, done, received),
        duplicates=tally.duplicates,
        out_of_order=tally.out_of_order,
        refused=published - sum(publisher.accepted for publisher in site.publishers),
        closed=tally.closed,
        unexpected=tally.unexpected,
        published=published,
        publishing_s=done.publishing_s,
        p50_ms=_quantile(ordered, 0.5) * 1000,
        p99_ms=_quantile(ordered, 0.99) * 1000,
        resumed=done.resumed,
        not_resumed=done.not_resumed,
        failure="".join(crowd.failures[earlier : earlier + 1]),
    )


def _lost(crowd: Crowd, done: Done, received: int) -> int:
    """Lost messages: by the gaps of clients or by the total, whichever is more."""
    missing = done.lost + sum(client.lost for client in crowd.clients)
    return max(missing, done.expected - received)


async def _reach(name: str) -> None:
    await _report(Checkpoint(name, _own_cpu_s()))


async def _report(value: Report) -> None:
    """Prints a report and waits for a line; the event loop runs meanwhile."""
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.buffer.flush()
    await asyncio.to_thread(sys.stdin.readline)


def _own_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[int((len(ordered) - 1) * share)] if ordered else 0.0


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(msgspec.json.decode(sys.argv[1], type=Job)))
