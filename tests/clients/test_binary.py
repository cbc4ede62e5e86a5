"""``@anycable/core`` with MessagePack and Protobuf, on the extended protocol, beside clients that speak JSON."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.clients.test_recovery import CUTS, MESSAGES, Publisher, listen
from tests.parts.cluster import redis_cluster
from tests.parts.node import NodeClient, speaking
from tests.parts.ports import free_port
from tests.parts.server import OURS, CableServer, cable_server
from tests.parts.tcp_relay import TcpRelay, tcp_relay

FLAGS = (
    *("--public", "--norpc", "--broadcast_adapter=http", "--broker=memory", "--streams_whisper"),
    *("--history_limit=2000", "--ping_interval=1", "--pong_timeout=3", "--presence_ttl=1"),
)
EXTENDED = ("actioncable-v1-ext-msgpack", "actioncable-v1-ext-protobuf")
JSON = ""

APPLICATION = """
from catenary import Cable, Channel, action


class Chat(Channel):
    async def subscribed(self) -> None:
        self.stream_for("chat")

    @action
    async def speak(self, text: str, number: float) -> None:
        self.transmit({"heard": text})
        Chat.broadcast_to("chat", {"text": text, "number": number})


cable = Cable(channels=[Chat])
"""


@pytest.fixture(scope="module", params=[(), ("--enable_ws_compression",)], ids=["plain", "deflate"])
def server(request: pytest.FixtureRequest) -> Iterator[CableServer]:
    with cable_server(*FLAGS, *request.param) as server:
        yield server


@pytest.fixture
def relay(server: CableServer) -> Iterator[TcpRelay]:
    with tcp_relay(server.port) as relay:
        yield relay


@pytest.fixture
def publisher(server: CableServer) -> Iterator[Publisher]:
    publisher = Publisher(server)
    yield publisher
    publisher.close()


@contextmanager
def client_of(
    port: int, protocol: str, driver: str = "anycable_extended.mjs"
) -> Iterator[NodeClient]:
    options: dict[str, object] = {"url": f"ws://127.0.0.1:{port}/cable", "recovers": True}
    client = NodeClient(driver, {"pingIntervalS": 1, **options, **speaking(protocol)})
    try:
        yield client
    finally:
        client.stop()


@pytest.mark.parametrize("protocol", EXTENDED)
def test_a_client_that_is_cut_off_resumes_and_misses_nothing(
    relay: TcpRelay, publisher: Publisher, protocol: str
) -> None:
    # A stream of its own: a history keeps what the last test published in the same second.
    stream = f"news/{protocol}"
    with client_of(relay.port, protocol) as client:
        client.do("subscribe", name=stream)
        assert client.wait_for("open")["protocol"] == protocol
        client.wait_for("subscribed", name=stream)
        for number in range(1, MESSAGES + 1):
            publisher.publish(stream, {"number": number, "text": "é" * (number % 50)})
            if number == 1:
                # Without a position, the client asks for what came since its last ping.
                client.wait_for("received", message={"number": 1, "text": "é"})
            if number in CUTS:
                if number != CUTS[0]:
                    client.wait_for_frame(type="welcome")
                assert relay.cut() == 1
        last = {"number": MESSAGES, "text": "é" * (MESSAGES % 50)}
        client.wait_for("received", message=last, timeout_s=20)
        heard = [told["message"]["number"] for told in client.told("received")]
        welcomes = [each for each in client.frames() if each.get("type") == "welcome"]
    assert heard == list(range(1, MESSAGES + 1))
    assert [each.get("restored", False) for each in welcomes] == [False] + [True] * len(CUTS)


@pytest.mark.parametrize("protocol", EXTENDED)
def test_a_history_that_is_gone_is_told(
    server: CableServer, relay: TcpRelay, publisher: Publisher, protocol: str
) -> None:
    with client_of(relay.port, protocol) as client:
        listen(client, "gone")
        publisher.publish("gone", "first")
        client.wait_for("received", message="first")
        # All are published before it can come back.
        relay.aim(free_port())
        relay.cut()
        publisher.publish_all("gone", [1] * 2001)
        relay.aim(server.port)
        client.wait_for("info", name="gone", type="history_not_found", timeout_s=20)


@pytest.mark.parametrize("protocol", EXTENDED)
def test_clients_of_all_encodings_are_in_one_room(server: CableServer, protocol: str) -> None:
    room = f"room/{protocol}"
    with client_of(server.port, protocol) as ann, client_of(server.port, JSON) as ben:
        for client in (ann, ben):
            listen(client, room)
        ann.do("join", name=room, id="ann", info={"name": "Änn", "age": 40.5})
        ben.wait_for("presence", type="join", id="ann")
        ben.do("join", name=room, id="ben", info={"name": "Ben"})
        ann.wait_for("presence", type="join", id="ben")
        ann.do("who", name=room)
        assert ann.wait_for("here", name=room)["ids"] == ["ann", "ben"]
        for speaker, hearer in ((ann, ben), (ben, ann)):
            for payload in ({"typing": [1, None, "é"]}, "typing"):
                speaker.do("whisper", name=room, payload=payload)
                hearer.wait_for("received", name=room, message=payload)
        ann.do("leave", name=room)
        ben.wait_for("presence", type="leave", id="ann")


@pytest.mark.parametrize("protocol", EXTENDED)
def test_an_application_in_the_server_speaks_to_all_encodings(
    tmp_path: Path, protocol: str
) -> None:
    (tmp_path / "chat.py").write_text(APPLICATION)
    flags = ("--broker=memory", "--ping_interval=1")
    with (
        cable_server(*flags, command=(*OURS, "chat:cable"), directory=tmp_path) as server,
        client_of(server.port, protocol, "anycable.mjs") as ann,
        client_of(server.port, JSON, "anycable.mjs") as ben,
    ):
        for client in (ann, ben):
            client.do("subscribe", name="chat", channel="Chat")
            client.wait_for("subscribed", name="chat")
        ann.do("perform", name="chat", action="speak", payload={"text": "hé", "number": 1.5})
        for client in (ann, ben):
            client.wait_for("received", message={"text": "hé", "number": 1.5})
        ann.wait_for("received", message={"heard": "hé"})


@pytest.mark.parametrize("protocol", EXTENDED)
def test_a_session_is_resumed_at_another_node(protocol: str) -> None:
    with redis_cluster(2) as cluster, tcp_relay(cluster.nodes[0].port) as relay:
        publishers = [Publisher(node) for node in cluster.nodes]
        with client_of(relay.port, protocol) as client:
            listen(client, "news")
            for number in range(1, 101):
                publishers[number % 2].publish("news", number)
                if number in (30, 70):
                    relay.aim(cluster.nodes[1 if number == 30 else 0].port)
                    assert relay.cut() == 1
                    client.wait_for_frame(type="welcome", restored=True)
            client.wait_for("received", message=100, timeout_s=20)
            heard = [told["message"] for told in client.told("received")]
        for publisher in publishers:
            publisher.close()
    assert heard == list(range(1, 101))


@pytest.mark.parametrize("protocol", EXTENDED)
def test_a_message_that_is_too_large_ends_the_connection_with_1009(
    server: CableServer, protocol: str
) -> None:
    with client_of(server.port, protocol) as client:
        listen(client, "large")
        client.do("whisper", name="large", payload="x" * 70_000)
        assert client.wait_for("close")["code"] == 1009
