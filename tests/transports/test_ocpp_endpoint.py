"""The endpoint of charging stations: their paths, their subprotocols, and what those without get."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from catenary.edge.admission import Admission
from catenary.edge.connection import PortState
from catenary.edge.deadlines import NoDeadlines
from catenary.edge.introductions import Introductions
from catenary.edge.refusals import Refusals
from catenary.edge.routes import Endpoint
from catenary.errors import RequestRefused
from catenary.node.encoder import Encoders
from catenary.transports.ocpp_endpoint import SEGMENT, OcppEndpoint, station_id
from catenary.transports.websocket import WebSocketServices
from tests.parts.client_port import client_connection
from tests.parts.heart import Heart, in_loop, settle
from tests.parts.stations import BOOT, admitting, rules


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/ocpp/cs-1", "cs-1"),
        ("/a/b/CS%201", "CS 1"),
        ("/ocpp/a%2Fb", "a/b"),
        ("/ocpp/%C3%A9", "é"),
        ("/ocpp/a:b@c|d", "a:b@c|d"),
    ],
)
def test_the_id_is_the_last_segment(path: str, name: str) -> None:
    assert station_id(path) == name


@pytest.mark.parametrize("path", ["/ocpp/", "/ocpp/%FF", "/ocpp/a%0Ab", "/ocpp/%00"])
def test_other_ids_are_refused(path: str) -> None:
    with pytest.raises(RequestRefused, match="expected the id of a station"):
        station_id(path)


@asynccontextmanager
async def stations_of(heart: Heart) -> AsyncIterator[str]:
    """The address of a server for stations, below which each has its id."""
    loop, state = asyncio.get_running_loop(), PortState()
    admitting(heart)

    def rows(services: WebSocketServices, admission: Admission) -> Sequence[tuple[str, Endpoint]]:
        introductions = Introductions(heart.node, NoDeadlines(), heart.counters)
        services = msgspec.structs.replace(services, node=introductions)
        refusals = Refusals(heart.counters)
        endpoint = OcppEndpoint(services, admission, rules(), Encoders(), refusals)
        return [(f"/ocpp/{SEGMENT}", endpoint)]

    server = await loop.create_server(
        lambda: client_connection(heart, state, more=rows), "127.0.0.1", 0
    )
    host, port = server.sockets[0].getsockname()
    try:
        yield f"ws://{host}:{port}/ocpp/"
    finally:
        server.close()


def subscribed(heart: Heart) -> list[Any]:
    calls = heart.application.calls
    return [json.loads(each[1])["station_id"] for each in calls if each[0] == "subscribe"]


@in_loop
async def test_stations_are_told_apart_by_their_paths() -> None:
    heart = Heart()
    async with stations_of(heart) as address:
        for name, subprotocol in (("cs-1", "ocpp1.6"), ("CS%202", "ocpp2.0.1"), ("3", "ocpp2.1")):
            offered = [Subprotocol("ocpp0.9"), Subprotocol(subprotocol)]
            async with connect(address + name, subprotocols=offered, proxy=None) as socket:
                assert socket.subprotocol == subprotocol
                await socket.send(json.dumps([2, "1", "BootNotification", BOOT]))
                assert json.loads(await socket.recv())[2]["status"] == "Accepted"
    assert subscribed(heart) == ["cs-1", "CS 2", "3"]


@pytest.mark.parametrize("offered", [None, ["ocpp1.5", "actioncable-v1-json"]])
@in_loop
async def test_without_a_known_subprotocol_the_connection_is_closed_after_the_handshake(
    offered: list[Subprotocol] | None,
) -> None:
    heart = Heart()
    async with stations_of(heart) as address:
        async with connect(f"{address}cs-1", proxy=None) as socket:
            assert socket.subprotocol is None
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(socket.recv(), 5)
            assert socket.close_code == 1002
            assert "ocpp1.6" in (socket.close_reason or "")
        await settle()
    assert heart.counters.failed_handshakes_total == 1
    assert heart.counters.open_connections_num == 0


@in_loop
async def test_a_request_that_is_no_handshake_is_refused() -> None:
    async with stations_of(Heart()) as address:
        with pytest.raises(InvalidStatus, match="400"):
            await connect(f"{address}%FF", subprotocols=[Subprotocol("ocpp1.6")], proxy=None)
        reader, writer = await asyncio.open_connection(*address[5:].partition("/")[0].split(":"))
        writer.write(b"GET /ocpp/cs-1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).split()[1] == b"426"
        writer.close()
