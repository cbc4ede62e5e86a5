"""WebSockets of a protocol that is not Action Cable, from the handshake to the protocol's own close codes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from catenary.edge.connection import PortState
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.reasons import Reason
from catenary.messages.replies import Confirmed
from catenary.protocols.actioncable_json import ActionCableJson
from catenary.protocols.table import ProtocolSet
from tests.node.test_observer import Noting
from tests.parts.client_port import client_connection
from tests.parts.heart import Heart, confirming, in_loop, room
from tests.parts.strict_protocol import STRICT, SUBPROTOCOL

INIT = '{"type":"init"}'
CONFIRMED = (ActionCableJson().encode(Confirmed(room("1"))) or b"").decode()
SUBSCRIBE = '{"type":"subscribe","id":"1"}'


@asynccontextmanager
async def client_of(heart: Heart) -> AsyncIterator[ClientConnection]:
    """A client of a server that speaks the strict protocol only; its welcome has been read."""
    loop, state = asyncio.get_running_loop(), PortState()
    protocols = ProtocolSet([STRICT])
    server = await loop.create_server(
        lambda: client_connection(heart, state, protocols), "127.0.0.1", 0
    )
    host, port = server.sockets[0].getsockname()
    address = f"ws://{host}:{port}/cable"
    try:
        with pytest.raises(InvalidStatus, match="400"):
            await connect(address, proxy=None)
        async with connect(address, subprotocols=[Subprotocol(SUBPROTOCOL)], proxy=None) as client:
            yield client
    finally:
        server.close()


async def end_of(client: ClientConnection) -> tuple[list[str | bytes], int, str]:
    """The messages until the end, and the code and reason of the close frame."""
    messages: list[str | bytes] = []
    try:
        async with asyncio.timeout(5):
            while True:
                messages.append(await client.recv())
    except ConnectionClosed:
        return messages, client.close_code or 0, client.close_reason or ""


@pytest.mark.parametrize(
    ("said", "heard", "code", "text"),
    [
        (["garbage"], [], 4400, "Invalid message"),
        ([SUBSCRIBE], [], 4401, "Unauthorized"),
        ([INIT, INIT], ['{"type":"ack"}'], 4429, "Too many initialisation requests"),
        (
            [INIT, SUBSCRIBE, SUBSCRIBE],
            ['{"type":"ack"}', CONFIRMED, '{"type":"error"}'],
            4409,
            "Subscriber for 1 already exists",
        ),
    ],
    ids=["garbage", "no init", "two inits", "same id twice"],
)
@in_loop
async def test_a_protocol_ends_a_connection_with_a_code_of_its_own(
    said: list[str], heard: list[str], code: int, text: str
) -> None:
    observer = Noting()
    heart = Heart(observer=observer)
    async with client_of(heart) as client:
        assert client.subprotocol == SUBPROTOCOL
        await client.recv()
        for each in said:
            await client.send(each)
        await client.send(SUBSCRIBE)
        assert await end_of(client) == (heard, code, text)
    assert heart.counters.failed_client_msg_total == 1
    assert [each[2] for each in observer.noted if each[0] == "refused"] == [text]
    assert [each[2] for each in observer.noted[-2:]] == 2 * [Reason.INVALID_MESSAGE]
    subscribed = [each for each in heart.application.calls if each[0] == "subscribe"]
    assert len(subscribed) == len(heard) // 2, "none after the end"


@in_loop
async def test_the_end_comes_after_the_answers_to_the_messages_before() -> None:
    heart = Heart()
    later = heart.application.later("subscribe")
    async with client_of(heart) as client:
        await client.recv()
        await client.send(INIT)
        await client.recv()
        await client.send(SUBSCRIBE)
        await client.send("garbage")
        await (await client.ping())  # after it, everything before it has been read
        later.set_result(confirming(room("1")))
        messages, code, _ = await end_of(client)
        assert (messages, code) == ([CONFIRMED], 4400)


@in_loop
async def test_a_client_that_the_application_rejects_gets_the_code_of_the_protocol() -> None:
    heart = Heart()
    heart.application.prepare("connect", Decision(verdict=Verdict.FAILURE))
    async with client_of(heart) as client:
        assert await end_of(client) == ([], 4403, "Forbidden")
