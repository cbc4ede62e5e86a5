"""Each attack meets its limit, is counted, and the crowd's messages are not late for it.

The limits are small here, so that the attacks are short.
"""

from collections.abc import Iterator

import pytest

from tests.hostile.under_attack import Hostile, attacked
from tests.parts.heart import in_loop
from tests.parts.ports import free_port
from tests.parts.server import cable_server


@pytest.fixture(scope="module")
def hostile() -> Iterator[Hostile]:
    metrics_port = free_port()
    with cable_server(
        "--public",
        "--norpc",
        "--broadcast_adapter=http",
        "--metrics_http=/metrics",
        f"--metrics_port={metrics_port}",
        "--ping_interval=1",
        "--handshake_timeout=1",
        "--ws_message_timeout=1",
        "--ws_max_message_rate=200",
        "--max_identifier_size=1000",
        "--max_subscriptions=100",
        "--tcp_timeout=2",
        "--graphql_path=/graphql",
        "--graphql_idle_timeout=1",
    ) as server:
        yield Hostile(server, metrics_port)


@in_loop
async def test_heads_that_are_bombs(hostile: Hostile) -> None:
    before = hostile.figure("oversized_heads_total")
    seen = await attacked(hostile, "heads")
    assert seen["HTTP/1.1 431 Request Header Fields Too Large"] > 10
    assert seen["HTTP/1.1 400 Bad Request"] > 3
    assert set(seen) <= {
        "HTTP/1.1 431 Request Header Fields Too Large",
        "HTTP/1.1 400 Bad Request",
        # Where the answer came before all had been sent.
        "reset",
    }
    assert hostile.figure("oversized_heads_total") > before + 10


@in_loop
async def test_heads_that_trickle(hostile: Hostile) -> None:
    before = hostile.figure("late_handshakes_total")
    assert await attacked(hostile, "slow_heads") == {"HTTP/1.1 408": 200, "open": 0}
    assert hostile.figure("late_handshakes_total") == before + 200


@in_loop
async def test_messages_that_trickle(hostile: Hostile) -> None:
    before = hostile.figure("late_messages_total")
    assert await attacked(hostile, "slow_frames") == {"1008": 200, "open": 0}
    assert hostile.figure("late_messages_total") == before + 200


@in_loop
async def test_introductions_that_never_come(hostile: Hostile) -> None:
    before = hostile.figure("late_introductions_total")
    assert await attacked(hostile, "introductions") == {"4408": 200, "open": 0}
    assert hostile.figure("late_introductions_total") == before + 200


@in_loop
async def test_identifiers_that_are_long(hostile: Hostile) -> None:
    before = hostile.figure("long_identifiers_total")
    seen = await attacked(hostile, "identifiers")
    assert seen["rejected"] > 20
    assert seen["confirmed"] == seen["closed"] == 0
    assert hostile.figure("long_identifiers_total") >= before + seen["rejected"]


@in_loop
async def test_subscriptions_without_end(hostile: Hostile) -> None:
    before = hostile.figure("refused_subscriptions_total")
    seen = await attacked(hostile, "subscriptions")
    assert seen["confirmed"] == 5 * 100
    assert seen["rejected"] > 100
    assert hostile.figure("refused_subscriptions_total") > before + 100


@in_loop
async def test_commands_without_end(hostile: Hostile) -> None:
    before = hostile.figure("slowed_clients_total")
    told = hostile.figure("failed_client_msg_total")
    seen = await attacked(hostile, "commands")
    assert seen["closed"] == 0
    assert hostile.figure("slowed_clients_total") > before
    # 20 clients, a second's share at once and 2 s at the rate, and what one turn takes beyond.
    assert hostile.figure("failed_client_msg_total") - told < 20 * (200 + 3 * 200 + 1100)
    assert hostile.server.output().count("Command refused") < 1000


@in_loop
async def test_pings_and_fragments_without_end(hostile: Hostile) -> None:
    before = hostile.figure("slowed_clients_total")
    await attacked(hostile, "pings")
    assert hostile.figure("slowed_clients_total") >= before + 10


@in_loop
async def test_everybody_comes_at_once(hostile: Hostile) -> None:
    before = hostile.figure("held_handshakes_total")
    seen = await attacked(hostile, "storm")
    assert set(seen) == {"HTTP/1.1 101 Switching Protocols"}
    assert hostile.figure("held_handshakes_total") > before


@in_loop
async def test_clients_whose_machine_is_gone(hostile: Hostile) -> None:
    before = hostile.figure("dead_connections_total")
    assert await attacked(hostile, "half_open") == {"gone": 50}
    # Their sockets are closed with their process; but that was after these.
    assert hostile.figure("dead_connections_total") == before + 50
