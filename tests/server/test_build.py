"""A server under construction: what its parts register, and whether they work."""

import asyncio

from catenary.config.effective import effective
from catenary.server.build import ServerBuild
from catenary.server.shutdown_phases import FLUSH_DISCONNECTS, SAVE_SESSIONS
from catenary.supervision.health import is_ready
from catenary.supervision.service import Service
from tests.config.sources import options
from tests.parts.virtual_time import in_virtual_time


def build() -> ServerBuild:
    return ServerBuild(effective(options()))


@in_virtual_time
async def test_a_part_is_started_in_order_and_closed_in_its_phase() -> None:
    server, events = build(), list[str]()

    def part(name: str) -> tuple[object, object]:
        async def start() -> None:
            events.append(f"start {name}")

        async def close(timeout_s: float) -> None:
            events.append(f"close {name}")

        return start, close

    for name, phase in (("calls", FLUSH_DISCONNECTS), ("sessions", SAVE_SESSIONS)):
        start, close = part(name)
        server.add(start, phase, close)  # type: ignore[arg-type]
    for start_part in server.start:
        await start_part()
    await server.shutdown.run(10)
    assert events == ["start calls", "start sessions", "close sessions", "close calls"]


@in_virtual_time
async def test_a_tick_runs_from_the_start_to_the_shutdown() -> None:
    server, moments = build(), list[float]()
    clock = asyncio.get_running_loop().time
    server.tick(2, lambda: moments.append(clock()))
    for start in server.start:
        await start()
    await asyncio.sleep(5)
    await server.shutdown.run(1)
    await asyncio.sleep(5)
    assert moments == [2, 4]


@in_virtual_time
async def test_a_failed_service_and_a_shutdown_make_the_node_unready() -> None:
    server = build()
    assert is_ready(server.health())

    async def fail() -> None:
        raise LookupError

    service = Service("connection to db.internal", fail, server.supervisor)
    service.start()
    await asyncio.sleep(0.01)
    (failing,) = (each for each in server.health() if each.state == "failing")
    assert (failing.name, failing.summary) == ("services", "a service of the server has failed")
    assert failing.reason == "connection to db.internal has failed (LookupError)"
    assert not is_ready(server.health())
    await service.stop()
    assert is_ready(server.health())
    server.stop()
    assert [each.summary for each in server.health() if each.state == "failing"] == [
        "the server is shutting down"
    ]
    assert not is_ready(server.health())
