"""Attacks on the endpoints of single protocols: each meets its limit, is counted, and the crowd's messages are not late for
it. Nothing of an attack stays.

The limits are small here, so that the attacks are short.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.hostile import under_attack
from tests.hostile.under_attack import Hostile
from tests.parts.heart import in_loop
from tests.parts.ports import free_port
from tests.parts.server import cable_server


@pytest.fixture(scope="module")
def hostile() -> Iterator[Hostile]:
    metrics_port = free_port()
    with cable_server(
        *("--public", "--norpc", "--broadcast_adapter=http", "--broker=memory"),
        *("--metrics_http=/metrics", f"--metrics_port={metrics_port}"),
        *("--handshake_timeout=1", "--ws_max_message_rate=200", "--history_limit=1000"),
        *("--poll", "--poll_keepalive_timeout=1", "--poll_interval=1"),
        *("--ds", "--ds_write", "--ds_poll_interval=1", "--ds_sse_ttl=1"),
        *("--pusher_app_id=app", "--pusher_app_key=key", "--pusher_secret=secret"),
        *("--ocpp_path=/ocpp", "--ocpp_heartbeat_interval=1"),
    ) as server:
        yield Hostile(server, metrics_port)


async def attacked(hostile: Hostile, attack: str) -> Counter[str]:
    return await under_attack.attacked(hostile, attack, "tests.hostile.protocol_attacks")


async def nobody_is_left(hostile: Hostile, *names: str) -> None:
    """Waits until some figures are 0 again."""
    deadline = time.monotonic() + 10
    while any(hostile.figure(name) for name in names):
        assert time.monotonic() < deadline, {name: hostile.figure(name) for name in names}
        await asyncio.sleep(0.05)


@in_loop
async def test_polls_that_are_abandoned_and_ids_that_are_guessed(hostile: Hostile) -> None:
    before = hostile.figure("long_poll_stale_requests_total")
    seen = await attacked(hostile, "polls")
    assert set(seen) == {"opened", "HTTP/1.1 401 Unauthorized"}
    assert seen["opened"] == seen["HTTP/1.1 401 Unauthorized"] > 20
    assert hostile.figure("long_poll_stale_requests_total") == before + seen["opened"]
    await nobody_is_left(hostile, "long_poll_clients_num", "clients_num")


@in_loop
async def test_bodies_that_trickle(hostile: Hostile) -> None:
    before = hostile.figure("late_handshakes_total")
    assert await attacked(hostile, "slow_bodies") == {"HTTP/1.1 408": 200, "open": 0}
    assert hostile.figure("late_handshakes_total") == before + 200
    await nobody_is_left(hostile, "pending_requests_bytes")


@in_loop
async def test_bodies_in_tiny_chunks(hostile: Hostile) -> None:
    seen = await attacked(hostile, "tiny_chunks")
    assert seen["HTTP/1.1 413 Request Entity Too Large"] > 3
    await nobody_is_left(hostile, "pending_requests_bytes")


@in_loop
async def test_readers_of_durable_streams_that_wait_or_read_nothing(hostile: Hostile) -> None:
    before = hostile.figure("ds_requests_total")
    assert await attacked(hostile, "readers") == {"HTTP/1.1 204 No Content": 50, "silent": 50}
    assert hostile.figure("ds_requests_total") >= before + 100
    await nobody_is_left(hostile, "ds_poll_clients_num", "ds_sse_clients_num", "clients_num")


@in_loop
async def test_pusher_clients_that_may_not(hostile: Hostile) -> None:
    names = ("pusher_refused_client_events_total", "pusher_refused_subscriptions_total")
    before = [hostile.figure(name) for name in names]
    slowed = hostile.figure("slowed_clients_total")
    seen = await attacked(hostile, "pusher_events")
    assert seen["closed"] == 0
    for name, number in zip(names, before, strict=True):
        # 5 clients, half of a second's share at once and 2 s at the rate, and what one turn takes beyond.
        assert 500 < hostile.figure(name) - number < 5 * (100 + 3 * 100 + 600)
    assert hostile.figure("slowed_clients_total") > slowed


@in_loop
async def test_large_requests_to_pusher_s_api_with_wrong_signatures(hostile: Hostile) -> None:
    seen = await attacked(hostile, "pusher_api")
    assert seen["HTTP/1.1 401 Unauthorized"] > 10
    assert hostile.figure("pending_requests_bytes") == 0


@in_loop
async def test_stations_that_never_say_a_word(hostile: Hostile) -> None:
    before = hostile.figure("late_introductions_total")
    assert await attacked(hostile, "stations") == {"1008": 200, "open": 0}
    assert hostile.figure("late_introductions_total") == before + 200
