"""A central system for charging stations that speak OCPP 1.6.

The server holds the WebSockets of the stations, reads and writes OCPP, and answers heartbeats. This application decides
which stations may connect and who may charge, and handles the reports of stations.
"""

import base64
import hmac
import itertools
from typing import Any, TypedDict

from catenary import Cable, Channel, Connection, action

PASSWORDS = {"cs-1": "first-secret", "cs-2": "second-secret"}
"""The passwords of stations, by station id. A real system stores hashes."""

TAGS = {"AB12", "CD34"}
"""The cards with which drivers may charge."""

transaction_ids = itertools.count(1)


class Started(TypedDict):
    connectorId: int
    idTag: str
    meterStart: int


class Stopped(TypedDict):
    transactionId: int
    meterStop: int


class Station(Connection):
    identified_by = ("station_id",)
    station_id: str

    async def connect(self) -> None:
        """Accepts a station by its password. Its id is the user name and the last part of the path, ``/ocpp/cs-1``."""
        name, password = credentials(self.request.headers.get("authorization", ""))
        known = PASSWORDS.get(name, "")
        if not known or not hmac.compare_digest(known.encode(), password.encode()):
            self.reject_unauthorized_connection()
        if self.request.path.rpartition("/")[2] != name:
            self.reject_unauthorized_connection()
        self.station_id = name


class OCPPChannel(Channel[Station]):
    """Each action is one OCPP message. ``id`` is that of the message, ``payload`` its content."""

    station_id: str

    async def subscribed(self) -> None:
        if self.station_id != self.connection.station_id:
            self.reject()
        self.stream_for(self.station_id)

    # If an action sends no answer, the server does: docs/ocpp.md lists the default answers.

    @action
    async def boot_notification(self, payload: dict[str, Any]) -> None:
        self.report("booted", payload["chargePointModel"])

    @action
    async def status_notification(self, payload: dict[str, Any]) -> None:
        self.report(f"connector {payload['connectorId']}", payload["status"])

    @action
    async def meter_values(self, payload: dict[str, Any]) -> None:
        for each in payload["meterValue"]:
            self.report("meter", *(sample["value"] for sample in each["sampledValue"]))

    @action
    async def authorize(self, id: str, payload: dict[str, Any]) -> None:
        self.answer(id, idTagInfo=judged(payload["idTag"]))

    @action
    async def start_transaction(self, id: str, payload: Started) -> None:
        info = judged(payload["idTag"])
        transaction = next(transaction_ids)
        self.report("started", transaction, payload["idTag"], info["status"])
        self.answer(id, transactionId=transaction, idTagInfo=info)

    @action
    async def stop_transaction(self, payload: Stopped) -> None:
        self.report("stopped", payload["transactionId"], "at", payload["meterStop"])

    # The answers of the station to remote commands

    @action
    async def ack(self, id: str, payload: dict[str, Any]) -> None:
        self.report("answered", id, payload.get("status", payload))

    @action
    async def error(self, id: str, code: str, message: str) -> None:
        self.report("failed", id, code, message)

    def answer(self, id: str, **payload: object) -> None:
        self.transmit({"command": "Ack", "id": id, "payload": payload})

    def report(self, *words: object) -> None:
        print(f"{self.station_id}:", *words, flush=True)


def judged(tag: str) -> dict[str, str]:
    return {"status": "Accepted" if tag in TAGS else "Invalid"}


def credentials(authorization: str) -> tuple[str, str]:
    """The user name and the password of Basic authentication (RFC 7617); empty if there are none."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        return "", ""
    return name, password


cable = Cable(connection=Station, channels=[OCPPChannel])
