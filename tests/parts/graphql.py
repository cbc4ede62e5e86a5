"""A GraphQL client in memory, whose application is prepared by a test: node, introduction and codec are real."""

import json
from typing import Any

from catenary.edge.deadlines import NoDeadlines
from catenary.edge.introductions import Introductions
from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.replies import Confirmed, Delivery
from catenary.node.encoder import Encoders
from catenary.node.session import Traits
from catenary.protocols.graphql import GraphqlRules
from catenary.protocols.graphql_protocols import graphql_protocols
from catenary.wire.framing import PREFIXED, payloads
from tests.parts.heart import NEVER, Heart, MemoryOutbound

QUERY = {"query": "{ a }"}


def identifier_of(name: str) -> Identifier:
    return Identifier(
        json.dumps({"channel": "GraphqlChannel", "channelId": name}, separators=(",", ":"))
    )


def accepting(name: str, *streams: str) -> Decision:
    return Decision(streams=tuple(map(Stream, streams)), replies=(Confirmed(identifier_of(name)),))


def sending(name: str, *messages: object) -> Decision:
    """The decision of an action that transmits messages."""
    return Decision(
        replies=tuple(Delivery(identifier_of(name), json.dumps(each).encode()) for each in messages)
    )


def transmitting(name: str, message: object) -> Decision:
    """The same, as an application behind RPC writes it."""
    text = json.dumps({"identifier": identifier_of(name), "message": message})
    return Decision(transmissions=(text,))


class GraphqlClient:
    """A client of one of the protocols; with ``is_ready`` its application has admitted it."""

    def __init__(
        self,
        protocol: str = "graphql-transport-ws",
        heart: Heart | None = None,
        rules: GraphqlRules = GraphqlRules(token_header="x-jid"),  # noqa: B008
        *,
        is_ready: bool = True,
    ) -> None:
        self.heart = heart or Heart()
        self.application = self.heart.application
        self.application.prepare("connect")
        chosen, _ = graphql_protocols(rules).choose([protocol])
        self.outbound = MemoryOutbound()
        self.environment = Environment(Sid("s"), "ws://test/", {})
        self._clients = Introductions(self.heart.node, NoDeadlines(), self.heart.counters)
        self._newcomer = self._clients.admit(
            self.environment,
            Encoders().encoder(chosen, PREFIXED),
            self.outbound,
            Traits(NEVER),
        )
        if is_ready:
            self.say(type="connection_init")
            self.take()

    @property
    def session(self) -> Any:
        return self._newcomer.session

    def say(self, **message: object) -> None:
        self.say_raw(json.dumps(message).encode())

    def say_raw(self, payload: bytes) -> None:
        self._clients.receive(self._newcomer, payload)

    def take(self) -> list[Any]:
        """The messages since the last time."""
        heard = [json.loads(each) for each in payloads(b"".join(self.outbound.frames))]
        self.outbound.frames.clear()
        return heard

    @property
    def closed(self) -> tuple[int, str] | None:
        """The code and the reason of the close frame."""
        goodbye = self.outbound.goodbye
        return None if goodbye is None else (goodbye.code, goodbye.text)

    def leave(self) -> None:
        self._clients.leave(self._newcomer)

    @property
    def calls(self) -> list[tuple[str, ...]]:
        """The calls of the application after Connect, without the sid."""
        return [each for each in self.application.calls if each[0] != "connect"]
