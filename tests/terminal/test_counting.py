import asyncio
from array import array
from collections.abc import Iterable

import pytest

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

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def abort(self) -> None:
        pass


def switched(transport: RecordingTransport) -> bytes:
    """What a server answers to the opening handshake."""
    return switching(check_upgrade(read_request(transport.written.removesuffix(b"\r\n\r\n"))), None)


def spoken(text: str) -> bytes:
    """A server's text frame."""
    payload = text.encode()
    size = len(payload)
    return b"\x81" + (bytes((size,)) if size < 126 else b"\x7e" + size.to_bytes(2, "big")) + payload


async def heard(numbers: Iterable[int], *, chunk: int = 10_000) -> tuple[CountingClient, Tally]:
    """A client of a stream of four messages that has heard these."""
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
    client, tally = asyncio.run(heard(numbers, chunk=chunk))
    assert client.ready.done()
    assert (tally.received, client.lost) == (received, lost)
    assert (tally.duplicates, tally.out_of_order) == irregular
    assert len(tally.latencies) == received


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
