"""The load generator: a process of its own, so that what it costs is nobody's figure.

    python -m bench.load JOB

JOB is JSON of :class:`Job`. It prints a :class:`Connected` line when all clients have subscribed,
waits for a line, does its work, prints a :class:`Worked` line, waits again, ends. Whoever started it
measures the server while it waits.
Knows: a job. Does not know: the server's process, or what a scenario is called.
"""

import asyncio
import gc
import sys

import msgspec
import uvloop

from catenary.protocols.actioncable import SUBPROTOCOL
from catenary.terminal.cable_socket import Opening, address
from catenary.terminal.load import Connected, Load, Plan, Target, Worked


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A plan and where to carry it out, on 127.0.0.1."""

    plan: Plan
    port: int
    broadcast_port: int


def target(job: Job) -> Target:
    """Public streams ``s0``, ``s1``, …, or the application of ``bench.application``."""
    streams = [f"s{number}" for number in range(job.plan.streams)]
    listening = [f'{{"channel":"$pubsub","stream_name":"{stream}"}}' for stream in streams]
    return Target(
        opening=Opening(
            address=address(f"ws://127.0.0.1:{job.port}/cable"), subprotocols=(SUBPROTOCOL,)
        ),
        broadcast_url=f"http://127.0.0.1:{job.broadcast_port}/_broadcast",
        streams=tuple(streams),
        identifiers=('{"channel":"Echo"}',) if job.plan.echoes else tuple(listening),
    )


async def carry_out(job: Job) -> None:
    """Speaks with whoever started this process: a line each way around both phases."""
    load = Load(job.plan, target(job))
    _say(await load.connect())
    await _answer()
    gc.collect()
    gc.disable()  # its pauses would be told as the server's latency
    _say(await load.work())
    await _answer()
    load.leave()


def _say(value: Connected | Worked) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.buffer.flush()


async def _answer() -> None:
    """Waits for a line; clients are served meanwhile."""
    await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(carry_out(msgspec.json.decode(sys.argv[1], type=Job)))
