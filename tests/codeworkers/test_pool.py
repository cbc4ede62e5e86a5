"""The pool as an application: clients that leave during a call, ends of subscriptions, publications."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from catenary.codeworkers.link import WorkerCall
from catenary.errors import AppFailed, AppUnavailable, BackendError, PublicationError, TooLarge
from catenary.messages.decisions import Verdict
from catenary.messages.replies import Delivery
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


# Publications


async def refuse() -> None:
    raise BackendError("Redis is away")


async def refuse_for_good() -> None:
    raise TooLarge("over max_payload")


def refuse_at_once() -> None:
    raise PublicationError("expected a stream")


async def accept_later() -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (lambda: None, '"accepted"'),
        (accept_later, '"accepted"'),
        (refuse, '"BackendError: Redis is away"'),
        (refuse_for_good, '"TooLarge: over max_payload"'),
        (refuse_at_once, '"BackendRefused: expected a stream"'),
    ],
)
def test_an_awaited_publication_returns_or_raises_what_the_node_does(
    answer: Callable[[], Awaitable[None] | None], outcome: str
) -> None:
    async def scenario(direct: DirectPool) -> None:
        direct.host.answer = answer
        decision = await direct.perform("publish")
        assert decision.replies == (Delivery(ROOM, outcome.encode()),)
        assert direct.host.publications == [b'{"stream":"s","data":"1"}']

    run(scenario)


def test_publications_of_a_worker_that_stops_arrive() -> None:
    """They are more than a socket holds, and no call awaits them."""

    async def scenario(direct: DirectPool) -> None:
        await direct.perform("flood", ',"number":3000')
        await direct.pool.close(5)
        assert len(direct.host.publications) == 3000

    run(scenario)


def test_text_that_is_not_unicode_fails_its_own_call_only() -> None:
    async def scenario(direct: DirectPool) -> None:
        bad = direct.pool.perform(client(), ROOM, "\ud800")
        good = direct.perform("once")
        with pytest.raises(AppFailed, match="expected Unicode text"):
            await bad
        await good

    run(scenario)
