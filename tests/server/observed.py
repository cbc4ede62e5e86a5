"""A cable with an observer that prints each event as a line of JSON, for tests/server/test_observer.py."""

import json
from typing import Any

from catenary import Cable, Channel, Observer
from catenary.messages.commands import Command
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Stream
from catenary.messages.publications import Publishable
from catenary.messages.reasons import Reason


def note(*event: Any) -> None:
    print("event", json.dumps(event), flush=True)


class Printing(Observer):
    def connected(self, environment: Environment, *, is_resumed: bool) -> None:
        note("connected", environment.sid, is_resumed)

    def received(self, environment: Environment, command: Command) -> None:
        raise LookupError("the observer's own fault")

    def subscribed(self, environment: Environment, identifier: Identifier) -> None:
        note("subscribed", environment.sid, identifier)

    def disconnected(self, environment: Environment, reason: Reason | None) -> None:
        note("disconnected", environment.sid, None if reason is None else reason.name)

    def published(self, publications: tuple[Publishable, ...]) -> None:
        note("published", len(publications))

    def delivered(self, stream: Stream, messages: int, clients: int) -> None:
        note("delivered", stream, messages, clients)


class NewsChannel(Channel):
    def subscribed(self) -> None:
        self.stream_from("news")


cable = Cable(channels=[NewsChannel], observer=Printing())
