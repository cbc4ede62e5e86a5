"""Publishing over HTTP, Redis, Redis Streams and NATS, to Catenary and, if ``ANYCABLE_GO`` names it,
anycable-go; publishers by URL and by environment variables.
"""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis as redis_library

from catenary import Cable
from catenary.channels.publishers import publisher
from catenary.channels.publishers.http import HttpPublisher
from catenary.channels.publishers.nats import NatsPublisher
from catenary.channels.publishers.ordered import OrderedPublisher
from catenary.channels.publishers.redis import RedisPublisher, RedisStreamPublisher
from catenary.errors import BackendError, BackendRefused, ConfigError, TooLarge, install_command
from tests.parts import nats as nats_part
from tests.parts import redis as redis_part
from tests.parts.cable_client import CableClient, identifier
from tests.parts.nats import NatsServer, nats_server
from tests.parts.ports import free_port
from tests.parts.redis import RedisServer, redis_server
from tests.parts.server import OURS, CableServer, cable_server

SERVERS: dict[str, tuple[str, ...]] = {"catenary": OURS}
if "ANYCABLE_GO" in os.environ:
    SERVERS["anycable-go"] = (os.environ["ANYCABLE_GO"],)

SECRET = "s3cret"
CHAT = identifier("$pubsub", stream_name="chat")


@dataclass
class World:
    server: CableServer
    redis: RedisServer
    nats: NatsServer

    def publisher(self, way: str) -> OrderedPublisher:
        match way:
            case "http":
                return publisher(self.server.broadcast_url, secret=SECRET)
            case "redis":
                return publisher(self.redis.url)
            case "redis+stream":
                return publisher(f"redis+stream://127.0.0.1:{self.redis.port}")
            case _:
                return publisher(self.nats.url)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as redis:
        yield redis


@pytest.fixture(scope="module")
def nats() -> Iterator[NatsServer]:
    with nats_server() as nats:
        yield nats


@pytest.fixture(scope="module", params=SERVERS)
def world(request: pytest.FixtureRequest, redis: RedisServer, nats: NatsServer) -> Iterator[World]:
    flags = (
        "--norpc",
        "--noauth",
        "--public_streams",
        f"--secret={SECRET}",
        "--broadcast_adapter=http,redis,redisx,nats",
        f"--redis_url={redis.url}",
        f"--nats_servers={nats.url}",
    )
    with cable_server(*flags, command=SERVERS[request.param]) as server:
        # These two return when the server has subscribed.
        listening = redis_part.RedisPublisher(redis)
        listening.broadcast("unused", 0)
        listening.close()
        with nats_part.nats_publisher(nats) as also:
            also.broadcast("unused", 0)
        yield World(server, redis, nats)


@pytest.mark.parametrize("way", ["http", "redis", "redis+stream", "nats"])
def test_publications_arrive_in_order_with_and_without_an_event_loop(
    world: World, way: str
) -> None:
    with CableClient(world.server.cable_url) as client:
        client.receive_welcome()
        client.subscribe(CHAT)
        sending = world.publisher(way)
        cable = Cable(channels=[], publisher=sending)
        cable.broadcast("chat", "sync é")
        assert client.receive()["message"] == "sync é"

        async def scenario() -> None:
            sent = [cable.broadcast("chat", n) for n in range(20)]
            for each in sent:
                await each

        asyncio.run(scenario())
        with cable.batch():
            cable.broadcast("chat", 20)
            cable.broadcast("chat", 21)
        assert [client.receive()["message"] for _ in range(22)] == list(range(22))
        sending.close()
        with pytest.raises(BackendError, match="closed"):
            cable.broadcast("chat", "late")


@pytest.mark.parametrize("kind", ["redis", "redis+stream", "nats"])
def test_a_publisher_reconnects_after_an_outage(kind: str) -> None:
    part: RedisServer | NatsServer = NatsServer() if kind == "nats" else RedisServer()
    part.start()
    sending = publisher(part.url.replace("redis:", f"{kind}:"))
    try:
        sending.publish(b"1")
        part.stop()
        part.start()
        # A connection that was lost meanwhile is replaced.
        sending.publish(b"2")
        part.stop()
        for _ in range(2):
            with pytest.raises(BackendError, match="refused"):
                sending.publish(b"3")
        part.start()
        sending.publish(b"4")
    finally:
        sending.close()
        part.stop()


@pytest.mark.parametrize("kind", ["redis", "nats"])
def test_a_server_that_does_not_answer_is_an_error(kind: str) -> None:
    part: RedisServer | NatsServer = NatsServer() if kind == "nats" else RedisServer()
    part.start()
    sending: OrderedPublisher = (
        NatsPublisher(part.url, timeout_s=0.2)
        if kind == "nats"
        else RedisPublisher(part.url, timeout_s=0.2)
    )
    try:
        sending.publish(b"1")
        part.freeze()
        with pytest.raises(BackendError, match="refused"):
            sending.publish(b"2")
        part.thaw()
        sending.publish(b"3")
    finally:
        sending.close()
        part.stop()


def test_an_unread_stream_is_trimmed(redis: RedisServer) -> None:
    sending = RedisStreamPublisher(redis.url, stream="unread", max_length=100)
    for _ in range(300):
        sending.publish(b"{}")
    kept = sending._redis.xlen("unread")
    sending.close()
    # Redis drops whole nodes of 100 entries.
    assert 100 <= int(str(kept)) <= 200


@pytest.mark.parametrize("kind", ["redis", "redis+stream"])
def test_lasting_and_temporary_refusals_of_redis(kind: str) -> None:
    with redis_server(flags=("--proto-max-bulk-len", "1mb")) as server:
        sending = publisher(server.url.replace("redis:", f"{kind}:"), channel="mine")
        admin = redis_library.Redis(port=server.port)
        with pytest.raises(TooLarge):
            sending.publish(b"x" * 3_000_000)
        sending.publish(b"1")
        admin.config_set("maxmemory", 1)
        if kind == "redis+stream":
            with pytest.raises(BackendError) as caught:
                sending.publish(b"2")
            assert type(caught.value) is BackendError
        admin.config_set("maxmemory", 0)
        admin.delete("mine")
        admin.set("mine", "not ours")
        admin.acl_setuser("default", enabled=True, channels=["others"], reset_channels=True)
        with pytest.raises(BackendRefused):
            sending.publish(b"3")
        sending.close()
        admin.close()


def test_a_refusal_of_nats_has_its_reason() -> None:
    with nats_server("--user", "ann", "--pass", "p") as guarded:
        for who in ("", "ann:wrong@"):
            refused = NatsPublisher(f"nats://{who}127.0.0.1:{guarded.port}")
            with pytest.raises(BackendError, match="Authorization Violation"):
                refused.publish(b"1")
            refused.close()
        away = f"nats://127.0.0.1:{free_port()}"
        sending = publisher(f"{away},nats://ann:p@127.0.0.1:{guarded.port}")
        sending.publish(b"1")
        with pytest.raises(TooLarge, match="max_payload"):
            sending.publish(b"x" * (1024 * 1024 + 1))
        sending.publish(b"2")
        sending.close()


def test_a_connection_that_nats_closed_as_stale_is_replaced(tmp_path: Path) -> None:
    config = tmp_path / "nats.conf"
    config.write_text('ping_interval: "50ms"\nping_max: 1\n')
    with nats_server("-c", str(config)) as impatient:
        sending = NatsPublisher(impatient.url)
        sending.publish(b"1")
        opened = sending._socket
        assert opened is not None
        deadline = time.monotonic() + 10
        while b"Stale Connection" not in opened.recv(4096, socket.MSG_PEEK):
            assert time.monotonic() < deadline, "expected the server to hang up"
            time.sleep(0.01)
        sending.publish(b"2")
        assert sending._socket is not opened
        sending.close()


def test_missing_permissions_of_nats_are_a_refusal(tmp_path: Path) -> None:
    permissions = 'permissions: {publish: {deny: "__anycable__"}}'
    config = tmp_path / "nats.conf"
    config.write_text(f"authorization {{ users: [{{user: a, password: p, {permissions}}}] }}")
    with nats_server("-c", str(config)) as guarded:
        sending = publisher(f"nats://a:p@127.0.0.1:{guarded.port}")
        for _ in range(2):
            with pytest.raises(BackendRefused, match="Permissions Violation"):
                sending.publish(b"1")
        sending.close()


def test_a_forked_process_has_its_own_connection(redis: RedisServer) -> None:
    """gunicorn and Celery fork processes after a publisher was used."""
    code = f"""
import os
from catenary.channels.publishers import publisher
sending = publisher("redis+stream://127.0.0.1:{redis.port}", channel="forked")
sending.publish(b"parent")
child = os.fork()
sending.publish(b"either")
sending.close()
if child:
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)
    reading = RedisStreamPublisher(redis.url)
    assert reading._redis.xlen("forked") == 3
    reading.close()


# URLs and variables


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://localhost/_broadcast", HttpPublisher),
        ("https://localhost/_broadcast", HttpPublisher),
        ("redis://localhost", RedisPublisher),
        ("rediss://:p@localhost:6380/1", RedisPublisher),
        ("redis+stream://localhost", RedisStreamPublisher),
        ("rediss+stream://localhost", RedisStreamPublisher),
        ("redisx://localhost", RedisStreamPublisher),
        ("nats://a,nats://b:1", NatsPublisher),
        ("tls://a", NatsPublisher),
    ],
)
def test_a_url_chooses_the_publisher(url: str, kind: type[OrderedPublisher]) -> None:
    found = publisher(url)
    assert type(found) is kind
    found.close()


@pytest.mark.parametrize("scheme", ["", "amqp://", "http://", "redis://", "redisx://", "nats://"])
def test_an_invalid_url_is_refused_and_not_shown(scheme: str) -> None:
    with pytest.raises(ConfigError, match="expected") as caught:
        publisher(f"{scheme}host:p4ss")
    assert "p4ss" not in str(caught.value)


def test_a_missing_library_is_named() -> None:
    code = """
import sys
sys.modules["redis"] = None
from catenary.channels.publishers import publisher
publisher("nats://localhost").close()
publisher("http://localhost").close()
publisher("redis://localhost")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    missing = f"publishing over Redis needs an optional library: {install_command('redis')}"
    assert missing in done.stderr


@pytest.mark.parametrize("way", ["http", "redis", "redisx", "nats"])
def test_a_job_needs_the_variables_of_the_server(
    world: World, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "ANYCABLE_BROADCAST_ADAPTER": way,
        "ANYCABLE_HTTP_BROADCAST_URL": world.server.broadcast_url,
        "ANYCABLE_SECRET": SECRET,
        "ANYCABLE_REDIS_URL": world.redis.url,
        "ANYCABLE_NATS_SERVERS": world.nats.url,
    }.items():
        monkeypatch.setenv(name, value)
    with CableClient(world.server.cable_url) as client:
        client.receive_welcome()
        client.subscribe(CHAT)
        cable = Cable(channels=[])
        cable.broadcast("chat", way)
        assert client.receive()["message"] == way
        cable.application.release()
