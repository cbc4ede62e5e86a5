"""The load generator: a process of its own, so that what it costs is nobody's figure.

    python -m bench.load JOB

JOB is JSON of :class:`bench.plan.Job`. It prints a line when it is there, when all clients have
subscribed, at each point of its work that is worth a look, when it is done; after each it waits for one. Whoever
started it measures the server while it waits.
Knows: clients and publications. Does not know: the server's process, or what a scenario is called.
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
from bench.plan import Beat, Connected, Job, Said, Worked
from bench.work import WORKS, Done, Site

STRAGGLERS_S: Final = 0.2
"""How long to listen on after the last message, for what comes twice."""


async def carry_out(job: Job) -> None:
    """Speaks with whoever started this process: a line each way around every phase."""
    crowd = Crowd(job.plan, job.port)
    await _beat("there")
    await _say(await _connect(crowd))
    gc.collect()
    gc.disable()  # its pauses would be told as the server's latency
    site = Site(job.plan, crowd, job.intake_port, _beat)
    await _say(await _work(site))
    crowd.leave()
    for publisher in site.publishers:
        publisher.close()


async def _connect(crowd: Crowd) -> Connected:
    started, cpu_s = perf_counter(), _own_cpu_s()
    await crowd.connect()
    seconds, cpu_s = perf_counter() - started, _own_cpu_s() - cpu_s
    return Connected(len(crowd.clients), seconds, cpu_s, "".join(crowd.failures[:1]))


async def _work(site: Site) -> Worked:
    """Does what the plan says."""
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
    """By what clients miss, or by what was expected in all, whichever is more."""
    missing = done.lost + sum(client.lost for client in crowd.clients)
    return max(missing, done.expected - received)


async def _beat(name: str) -> None:
    await _say(Beat(name, _own_cpu_s()))


async def _say(value: Said) -> None:
    """Prints a line and waits for one; clients are served meanwhile."""
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
        runner.run(carry_out(msgspec.json.decode(sys.argv[1], type=Job)))
