"""Compressed messages of a running server, to clients of every kind and from them (RFC 7692)."""

import asyncio
import json
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from catenary.edge.request import Peer
from catenary.node.encoder import Encoder
from catenary.wire.deflate import deflated
from catenary.wire.http1 import read_request
from tests.conformance.autobahn.echo import endpoint
from tests.parts.node import CLIENTS, require_node, require_packages
from tests.parts.raw_socket import RawSocket, masked, upgrade
from tests.parts.server import CableServer, cable_server

PUBLIC = ("--public", "--norpc", "--broadcast_adapter=http", "--ping_interval=100")
COMPRESSED_TEXT = 0xC1
BROWSER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
SAID = "compressed once, " * 100
IDENTIFIER = json.dumps({"channel": "$pubsub", "stream_name": "news"})
SUBSCRIBE = json.dumps({"command": "subscribe", "identifier": IDENTIFIER}).encode()


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    with cable_server(*PUBLIC, "--enable_ws_compression") as server:
        yield server


def publish(server: CableServer, data: str) -> None:
    body = json.dumps({"stream": "news", "data": json.dumps(data)}).encode()
    request = urllib.request.Request(server.broadcast_url, body, method="POST")
    urllib.request.urlopen(request, timeout=10).close()


def agreed(client: RawSocket, *headers: str) -> str | None:
    """Shakes hands; the answer to what was offered."""
    client.send(upgrade("/cable", *headers))
    for line in client.head().split("\r\n"):
        name, _, value = line.partition(": ")
        if name == "Sec-WebSocket-Extensions":
            return value
    return None


def test_off_unless_asked_for() -> None:
    with cable_server(*PUBLIC) as server, RawSocket(server.port) as client:
        assert agreed(client, BROWSER) is None
        assert client.message()["type"] == "welcome"
        client.send(masked(deflated(SUBSCRIBE, 12), first=COMPRESSED_TEXT))
        assert client.goodbye()[0] == 1002


def test_clients_that_offer_no_compression_get_uncompressed_frames(server: CableServer) -> None:
    with RawSocket(server.port) as client:
        client.open().send(masked(SUBSCRIBE))
        assert client.message()["type"] == "confirm_subscription"
        publish(server, SAID)
        assert client.message()["message"] == SAID


def test_a_malformed_offer_is_refused(server: CableServer) -> None:
    with RawSocket(server.port) as client:
        client.send(upgrade("/cable", "Sec-WebSocket-Extensions: permessage-deflate;;"))
        assert client.answer()[0] == 400


def test_clients_with_the_same_window_get_the_same_bytes(server: CableServer) -> None:
    with (
        RawSocket(server.port) as first,
        RawSocket(server.port) as second,
        RawSocket(server.port) as narrow,
    ):
        assert agreed(first, BROWSER) == agreed(
            second, "Sec-WebSocket-Extensions: permessage-deflate"
        )
        answer = agreed(
            narrow, "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9"
        )
        assert answer is not None
        assert answer.endswith("server_max_window_bits=9")
        for client in (first, second, narrow):
            assert client.message()["type"] == "welcome"
            client.send(masked(deflated(SUBSCRIBE, 12), first=COMPRESSED_TEXT))
            assert client.message()["type"] == "confirm_subscription"
        publish(server, SAID)
        heard = [client.frame()[1] for client in (first, second, narrow)]

        assert heard[0] == heard[1]
        assert len(heard[0]) < len(SAID) / 5


def test_clients_with_the_same_window_share_an_encoder() -> None:
    """And the hub makes one frame for each encoder: so it is compressed once."""
    shared = endpoint()

    def encoder(offer: str) -> Encoder:
        head = upgrade("/cable", f"Sec-WebSocket-Extensions: {offer}").removesuffix(b"\r\n\r\n")
        return shared.accept(read_request(head), Peer("http", "")).encoder

    wide = encoder("permessage-deflate")
    assert encoder("permessage-deflate; server_max_window_bits=15") is wide
    assert encoder("permessage-deflate; client_max_window_bits=9") is wide
    assert encoder("permessage-deflate; server_max_window_bits=9") is not wide
    plain = encoder("permessage-bzip2")
    assert plain is encoder("x-webkit-deflate-frame")
    assert plain is not wide


@pytest.mark.parametrize(
    ("packed", "code"),
    [
        pytest.param(deflated(b" " * 10_000_000, 12), 1009, id="a bomb"),
        pytest.param(b"\xff" * 100, 1007, id="garbage"),
        pytest.param(deflated(SUBSCRIBE, 12)[:20], 1007, id="half a message"),
        pytest.param(deflated(b"\xff" * 200, 12), 1007, id="no UTF-8"),
    ],
)
def test_invalid_data_closes_its_connection_only(
    server: CableServer, packed: bytes, code: int
) -> None:
    assert len(packed) < 65_536
    with RawSocket(server.port) as bystander, RawSocket(server.port) as client:
        bystander.open()
        agreed(client, BROWSER)
        assert client.message()["type"] == "welcome"
        client.send(masked(packed, first=COMPRESSED_TEXT))
        assert client.goodbye()[0] == code
        assert client.wait_for_end(1) == b""
        bystander.send(masked(b'{"command":"ping"}'))
        assert bystander.message() == {"type": "pong"}


# Clients that people use


@pytest.mark.parametrize(
    "factory",
    [
        pytest.param(ClientPerMessageDeflateFactory(), id="plain"),
        pytest.param(
            ClientPerMessageDeflateFactory(client_max_window_bits=True), id="a browser's offer"
        ),
        pytest.param(ClientPerMessageDeflateFactory(server_max_window_bits=9), id="window of 9"),
        pytest.param(ClientPerMessageDeflateFactory(client_max_window_bits=9), id="its own of 9"),
        pytest.param(
            ClientPerMessageDeflateFactory(
                server_no_context_takeover=True, client_no_context_takeover=True
            ),
            id="without context",
        ),
    ],
)
def test_the_websockets_library_understands_and_is_understood(
    server: CableServer, factory: ClientPerMessageDeflateFactory
) -> None:
    async def talk() -> None:
        async with connect(
            server.cable_url,
            subprotocols=["actioncable-v1-json"],  # type: ignore[list-item]
            extensions=[factory],
            compression=None,
        ) as client:
            assert client.protocol.extensions
            await hear(client, "welcome")
            padded = {"command": "subscribe", "identifier": IDENTIFIER, "padding": SAID}
            await client.send(json.dumps(padded))
            await hear(client, "confirm_subscription")
            for number in range(3):
                await asyncio.to_thread(publish, server, f"{number} {SAID}")
                message = json.loads(await client.recv())
                assert message["message"] == f"{number} {SAID}"

    asyncio.run(asyncio.wait_for(talk(), 10))


async def hear(client: ClientConnection, kind: str) -> None:
    assert json.loads(await client.recv())["type"] == kind


WS = """
import WebSocket from "ws"
const [url, subscribe] = process.argv.slice(1)
setTimeout(() => process.exit(1), 10_000).unref()
const client = new WebSocket(url, "actioncable-v1-json", { perMessageDeflate: { threshold: 0 } })
client.on("open", () => client.send(subscribe))
client.on("message", frame => {
  const { type, message } = JSON.parse(frame)
  if (type === "confirm_subscription") console.log(client.extensions)
  if (message) {
    console.log(message)
    client.close()
  }
})
"""


def test_ws_on_node_understands_and_is_understood(server: CableServer) -> None:
    """The WebSocket of the JavaScript clients on Node; it offers compression unasked."""
    require_packages()
    with subprocess.Popen(
        [require_node(), "--input-type=module", "-e", WS, server.cable_url, SUBSCRIBE.decode()],
        cwd=CLIENTS,
        stdout=subprocess.PIPE,
        text=True,
    ) as node:
        try:
            assert node.stdout is not None
            assert node.stdout.readline().startswith("permessage-deflate")
            publish(server, SAID)
            assert node.stdout.readline() == SAID + "\n"
            assert node.wait(10) == 0
        finally:
            node.kill()
