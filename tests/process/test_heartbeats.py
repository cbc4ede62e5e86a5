"""A worker that writes is alive; one that does not is hung, once."""

import asyncio
import os
import time

from catenary.process.heartbeats import Heartbeat, HeartbeatMonitor
from tests.parts.heart import in_loop

TIMEOUT_S = 0.2


@in_loop
async def test_silence_after_the_first_byte_is_reported_once() -> None:
    read, write = os.pipe()
    hung = asyncio.Event()
    HeartbeatMonitor(read, TIMEOUT_S, hung.set)
    await asyncio.sleep(2 * TIMEOUT_S)
    assert not hung.is_set()  # it is being started
    os.write(write, b".")
    await asyncio.wait_for(hung.wait(), 10)
    hung.clear()
    await asyncio.sleep(2 * TIMEOUT_S)
    assert not hung.is_set()
    os.close(write)


@in_loop
async def test_a_worker_that_reports_or_has_ended_is_not_hung() -> None:
    read, write = os.pipe()
    hung = asyncio.Event()
    HeartbeatMonitor(read, 0.6, hung.set)
    Heartbeat(write, 0.6)
    await asyncio.sleep(1)
    assert not hung.is_set()


@in_loop
async def test_a_parent_that_was_stopped_itself_blames_no_worker() -> None:
    read, write = os.pipe()
    hung = asyncio.Event()
    HeartbeatMonitor(read, TIMEOUT_S, hung.set)
    os.write(write, b".")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    time.sleep(2 * TIMEOUT_S)  # noqa: ASYNC251  (as if it were stopped)
    await asyncio.sleep(0)
    assert not hung.is_set()
    os.write(write, b".")
    await asyncio.wait_for(hung.wait(), 10)
    os.close(write)


@in_loop
async def test_a_pipe_that_nobody_reads_is_no_error() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    with_space = os.write(write, b"." * 1_000_000)
    assert with_space < 1_000_000
    Heartbeat(write, 1)
    os.close(read)
    await asyncio.sleep(0.5)
