import asyncio
import json
from array import array
from collections.abc import Iterable
from typing import Any

import pytest

from catenary.protocols.actioncable_json import EXTENDED
from catenary.terminal.cable_socket import HandshakeRequest, address, frame
from catenary.terminal.counting import CountingClient, Tally, mark
from catenary.wire.frames import TEXT, FrameReader, Message
from catenary.wire.handshake import check_upgrade, switching
from catenary.wire.http1 import read_request

OPENING = HandshakeRequest(
    address=address("ws://cable.example/cable"), subprotocols=("actioncable-v1-json",)
)


class RecordingTransport(asyncio.Transport):
    """Takes what a client writes."""

    def __init__(self, client: CountingClient | None = None) -> None:
        """``client`` is told that the connection is lost when it aborts it."""
        super().__init__()
        self.written = b""
        self._client = client

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        if self._client is not None:
            asyncio.get_running_loop().call_soon(self._client.connection_lost, None)

    def commands(self) -> list[dict[str, Any]]:
        """The commands after the handshake."""
        frames = FrameReader(10_000).receive(self.written.partition(b"\r\n\r\n")[2])
        return [json.loads(frame.payload) for frame in frames if isinstance(frame, Message)]


def switched(transport: RecordingTransport, subprotocol: str | None = None) -> bytes:
    """A server's response to the opening handshake."""
    request = read_request(transport.written.partition(b"\r\n\r\n")[0])
    return switching(check_upgrade(request), subprotocol)


def spoken(text: str) -> bytes:
    """A server's text frame."""
    payload = text.encode()
    size = len(payload)
    return b"\x81" + (bytes((size,)) if size < 126 else b"\x7e" + size.to_bytes(2, "big")) + payload


async def client_after(
    numbers: Iterable[int], *, chunk: int = 10_000
) -> tuple[CountingClient, Tally]:
    """A client of a stream of four messages that has received these."""
    tally = Tally()
    client, transport = (
        CountingClient(tally, array("d", [0.0] * 4), OPENING, "{}"),
        RecordingTransport(),
    )
    client.connection_made(transport)
    data = (
        switched(transport)
        + spoken('{"type":"welcome"}')
        + spoken('{"type":"confirm_subscription"}')
    )
    data += b"".join(spoken(mark(number) + "x" * (100 * number)) for number in numbers)
    for start in range(0, len(data), chunk):
        client.data_received(data[start : start + chunk])
    return client, tally


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("numbers", "received", "lost", "irregular"),
    [
        ((0, 1, 2, 3), 4, 0, (0, 0)),
        ((0, 1, 3), 3, 1, (0, 0)),
        ((0, 1, 2), 3, 1, (0, 0)),
        ((), 0, 4, (0, 0)),
        ((0, 1, 1, 2, 3), 4, 0, (1, 0)),
        ((0, 2, 1, 3), 4, 0, (0, 1)),
        ((3, 3, 0), 2, 2, (1, 1)),
    ],
)
def test_what_is_lost_or_comes_twice_or_late(
    numbers: tuple[int, ...], received: int, lost: int, irregular: tuple[int, int], chunk: int
) -> None:
    client, tally = asyncio.run(client_after(numbers, chunk=chunk))
    assert client.ready.done()
    assert (tally.received, client.lost) == (received, lost)
    assert (tally.duplicates, tally.out_of_order) == irregular
    assert len(tally.latencies) == received


def numbered(number: int) -> str:
    """A message of stream s7, whose history counts from 1."""
    position = f'"stream_id":"s7","epoch":"ab1","offset":{number + 1}'
    return f'{{"identifier":"x","message":{{"t":"{mark(number)}"}},{position}}}'


@pytest.mark.parametrize("chunk", [1, 9, 10_000])
@pytest.mark.parametrize("is_restored", [True, False])
def test_a_client_that_was_cut_off_requests_what_it_missed(chunk: int, is_restored: bool) -> None:
    opening = HandshakeRequest(
        address=address("ws://cable.example/cable?jid=abc"), subprotocols=(EXTENDED,)
    )

    async def story() -> None:
        tally = Tally()
        client = CountingClient(tally, array("d", [0.0] * 3), opening, "{}")

        def receive(data: bytes) -> None:
            for start in range(0, len(data), chunk):
                client.data_received(data[start : start + chunk])

        first, second = RecordingTransport(client), RecordingTransport(client)
        client.connection_made(first)
        receive(switched(first, EXTENDED) + spoken('{"type":"welcome","sid":"one"}'))
        receive(spoken('{"type":"confirm_subscription"}') + spoken(numbered(0)))
        receive(spoken(numbered(1))[:-5])
        assert client.ready.done()
        await client.away()
        client.connection_made(second)
        assert second.written.startswith(b"GET /cable?jid=abc&sid=one HTTP/1.1\r\n")
        restored = ',"restored":true' if is_restored else ""
        receive(switched(second, EXTENDED) + spoken(f'{{"type":"welcome","sid":"two"{restored}}}'))
        (command,) = second.commands()
        assert command["command"] == ("history" if is_restored else "subscribe")
        assert command["history"] == {"streams": {"s7": {"offset": 1, "epoch": "ab1"}}}
        receive(spoken(numbered(1)) + spoken(numbered(2)))
        assert not client.ready.done()
        receive(spoken('{"type":"confirm_history"}'))
        assert client.ready.done()
        assert (client.lost, tally.duplicates, tally.closed, tally.received) == (0, 0, 0, 3)
        assert tally.restored == is_restored

    asyncio.run(story())


def test_a_rejected_history_shows_as_lost_messages() -> None:
    async def story() -> None:
        tally = Tally()
        client = CountingClient(tally, array("d", [0.0] * 3), OPENING, "{}")
        transport = RecordingTransport(client)
        client.connection_made(transport)
        client.data_received(switched(transport) + spoken('{"type":"reject_history"}'))
        assert client.ready.done()
        assert (tally.rejected_histories, client.lost) == (1, 3)

    asyncio.run(story())


def test_a_refused_handshake_fails_the_client() -> None:
    async def refused() -> None:
        client = CountingClient(Tally(), array("d"), OPENING, "{}")
        client.connection_made(RecordingTransport())
        client.data_received(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
        await client.ready

    with pytest.raises(ConnectionError, match=r"expected 101.* 503"):
        asyncio.run(refused())


def test_the_answer_to_another_handshake_fails_the_client() -> None:
    async def answered() -> None:
        client, transport, other = (
            CountingClient(Tally(), array("d"), OPENING, "{}"),
            RecordingTransport(),
            RecordingTransport(),
        )
        client.connection_made(other)
        client.connection_made(transport)
        client.data_received(switched(other))
        await client.ready

    with pytest.raises(ConnectionError, match="another one"):
        asyncio.run(answered())


@pytest.mark.parametrize("size", [0, 1, 125, 126, 1000, 65_536])
def test_frames_are_those_of_a_client(size: int) -> None:
    payload = b"a" * size
    assert FrameReader(100_000).receive(frame(TEXT, payload)) == [Message(payload, is_text=True)]
