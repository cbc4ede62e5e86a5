"""Charging stations as PyPI's ocpp implements them, with the schemas of the Open Charge Alliance: an answer that does not fit
raises an error."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from ocpp.routing import on
from ocpp.v16 import ChargePoint as ChargePoint16
from ocpp.v16 import call_result as results16
from ocpp.v201 import ChargePoint as ChargePoint201
from ocpp.v201 import call_result as results201
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

TIMEOUT_S = 10


class Commands:
    """The remote commands that a station has received: the idTag of each."""

    def __init__(self) -> None:
        self._tags: asyncio.Queue[str] = asyncio.Queue()

    def add(self, tag: str) -> None:
        self._tags.put_nowait(tag)

    async def next(self) -> str:
        async with asyncio.timeout(TIMEOUT_S):
            return await self._tags.get()


class Station16(ChargePoint16):  # type: ignore[misc]
    """A station of OCPP 1.6."""

    subprotocol = Subprotocol("ocpp1.6")

    def __init__(self, name: str, socket: ClientConnection) -> None:
        super().__init__(name, socket, response_timeout=TIMEOUT_S)
        self.socket = socket
        self.commands = Commands()

    @on("RemoteStartTransaction")  # type: ignore[untyped-decorator]
    def on_remote_start(self, id_tag: str, **rest: Any) -> Any:
        self.commands.add(id_tag)
        return results16.RemoteStartTransaction("Accepted")


class Station201(ChargePoint201):  # type: ignore[misc]
    """A station of OCPP 2.0.1."""

    subprotocol = Subprotocol("ocpp2.0.1")

    def __init__(self, name: str, socket: ClientConnection) -> None:
        super().__init__(name, socket, response_timeout=TIMEOUT_S)
        self.socket = socket
        self.commands = Commands()

    @on("RequestStartTransaction")  # type: ignore[untyped-decorator]
    def on_request_start(self, id_token: dict[str, str], **rest: Any) -> Any:
        self.commands.add(id_token["id_token"])
        return results201.RequestStartTransaction("Accepted")


def basic(name: str, password: str) -> dict[str, str]:
    """The header of Basic authentication."""
    encoded = base64.b64encode(f"{name}:{password}".encode()).decode()
    return {"Authorization": f"Basic {encoded}"}


@asynccontextmanager
async def station(port: int, name: str, password: str, kind: Any = Station16) -> AsyncIterator[Any]:
    """A station that is connected and reads; it has not booted."""
    async with connect(
        f"ws://127.0.0.1:{port}/ocpp/{name}",
        subprotocols=[kind.subprotocol],
        additional_headers=basic(name, password),
        proxy=None,
        open_timeout=TIMEOUT_S,
    ) as socket:
        charge_point = kind(name, socket)
        charge_point.reading = asyncio.create_task(_read(charge_point))
        try:
            yield charge_point
        finally:
            charge_point.reading.cancel()


async def _read(charge_point: Any) -> None:
    with suppress(ConnectionClosed):
        await charge_point.start()


async def end_of(charge_point: Any) -> tuple[int | None, str | None]:
    """Waits for the end of its connection: the close code and reason."""
    async with asyncio.timeout(TIMEOUT_S):
        await charge_point.socket.wait_closed()
    return charge_point.socket.close_code, charge_point.socket.close_reason
