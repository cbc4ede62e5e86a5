"""The pool as an application: clients that leave during a call, ends of subscriptions."""

import asyncio
import os
import signal
from collections.abc import Awaitable
from typing import Any

import pytest

from catenary.codeworkers.link import WorkerCall
from catenary.errors import AppUnavailable
from catenary.messages.decisions import Verdict
from tests.codeworkers.direct_pool import ROOM, DirectPool, client, run
from tests.parts.reloadable_server import WORK, ReloadableServer, is_alive, until

pytestmark = pytest.mark.usefixtures("directory")


async def _result(work: Awaitable[Any]) -> Any:
    return await work


# Clients that leave


def test_a_subscription_that_is_confirmed_as_its_client_leaves_is_ended() -> None:
    async def scenario(direct: DirectPool) -> None:
        call = direct.pool.subscribe(client(), ROOM)
        assert isinstance(call, WorkerCall)
        await asyncio.sleep(0)  # it is sent
        direct.block_until_answered()
        call.cancel()
        assert (await call).verdict is Verdict.SUCCESS
        await direct.until_done("came", "left")

    run(scenario)


def test_a_client_that_is_accepted_as_it_leaves_is_reported_as_accepted() -> None:
    async def scenario(direct: DirectPool) -> None:
        connecting = asyncio.ensure_future(_result(direct.pool.connect(client())))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        direct.block_until_answered()
        connecting.cancel()
        assert (await connecting).verdict is Verdict.SUCCESS

    run(scenario)


def test_a_client_that_leaves_cancels_its_call(reloadable: ReloadableServer) -> None:
    reloadable.serve("--app_workers=2")
    jack = reloadable.client("jack")
    jack.perform(WORK, "wait_for", file="never")
    until(lambda: ["waiting", "jack"] in reloadable.done())
    jack.close()
    until(lambda: ["disconnected", "jack"] in reloadable.done())
    assert [line[0] for line in reloadable.done()] == [
        *("waiting", "cancelled", "left", "disconnected")
    ]


# Ends


def test_the_end_of_a_subscription_is_reported_by_one_call_only() -> None:
    async def scenario(direct: DirectPool) -> None:
        (direct.directory / "busy").touch()
        unsubscribing = asyncio.ensure_future(_result(direct.pool.unsubscribe(client(), ROOM)))
        await direct.until_done("left")
        unsubscribing.cancel()
        disconnecting = asyncio.ensure_future(direct.pool.disconnect(client(), (ROOM,)))
        (direct.directory / "busy").unlink()
        await disconnecting
        assert direct.done() == ["left", "disconnected"]
        # A new subscription has an end of its own.
        await direct.pool.subscribe(client(), ROOM)
        await direct.pool.disconnect(client(), (ROOM,))
        assert direct.done() == ["left", "disconnected", "came", "left", "disconnected"]

    run(scenario)


def test_a_shutdown_reports_the_end_of_every_client(reloadable: ReloadableServer) -> None:
    server = reloadable.serve("--app_workers=2")
    pids = reloadable.wait_for_generation(1)
    names = [f"c{number}" for number in range(30)]
    clients = [reloadable.client(name) for name in names]
    assert server.stop() == 0
    for each in clients:
        assert each.receive()["type"] == "disconnect"
    assert not any(map(is_alive, pids))
    reported = sorted(map(tuple, reloadable.done()))
    assert reported == sorted((event, name) for event in ("left", "disconnected") for name in names)


def test_a_closed_pool_refuses_calls_and_ignores_reloads() -> None:
    async def scenario(direct: DirectPool) -> None:
        await direct.pool.close(5)
        with pytest.raises(AppUnavailable, match="shutting down"):
            direct.perform("once")
        direct.pool.reload()

    run(scenario)


# Measured


def test_calls_are_measured_by_method_and_status() -> None:
    async def scenario(direct: DirectPool) -> None:
        pool = direct.pool
        assert (await _result(pool.connect(client()))).verdict is Verdict.SUCCESS
        assert (await _result(pool.subscribe(client(), ROOM))).verdict is Verdict.SUCCESS
        with pytest.raises(AppUnavailable):
            await direct.perform("fork_and_die")
        os.kill(int((direct.directory / "forked").read_text()), signal.SIGKILL)
        measured = direct.counters.rpc_seconds.read()
        assert {labels: each.count for labels, each in measured.items()} == {
            ("Connect", "success"): 1,
            ("Command", "success"): 1,
            ("Command", "unavailable"): 1,
        }
        assert all(0 < each.sum < 60 for each in measured.values())

    run(scenario)
