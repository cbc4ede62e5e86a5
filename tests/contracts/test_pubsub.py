"""The contract of PubSub, run over every adapter."""

import json
from collections.abc import Callable

import pytest

from catenary.adapters.memory.pubsub import LocalPubSub
from catenary.messages.names import Stream
from catenary.messages.publications import Publication, Publishable, RemoteDisconnect
from catenary.ports import PubSub
from tests.parts.heart import in_loop, settle

Build = Callable[[Callable[[Publishable], None]], PubSub]

ADAPTERS: dict[str, Build] = {"memory": LocalPubSub}


@pytest.fixture(params=list(ADAPTERS))
def build(request: pytest.FixtureRequest) -> Build:
    return ADAPTERS[request.param]


def numbered(numbers: range) -> tuple[Publication, ...]:
    return tuple(Publication(Stream(f"s{n % 3}"), json.dumps(n)) for n in numbers)


async def send(pubsub: PubSub, *publications: Publishable) -> None:
    sent = pubsub.send(publications)
    if sent is not None:
        await sent
    await settle()


@pytest.mark.parametrize(
    "publication",
    [
        Publication(Stream("s"), "{}"),
        Publication(Stream("é"), "no JSON", None, "whisper", True),
        RemoteDisconnect('{"user":1}', True),
    ],
)
@in_loop
async def test_what_is_sent_is_delivered_as_it_was(build: Build, publication: Publishable) -> None:
    delivered: list[Publishable] = []
    await send(build(delivered.append), publication)
    assert delivered == [publication]


@in_loop
async def test_everything_is_delivered_in_order(build: Build) -> None:
    delivered: list[Publishable] = []
    pubsub = build(delivered.append)
    for start in range(0, 100, 10):
        await send(pubsub, *numbered(range(start, start + 10)))
    assert delivered == list(numbered(range(100)))


@in_loop
async def test_nothing_is_nothing(build: Build) -> None:
    delivered: list[Publishable] = []
    await send(build(delivered.append))
    assert delivered == []


@in_loop
async def test_what_is_sent_during_a_delivery_comes_behind_on_its_stream(build: Build) -> None:
    delivered: list[Publishable] = []
    question, answer = Publication(Stream("s"), "1"), Publication(Stream("s"), "2")

    def deliver(publication: Publishable) -> None:
        delivered.append(publication)
        if publication == question:
            pubsub.send((answer,))

    pubsub = build(deliver)
    await send(pubsub, question)
    assert delivered == [question, answer]
