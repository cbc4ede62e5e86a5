"""Operations of one GraphQL client, many of them."""

from typing import cast

import pytest

from catenary.messages.commands import Checkpoint, Command
from catenary.messages.names import Sid
from catenary.messages.replies import Delivery, Welcome
from catenary.ports import IntroducedCodec
from catenary.protocols.graphql import GraphqlRules
from catenary.protocols.graphql_messages import read_channel_message
from catenary.protocols.graphql_protocols import graphql_protocols
from tests.growth.measure import Case, Work, assert_near_linear
from tests.parts.graphql import identifier_of


def codec_of(protocol: str) -> IntroducedCodec:
    chosen, _ = graphql_protocols(GraphqlRules()).choose([protocol])
    codec = cast("IntroducedCodec", chosen.codec())
    codec.introduce(b'{"type":"connection_init"}')
    codec.encode(Welcome(Sid("s")))
    return codec


def _start(kind: str, name: str) -> bytes:
    return b'{"type":"%b","id":"%b","payload":{"query":"{a}"}}' % (kind.encode(), name.encode())


def execute(commands: Command | tuple[Command, ...] | None) -> None:
    """Carries out checkpoints only."""
    if isinstance(commands, Checkpoint):
        execute(commands.reached())
    elif isinstance(commands, tuple):
        for each in commands:
            execute(each)


def operations_that_the_channel_ends(size: int) -> Work:
    codec = codec_of("graphql-transport-ws")
    for number in range(size):
        codec.decode(_start("subscribe", str(number)))

    def work() -> None:
        for number in range(size):
            delivery = Delivery(identifier_of(str(number)), b'{"more":false}')
            codec.encode_delivery(delivery)
        execute(codec.decode(b'{"type":"ping"}'))

    return work


def operations_that_replace_each_other(size: int) -> Work:
    codec = codec_of("graphql-ws")

    def work() -> None:
        for _ in range(size):
            codec.decode(_start("start", "1"))

    return work


def a_large_result(size: int) -> Work:
    codec = codec_of("graphql-transport-ws")
    codec.decode(_start("subscribe", "1"))
    message = b'{"more":true,"result":{"data":[' + b"[0]," * size + b"1]}}"
    delivery = Delivery(identifier_of("1"), message)

    def work() -> None:
        read_channel_message.cache_clear()
        codec.encode_delivery(delivery)

    return work


def a_large_query(size: int) -> Work:
    codec = codec_of("graphql-transport-ws")
    variables = b'"x":[0],' * size + b'"y":1'
    payload = b'{"query":"{a}","variables":{%b}}' % variables
    return lambda: codec.decode(b'{"type":"subscribe","id":"1","payload":%b}' % payload)


CASES = (
    operations_that_the_channel_ends,
    operations_that_replace_each_other,
    a_large_result,
    a_large_query,
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_work_grows_with_the_input(case: Case) -> None:
    assert_near_linear(case)
