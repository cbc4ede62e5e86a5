"""Charging stations in memory: the real codec and node, and an application whose answers a test prepares."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from catenary.edge.deadlines import NoDeadlines
from catenary.edge.introductions import Introductions
from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.reasons import Reason
from catenary.messages.replies import Confirmed
from catenary.node.encoder import Encoder
from catenary.node.session import Traits
from catenary.protocols.ocpp import OcppCodec, Rules, protocols
from catenary.protocols.ocpp_messages import V16, Version
from catenary.protocols.table import ClientProtocol
from catenary.wire.framing import WEBSOCKET_TEXT
from tests.parts.heart import NEVER, Heart, MemoryOutbound

NOW = "2013-02-01T20:53:32.486Z"
"""The time of these stations."""

BOOT = {"chargePointModel": "M", "chargePointVendor": "V"}


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def rules(clock: Callable[[], float] | None = None, **others: Any) -> Rules:
    """Rules with a fixed time; commands without an id get ``new``."""
    usual = Rules(
        now=lambda: 1359752012.486,
        clock=clock or Clock(),
        new_id=lambda: "new",
        refused=lambda station_id: None,
    )
    return msgspec.structs.replace(usual, **others)


def station_protocol(version: Version) -> ClientProtocol:
    """The protocol of the station ``cs-1``."""
    protocol, _ = protocols(rules(), "cs-1").choose([version.subprotocol])
    return protocol


class MemoryStation:
    """A station, ``cs-1``, at the edge of a node."""

    def __init__(self, heart: Heart, version: Version = V16, rules: Rules = rules()) -> None:  # noqa: B008  (frozen)
        self.heart = heart
        self.outbound = MemoryOutbound()
        self._codec = OcppCodec(version, rules, "cs-1")
        encoder = Encoder(self._codec, WEBSOCKET_TEXT)
        self._clients = Introductions(heart.node, NoDeadlines(), heart.counters)
        environment = Environment(sid=Sid("s"), url="ws://test/ocpp/cs-1", headers={})
        self._newcomer = self._clients.admit(environment, encoder, self.outbound, Traits(NEVER))

    def say(self, *message: object) -> None:
        """Sends a message."""
        self.say_raw(json.dumps(message))

    def say_raw(self, text: str) -> None:
        self._clients.receive(self._newcomer, text.encode())

    def boot(self) -> None:
        """Boots, and passes over the answer."""
        self.say(2, "boot", "BootNotification", BOOT)
        assert self.take()[-1][2]["status"] == "Accepted"

    def take(self) -> list[Any]:
        """Every message since the last time."""
        return self.outbound.take()

    def publish(self, **message: object) -> None:
        """Publishes to the stream of the station."""
        self.heart.publish("cs-1", message)

    @property
    def failed(self) -> object:
        """The failed command that its codec keeps."""
        return self._codec._failed

    def stop(self) -> None:
        """The server stops."""
        self._newcomer.close(Reason.SERVER_RESTART)

    def leave(self) -> None:
        self._clients.leave(self._newcomer)

    @property
    def performed(self) -> list[dict[str, Any]]:
        """The data of every action."""
        calls = self.heart.application.calls
        return [json.loads(each[2]) for each in calls if each[0] == "perform"]


def admitting(heart: Heart) -> None:
    """Accepts subscriptions, to the stream of the station, unless another answer is prepared."""

    def subscribe(
        environment: Environment, identifier: Identifier
    ) -> Decision | Awaitable[Decision]:
        heart.application.calls.append(("subscribe", identifier))
        stream = Stream(json.loads(identifier)["station_id"])
        accepted = Decision(streams=(stream,), replies=(Confirmed(identifier),))
        return heart.application.answer("subscribe", accepted)

    heart.application.subscribe = subscribe  # type: ignore[method-assign]


def station(
    version: Version = V16,
    rules: Rules = rules(),  # noqa: B008  (frozen)
    heart: Heart | None = None,
) -> MemoryStation:
    """A station of a node whose application accepts it."""
    heart = heart or Heart()
    admitting(heart)
    return MemoryStation(heart, version, rules)


def acks(message_id: str, **payload: object) -> Decision:
    """The application answers a CALL by itself."""
    message = {"command": "Ack", "id": message_id, "payload": payload}
    return Decision(transmissions=(json.dumps({"identifier": "i", "message": message}),))
