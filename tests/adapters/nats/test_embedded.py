"""Embedded NATS: the real server as a child, alone and in a cluster, killed, refused, kept."""

import asyncio
import logging
import os
import signal
import stat
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import metadata
from pathlib import Path

import pytest
from msgspec.structs import replace
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import StreamConfig
from nats.js.errors import NoStreamResponseError

from catenary.adapters.nats import embedded as room
from catenary.adapters.nats.connection import connect
from catenary.adapters.nats.embedded import EmbeddedNats, nats_server
from catenary.config.addresses import server_address
from catenary.config.options import EnatsOptions
from catenary.errors import BackendError, ConfigError
from catenary.metrics.counters import Counters
from tests.adapters.nats.listening import peer, until
from tests.adapters.nats.test_child import is_running
from tests.parts.heart import in_loop
from tests.parts.ports import free_port


def address() -> str:
    return f"nats://127.0.0.1:{free_port()}"


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Temporary files are created here."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@asynccontextmanager
async def embedded(
    options: EnatsOptions, counters: Counters | None = None, *, needs_jetstream: bool = False
) -> AsyncIterator[EmbeddedNats]:
    """A server for the length of a with block, ready when it begins."""
    server = EmbeddedNats(options, counters or Counters(), needs_jetstream=needs_jetstream)
    await server.start()
    try:
        await server.ready()
        yield server
    finally:
        await server.close(5)


def only_in(directory: Path) -> Path:
    (found,) = directory.iterdir()
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def refusal(options: EnatsOptions) -> str:
    """Why it does not start."""
    with pytest.raises(ConfigError) as caught:
        async with embedded(options):
            pass
    return str(caught.value)


async def keep(client: Client, text: bytes, replicas: int = 1) -> None:
    jetstream = client.jetstream(timeout=10)
    await jetstream.add_stream(StreamConfig(name="kept", subjects=["kept"], num_replicas=replicas))
    async with asyncio.timeout(20):
        while True:
            try:
                await jetstream.publish("kept", text)
            except NoStreamResponseError:  # the leader is elected, but not every server knows
                await asyncio.sleep(0.05)
            else:
                return


async def kept(client: Client) -> bytes | None:
    return (await client.jetstream(timeout=5).get_last_msg("kept", "kept")).data


async def listen(client: Client, subject: str) -> list[bytes]:
    """Receives messages from now on."""
    heard: list[bytes] = []

    async def note(message: Msg) -> None:
        heard.append(message.data)

    await client.subscribe(subject, cb=note)
    await client.flush()
    return heard


@in_loop
async def test_it_comes_and_goes(temporary: Path) -> None:
    options = EnatsOptions(address=address())
    async with embedded(options) as server:
        assert server.client_url == options.address
        assert server.name.startswith(options.address.replace(":", "-").replace("/", ""))
        pid = server.pid
        assert pid is not None
        async with peer(server.client_url) as client:
            heard = await listen(client, "news")
            await client.publish("news", b"1")
            await until(lambda: heard == [b"1"])
        directory = only_in(temporary)
        assert mode(directory) == 0o700
        assert mode(directory / "nats.conf") == 0o600
    assert not is_running(pid)
    assert not directory.exists()


@in_loop
async def test_one_that_listens_everywhere_is_reached_here() -> None:
    port = free_port()
    async with embedded(EnatsOptions(address=f"nats://0.0.0.0:{port}")) as server:
        assert server.client_url == f"nats://127.0.0.1:{port}"
        async with peer(server.client_url):
            pass


@in_loop
async def test_without_an_address_it_has_a_port_and_a_secret_of_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    options = EnatsOptions(address="", debug=True, trace=True)
    async with embedded(options) as server, embedded(options) as other:
        assert server.client_url != other.client_url
        user, _, place = server.client_url.removeprefix("nats://").partition("@")
        assert len(user) >= 32
        async with peer(server.client_url) as client:
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await until(lambda: client.stats["reconnects"] == 1)
        with pytest.raises(BackendError, match="it refuses the user"):
            await connect(server_address(f"nats://{place}"))
    assert "Listening for client connections" in caplog.text
    assert user not in caplog.text


@in_loop
async def test_it_comes_back_when_it_dies(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    counters = Counters()
    async with (
        embedded(EnatsOptions(address=address(), jetstream=True), counters) as server,
        peer(server.client_url) as client,
    ):
        await keep(client, b"kept")
        for death in range(2):
            pid = server.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await until(lambda n=death: client.stats["reconnects"] == n + 1)  # type: ignore[misc]
            assert counters.embedded_nats_restarts_total == death + 1
            assert server.pid != pid
        assert await kept(client) == b"kept"
    assert caplog.text.count("The embedded NATS server ended: signal 9; starting it again") == 2
    assert caplog.text.count("The embedded NATS server is back") == 2


@in_loop
async def test_it_comes_back_after_its_configuration_was_cleaned_up(temporary: Path) -> None:
    async with embedded(EnatsOptions(address=address())) as server:
        directory = only_in(temporary)
        (directory / "nats.conf").unlink()
        directory.rmdir()
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: server.pid is None)
        await until(lambda: server.pid is not None)
        async with peer(server.client_url):
            assert (directory / "nats.conf").exists()


@in_loop
async def test_a_port_that_is_taken() -> None:
    options = EnatsOptions(address=address())
    async with embedded(options):
        said = await refusal(options)
    assert said.startswith("embed_nats: the NATS server did not start: Error listening on port: ")
    assert said.endswith('address already in use" (enats_addr)')


@in_loop
async def test_the_error_of_a_configuration_is_that_of_the_server(tmp_path: Path) -> None:
    too_much = EnatsOptions(address=address(), max_payload_bytes=2**40)
    assert "max_payload" in await refusal(too_much)
    (tmp_path / "file").touch()
    nowhere = EnatsOptions(address=address(), jetstream=True, store_dir=str(tmp_path / "file"))
    assert "Can't start JetStream" in await refusal(nowhere)


@in_loop
async def test_jetstream_that_is_not_ready_in_time() -> None:
    options = EnatsOptions(
        address=address(),
        cluster_address=address(),
        routes=(address(), address()),
        jetstream=True,
        jetstream_ready_timeout_s=1,
    )
    server = EmbeddedNats(options, Counters())
    await server.start()
    with pytest.raises(ConfigError, match="embed_nats: JetStream is not ready after 1 s: ") as said:
        await server.ready()
    assert "connection refused" in str(said.value)
    assert server.pid is None


@in_loop
async def test_a_server_that_can_not_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "nats_server", lambda: "/no-such-program")
    said = await refusal(EnatsOptions(address=address()))
    assert "the NATS server did not start: " in said
    assert "/no-such-program" in said


def test_the_program_comes_with_the_extra_or_from_the_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert nats_server() == str(Path(sys.executable).with_name("nats-server"))
    monkeypatch.setattr(metadata, "files", lambda name: None)
    program = tmp_path / "nats-server"
    program.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nats_server() == str(program)
    program.unlink()
    with pytest.raises(ConfigError, match=r"-m pip install .*\[nats\]'"):
        nats_server()


@pytest.mark.parametrize(
    "options",
    [
        EnatsOptions(address="nats://h"),
        EnatsOptions(cluster_address="h"),
        EnatsOptions(gateway_address="nats://h:1", gateways=("nats://i:1",)),
    ],
)
def test_an_address_that_is_none(options: EnatsOptions) -> None:
    with pytest.raises(ConfigError, match="embed_nats: expected "):
        EmbeddedNats(options, Counters())


@pytest.mark.parametrize("given", [{"store_dir": True}, {"server_name": True}])
@in_loop
async def test_stored_messages_outlive_a_restart(given: dict[str, bool], tmp_path: Path) -> None:
    options = EnatsOptions(address=address(), jetstream=True)
    if "store_dir" in given:
        options = replace(options, store_dir=str(tmp_path / "store"))
    else:
        options = replace(options, server_name="alone")
    async with embedded(options) as server, peer(server.client_url) as client:
        await keep(client, b"kept")
    async with embedded(options) as server, peer(server.client_url) as client:
        assert await kept(client) == b"kept"
    assert ((tmp_path / "nats-data" / "alone").is_dir()) is ("server_name" in given)


@in_loop
async def test_jetstream_runs_only_where_it_is_needed() -> None:
    async with (
        embedded(EnatsOptions(address=address()), needs_jetstream=True) as server,
        peer(server.client_url) as client,
    ):
        await keep(client, b"kept")
    async with (
        embedded(EnatsOptions(address=address())) as server,
        peer(server.client_url) as client,
    ):
        assert "jetstream" not in client._server_info


@in_loop
async def test_a_longer_message() -> None:
    options = EnatsOptions(address=address(), max_payload_bytes=2_000_000)
    async with embedded(options) as server, peer(server.client_url) as client:
        heard = await listen(client, "news")
        await client.publish("news", b"x" * 2_000_000)
        await until(lambda: len(heard) == 1)


@asynccontextmanager
async def cluster(*, needs_jetstream: bool) -> AsyncIterator[list[EmbeddedNats]]:
    """Three servers that know each other's addresses."""
    places = [address() for _ in range(3)]
    async with AsyncExitStack() as stack:
        servers = []
        for place in places:
            options = EnatsOptions(address=address(), cluster_address=place, routes=tuple(places))
            server = EmbeddedNats(options, Counters(), needs_jetstream=needs_jetstream)
            await server.start()
            stack.push_async_callback(server.close, 5)
            servers.append(server)
        await asyncio.gather(*(server.ready() for server in servers))
        yield servers


@in_loop
async def test_three_that_route_to_each_other() -> None:
    async with (
        cluster(needs_jetstream=False) as (one, two, three),
        peer(one.client_url) as speaker,
        peer(two.client_url) as second,
        peer(three.client_url) as third,
    ):
        heard, also = await listen(second, "news"), await listen(third, "news")
        for number in range(200):
            await speaker.publish("news", str(number).encode())
            await asyncio.sleep(0.05)
            if set(heard) & set(also):
                return
        raise AssertionError("the servers found each other too late")


@in_loop
async def test_jetstream_of_three_outlives_one() -> None:
    async with cluster(needs_jetstream=True) as (one, two, three):
        async with peer(one.client_url) as client:
            await keep(client, b"kept", replicas=3)
        await one.close(5)
        async with peer(two.client_url, three.client_url) as client:
            for _ in range(150):
                if await kept_or_nothing(client) == b"kept":
                    return
                await asyncio.sleep(0.1)
            raise AssertionError("what was kept is lost")


async def kept_or_nothing(client: Client) -> bytes | None:
    try:
        return await kept(client)
    except NatsError:
        return None


@in_loop
async def test_clusters_that_are_joined_by_gateways() -> None:
    gateway = address()
    near = EnatsOptions(address=address(), cluster_name="near", gateway_address=gateway)
    far = EnatsOptions(
        address=address(),
        cluster_name="far",
        gateway_address=address(),
        gateways=(f"near:{gateway}",),
    )
    async with (
        embedded(near) as one,
        embedded(far) as other,
        peer(one.client_url) as speaker,
        peer(other.client_url) as listener,
    ):
        heard = await listen(listener, "news")
        for _ in range(200):
            await speaker.publish("news", b"hello")
            await asyncio.sleep(0.05)
            if heard:
                return
        raise AssertionError("the clusters found each other too late")


@pytest.mark.parametrize(
    ("line", "level", "text"),
    [
        ("[7] [INF] Server starts", logging.DEBUG, "Server starts"),
        ("[7] [DBG] detail", logging.DEBUG, "detail"),
        ("[7] [WRN] careful", logging.WARNING, "careful"),
        ("[7] [ERR] no route to nats://u:hush@h:1", logging.ERROR, "no route to nats://***@h:1"),
        ("[7] 2026/01/02 03:04:05.67 [FTL] over", logging.ERROR, "over"),
        ("nats-server: nats.conf:1:3: wrong", logging.ERROR, "nats.conf:1:3: wrong"),
        ("panic: oh", logging.ERROR, "panic: oh"),
        ("", None, ""),
        ("[7] [INF]", None, ""),
    ],
)
def test_lines_of_its_log_are_logged(
    line: str, level: int | None, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "catenary.nats")
    EmbeddedNats(EnatsOptions(), Counters())._read_line(line)
    expected = [] if level is None else [("catenary.nats", level, f"nats-server: {text}")]
    assert caplog.record_tuples == expected
