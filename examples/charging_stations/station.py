"""A charging station without a charger: python station.py cs-1 first-secret

It boots, reports its status, charges once, and again when it is told to. Each message is a JSON array: [2, id, action, payload] is a
call, [3, id, payload] its answer, [4, id, code, text, details] an error.
"""

import asyncio
import base64
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError
from websockets.typing import Subprotocol

URL = "ws://localhost:8080/ocpp"
TAG = "AB12"


class Station:
    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._ids = count(1)
        self._answers: dict[str, asyncio.Future[Any]] = {}
        self._charging = asyncio.Queue[str]()
        self._meter = count(0, 500)

    async def read(self) -> None:
        """Reads messages until the server closes the connection."""
        with suppress(ConnectionClosedError):
            async for message in self._socket:
                kind, message_id, *rest = json.loads(message)
                if kind == 2:
                    await self._obey(message_id, *rest)
                elif message_id in self._answers:
                    self._answers.pop(message_id).set_result(rest[0] if kind == 3 else None)
        print(f"closed: {self._socket.close_code} {self._socket.close_reason}", flush=True)

    async def _obey(self, message_id: str, action: str, payload: dict[str, Any]) -> None:
        """Starts a transaction when told to; everything else is not implemented."""
        if action == "RemoteStartTransaction":
            self._charging.put_nowait(payload["idTag"])
            await self._send(3, message_id, {"status": "Accepted"})
        else:
            await self._send(4, message_id, "NotImplemented", "", {})

    async def call(self, action: str, **payload: object) -> dict[str, Any]:
        """The answer of the server, empty if it is an error. One call at a time, as OCPP requires."""
        message_id = str(next(self._ids))
        answer = self._answers[message_id] = asyncio.get_running_loop().create_future()
        await self._send(2, message_id, action, payload)
        return await answer or {}

    async def _send(self, *message: object) -> None:
        await self._socket.send(json.dumps(message))

    async def run(self) -> None:
        """Boots and charges."""
        boot = await self.call("BootNotification", chargePointModel="M1", chargePointVendor="V")
        print("boot:", boot.get("status"), flush=True)
        if boot.get("status") != "Accepted":
            return
        available = {"errorCode": "NoError", "status": "Available"}
        await self.call("StatusNotification", connectorId=1, **available)
        self._charging.put_nowait(TAG)
        while True:
            try:
                tag = await asyncio.wait_for(self._charging.get(), boot["interval"])
            except TimeoutError:
                await self.call("Heartbeat")
            else:
                await self.charge(tag)

    async def charge(self, tag: str) -> None:
        """One transaction, unless the card may not charge."""
        meter: Callable[[], int] = self._meter.__next__
        where = {"connectorId": 1}
        start = {"idTag": tag, "meterStart": meter(), "timestamp": now()}
        started = await self.call("StartTransaction", **where, **start)
        if started.get("idTagInfo", {}).get("status") != "Accepted":
            print("refused:", tag, flush=True)
            return
        values = [{"timestamp": now(), "sampledValue": [{"value": str(meter())}]}]
        transaction = {"transactionId": started["transactionId"]}
        await self.call("MeterValues", **where, **transaction, meterValue=values)
        await self.call("StopTransaction", **transaction, meterStop=meter(), timestamp=now())
        print("charged:", tag, flush=True)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


async def main(name: str, password: str) -> None:
    basic = base64.b64encode(f"{name}:{password}".encode()).decode()
    headers = {"Authorization": f"Basic {basic}"}
    subprotocols = [Subprotocol("ocpp1.6")]
    async with connect(
        f"{URL}/{name}", subprotocols=subprotocols, additional_headers=headers
    ) as socket:
        station = Station(socket)
        running = asyncio.create_task(station.run())
        await station.read()
        running.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
