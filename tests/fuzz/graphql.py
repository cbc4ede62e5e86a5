"""What must hold for GraphQL clients, whatever they and the channel send: JSON comes out, and the node is never asked for
something that it does not have."""

import json
from random import Random
from typing import Any, Final, cast

from catenary.messages.commands import Checkpoint, Perform, Subscribe, Unsubscribe
from catenary.messages.names import Identifier, Sid
from catenary.messages.replies import Confirmed, Delivery, Failed, Rejected, Welcome
from catenary.ports import IntroducedCodec, Introduction
from catenary.protocols.graphql import SEPARATOR, GraphqlRules
from catenary.protocols.graphql_protocols import graphql_protocols

_PROTOCOLS: Final = graphql_protocols(GraphqlRules(token_header="x-jid"))
LINES: Final = 50
"""More are one line: each is sent and published, twice."""

_INIT: Final = b'{"type":"connection_init"}'


class _Node:
    """Carries out the commands of one client."""

    def __init__(self, codec: IntroducedCodec, random: Random) -> None:
        self._codec = codec
        self._random = random
        self.subscribed: set[Identifier] = set()

    def execute(self, commands: Any) -> None:
        waiting = list(commands if isinstance(commands, tuple) else (commands,))
        while waiting:
            command = waiting.pop(0)
            if isinstance(command, Checkpoint):
                following = command.reached() or ()
                waiting[:0] = following if isinstance(following, tuple) else (following,)
            elif isinstance(command, Subscribe):
                self._subscribe(command)
            elif isinstance(command, Unsubscribe):
                self.subscribed.remove(command.identifier)
            elif isinstance(command, Perform):
                assert command.identifier in self.subscribed
                assert json.loads(command.data)["action"] == "execute"
                if self._random.random() < 0.1:
                    self.send(self._codec.encode(Failed(command)))

    def _subscribe(self, command: Subscribe) -> None:
        assert command.identifier not in self.subscribed
        answers = (Rejected(command.identifier), Failed(command), *[None] * 6)
        refused = self._random.choice(answers)
        if refused is None:
            self.subscribed.add(command.identifier)
            self.send(self._codec.encode(Confirmed(command.identifier)))
        else:
            self.send(self._codec.encode(refused))

    def publish(self, message: bytes) -> None:
        for identifier in sorted(self.subscribed):
            self.send(self._codec.encode_delivery(Delivery(identifier, message)))

    def send(self, batch: bytes | None) -> None:
        for each in [] if batch is None else batch.split(SEPARATOR):
            message = json.loads(each)
            assert isinstance(message["type"], str)


def check(data: bytes, random: Random) -> None:
    """Lines are messages of a client and of the channel, too."""
    for protocol in ("graphql-transport-ws", "graphql-ws"):
        codec = cast("IntroducedCodec", _PROTOCOLS.choose([protocol])[0].codec())
        node = _Node(codec, random)
        first, *others = data.split(b"\n", LINES)
        introduced = codec.introduce(first)
        if not isinstance(introduced, Introduction):
            introduced = codec.introduce(_INIT)
        assert isinstance(introduced, Introduction)
        assert all("\n" not in value for value in introduced.headers.values())
        node.send(codec.encode(Welcome(Sid("s"))))
        for each in others:
            node.execute(codec.decode(each))
            node.publish(each)
        node.publish(b'{"more":false}')
        node.execute(codec.decode(b'{"type":"pong"}'))
        assert not node.subscribed, "all operations are over"


def _lines(*messages: object) -> bytes:
    return b"\n".join(json.dumps(each).encode() for each in messages)


_QUERY: Final = {"query": "{ a }", "variables": {"x": [1]}, "operationName": "A", "extensions": {}}

SEEDS: Final = (
    _lines(
        {"type": "connection_init", "payload": {"jid": "a.b.c", "é": 1}},
        {"type": "subscribe", "id": "1", "payload": _QUERY},
        {"type": "subscribe", "id": "é", "payload": _QUERY},
        {"result": {"data": {"a": 1}}, "more": True},
        {"type": "complete", "id": "1"},
        {"result": {"errors": [{"message": "x"}]}},
        {"type": "subscribe", "id": "1", "payload": _QUERY},
        {"result": {"data": None}, "more": False},
    ),
    _lines(
        {"type": "connection_init"},
        {"type": "start", "id": "1", "payload": _QUERY},
        {"type": "start", "id": "1", "payload": _QUERY},
        {"type": "start", "id": "2", "payload": {"query": 1}},
        {"result": {"data": {}, "errors": []}, "more": True},
        {"type": "stop", "id": "1"},
        {"type": "connection_terminate"},
    ),
)

WORDS: Final = (b'"1"', b'"type":"stop"', b'"more":true', b"\\ud83c", b"1e400", b"\n", b"\x1e")
