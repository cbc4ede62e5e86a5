"""Ways to a Redis: a Unix socket, TLS, sentinels; real servers. And what is found before the start."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from catenary.adapters.redis.client import connect
from catenary.adapters.redis.connection import close_client, open_connection, pack
from catenary.config.addresses import RedisAddress
from catenary.errors import BackendError, ConfigError
from tests.parts.certificates import Authority
from tests.parts.heart import in_loop
from tests.parts.ports import free_port, wait_until_listening
from tests.parts.redis import redis_server
from tests.parts.server import OURS, CableServer, cable_server


class Process:
    """A redis-server with arguments of its own, for the length of a with block."""

    def __init__(self, port: int, *arguments: str) -> None:
        self.port = port
        self._process = subprocess.Popen(
            ["redis-server", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until_listening(port)

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def process(port: int, *arguments: str) -> Iterator[Process]:
    running = Process(port, *arguments)
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def tls(tmp_path: Path) -> tuple[str, ...]:
    """What a server is told that speaks TLS, with a certificate for localhost."""
    authority = Authority()
    issued = authority.issue("localhost", "127.0.0.1")
    for name, pem in (("ca", authority.pem), ("cert", issued.certificate), ("key", issued.key)):
        (tmp_path / name).write_bytes(pem)
    return (
        *("--tls-auth-clients", "no", "--save", ""),
        *("--tls-cert-file", str(tmp_path / "cert"), "--tls-key-file", str(tmp_path / "key")),
        *("--tls-ca-cert-file", str(tmp_path / "ca")),
    )


@contextmanager
def sentinel(tmp_path: Path, master_port: int, *lines: str, port: int = 0) -> Iterator[Process]:
    """A sentinel that knows a master named Main."""
    port = port or free_port()
    config = tmp_path / f"sentinel-{port}.conf"
    plain = () if any(line.startswith("tls-port") for line in lines) else (f"port {port}",)
    monitor = f"sentinel monitor Main 127.0.0.1 {master_port} 1"
    config.write_text("\n".join((*plain, "bind 127.0.0.1 ::1", *lines, monitor, "")))
    with process(port, str(config), "--sentinel") as running:
        yield running


async def ping(address: RedisAddress) -> bytes:
    """What the server answers. Raises :class:`BackendError`."""
    client = connect(address)
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    try:
        connection = await open_connection(client, answered.set_result)
        connection.write(pack("ECHO", "hello"))
        try:
            return await answered
        finally:
            await connection.close()
    finally:
        await close_client(client)


async def eventually(address: RedisAddress) -> bytes:
    """A sentinel needs a moment until it has found its master."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await ping(address)
            except BackendError:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("form", ["unix://{}", "unix:{}?db=1", "{}", "unix://{}?client_name=c"])
@in_loop
async def test_a_unix_socket(form: str, tmp_path: Path) -> None:
    path = tmp_path / "r.sock"
    port = free_port()
    with process(port, "--port", str(port), "--unixsocket", str(path), "--save", ""):
        assert await eventually(RedisAddress(form.format(path))) == b"hello"


@in_loop
async def test_parameters_that_redis_py_does_not_know() -> None:
    with redis_server() as server:
        for query in ("name=cable", "dial_timeout=3s&x=y", "socket_timeout=x", "host=elsewhere"):
            assert await ping(RedisAddress(f"{server.url}/0?{query}")) == b"hello"


@pytest.mark.parametrize("sentinels", ["127.0.0.1:{}", "[::1]:{}", "redis://127.0.0.1:{}"])
@in_loop
async def test_sentinels_in_all_forms(sentinels: str, tmp_path: Path) -> None:
    with redis_server() as master, sentinel(tmp_path, master.port) as one:
        address = RedisAddress("redis://Main", sentinels=(sentinels.format(one.port),))
        assert await eventually(address) == b"hello"


@pytest.mark.parametrize("who", [":p@ss@", ":p%40ss@", "p%40ss@"])
@in_loop
async def test_a_password_of_sentinels(who: str, tmp_path: Path) -> None:
    """Known of the first, for all."""
    with (
        redis_server() as master,
        sentinel(tmp_path, master.port, 'requirepass "p@ss"') as one,
    ):
        away = f"127.0.0.1:{free_port()}"
        address = RedisAddress("redis://Main", sentinels=(f"{who}{away}", f"127.0.0.1:{one.port}"))
        assert await eventually(address) == b"hello"


@pytest.mark.parametrize(
    ("url", "form", "is_encrypted"),
    [
        ("rediss://Main", "127.0.0.1:{}", False),
        ("redis://Main", "rediss://127.0.0.1:{}", False),
        ("redis://Main", "rediss://127.0.0.1:{}", True),
        ("rediss://Main", "rediss://127.0.0.1:{}", False),
        ("rediss://Main", "rediss://127.0.0.1:{}", True),
    ],
)
@in_loop
async def test_tls_behind_sentinels(
    url: str, form: str, is_encrypted: bool, tls: tuple[str, ...], tmp_path: Path
) -> None:
    """A sentinel may speak TLS itself, where it is named so."""
    port, own = free_port(), free_port()
    lines = [
        "tls-replication yes",
        *(f"{name[2:]} {value}" for name, value in zip(tls[::2], tls[1::2], strict=True)),
    ]
    lines.remove("save ")
    if is_encrypted:
        lines += ["port 0", f"tls-port {own}"]
    with (
        process(port, "--port", "0", "--tls-port", str(port), *tls),
        sentinel(tmp_path, port, *lines, port=own),
    ):
        assert await eventually(RedisAddress(url, sentinels=(form.format(own),))) == b"hello"
        verified = RedisAddress(
            url, (form.format(own),), tls_verify=True, tls_ca_path=str(tmp_path / "ca")
        )
        if is_encrypted or not form.startswith("rediss"):
            assert await eventually(verified) == b"hello"
        else:
            # Nothing goes out in plain text then.
            with pytest.raises(BackendError, match="No master found"):
                await ping(verified)


@in_loop
async def test_users_of_sentinels_and_of_the_master_and_a_database(tmp_path: Path) -> None:
    """Each has its own."""
    users = ("--user default off", "--user cable on >m4ster ~* &* +@all")
    flags = [part for each in users for part in each.split()]
    lines = ("user default off", "user watch on >s3ntinel +@all")
    with (
        redis_server(flags=flags) as master,
        sentinel(tmp_path, master.port, *lines) as one,
    ):
        url, place = "redis://cable:m4ster@Main/3", f"watch:s3ntinel@127.0.0.1:{one.port}"
        address = RedisAddress(url, sentinels=(place,))
        assert await eventually(address) == b"hello"
        client = connect(address)
        await client.set("key", "in three")
        await close_client(client)
        there = connect(RedisAddress(f"redis://cable:m4ster@127.0.0.1:{master.port}/3"))
        assert await there.get("key") == b"in three"
        await close_client(there)
        for wrong in (
            RedisAddress(url.replace("m4ster", "x"), sentinels=(place,)),
            RedisAddress(url, sentinels=(place.replace("s3ntinel", "x"),)),
        ):
            with pytest.raises(BackendError) as caught:
                await ping(wrong)
            assert "m4ster" not in str(caught.value)
            assert "s3ntinel" not in str(caught.value)


@in_loop
async def test_a_client_certificate(tls: tuple[str, ...], tmp_path: Path) -> None:
    """The server wants one, and gets it, alone, behind sentinels that want one, too, and as a node of a cluster."""
    authority = Authority()
    issued = authority.issue("localhost", "127.0.0.1")
    names = {name: tmp_path / name for name in ("ca", "cert", "key")}
    for name, pem in (("ca", authority.pem), ("cert", issued.certificate), ("key", issued.key)):
        names[name].write_bytes(pem)
    flags = [each if each != "no" else "yes" for each in tls]
    port, own, bus = free_port(), free_port(), free_port()
    lines = [
        *(f"{name[2:]} {value}" for name, value in zip(flags[::2], flags[1::2], strict=True)),
        *("tls-replication yes", "port 0", f"tls-port {own}"),
    ]
    lines.remove("save ")
    cluster = (
        *("--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-port", str(bus)),
        *("--cluster-config-file", str(tmp_path / "nodes.conf"), "--dir", str(tmp_path)),
    )
    node = free_port()
    with (
        process(port, "--port", "0", "--tls-port", str(port), *flags),
        process(node, "--port", "0", "--tls-port", str(node), *flags, *cluster),
        sentinel(tmp_path, port, *lines, port=own),
    ):
        paths = (str(names["ca"]), str(names["cert"]), str(names["key"]))

        def address(url: str, *sentinels: str, has_certificate: bool = True) -> RedisAddress:
            own_paths = paths if has_certificate else (paths[0], "", "")
            return RedisAddress(url, sentinels, 30, True, *own_paths)

        setting_up = connect(address(f"rediss://127.0.0.1:{node}"))
        await setting_up.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)  # type: ignore[no-untyped-call]
        await close_client(setting_up)
        for url, sentinels in (
            (f"rediss://127.0.0.1:{port}", ()),
            ("rediss://Main", (f"rediss://127.0.0.1:{own}",)),
            (f"rediss+cluster://127.0.0.1:{node}", ()),
        ):
            assert await eventually(address(url, *sentinels)) == b"hello"
            with pytest.raises(BackendError):
                await ping(address(url, *sentinels, has_certificate=False))


@in_loop
async def test_a_sentinel_that_hangs_leaves_time_for_the_others(tmp_path: Path) -> None:
    with (
        redis_server() as master,
        sentinel(tmp_path, master.port) as hanging,
        sentinel(tmp_path, master.port) as other,
    ):
        places = (f"127.0.0.1:{hanging.port}", f"127.0.0.1:{other.port}")
        address = RedisAddress("redis://Main", sentinels=places)
        await eventually(RedisAddress("redis://Main", sentinels=places[1:]))
        hanging.freeze()
        began = time.monotonic()
        assert await ping(address) == b"hello"
        assert time.monotonic() - began < 4


@in_loop
async def test_unavailable_sentinels_are_reported_in_a_few_words() -> None:
    """redis-py describes its clients at length, and before version 8 with their passwords."""
    address = RedisAddress(
        "redis://:battery@Main",
        sentinels=(f":staple@127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"),
    )
    with pytest.raises(BackendError) as caught:
        await ping(address)
    assert "No master found for 'Main'" in str(caught.value)
    assert len(str(caught.value)) < 200
    assert "staple" not in str(caught.value)
    assert "<redis" not in str(caught.value)


def test_files_that_tls_needs_are_looked_at_before(tmp_path: Path) -> None:
    nothing = str(tmp_path / "nothing.pem")
    with pytest.raises(ConfigError, match="redis_tls_ca_cert_path: expected certificates"):
        connect(RedisAddress("rediss://h", tls_ca_path=nothing))
    with pytest.raises(ConfigError, match="redis_tls_client_cert_path"):
        connect(
            RedisAddress("rediss://h", tls_client_cert_path=nothing, tls_client_key_path=nothing)
        )
    connect(RedisAddress("redis://h", tls_ca_path=nothing))


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (("--redis_url=redis://:hush@a,redis://b/1",), "redis_url"),
        (
            (
                *("--broadcast_adapter=http", "--broker=redis", "--workers=2"),
                "--redis_url=redis://:hush@h/x",
            ),
            "redis_url",
        ),
        (("--redis_url=redis://:hush@h/x",), "redis_url"),
        (("--redis_url=unix://",), "redis_url"),
        (("--redis_url=redis://a..b",), "redis_url"),
        (("--redis_url=redis+cluster://a", "--redis_sentinels=:hush@h"), "redis_url"),
        (("--redis_url=redis://m", "--redis_sentinels=:hush@h:x"), "redis_sentinels"),
        (("--redis_url=redis://m", "--redis_sentinels=[::1"), "redis_sentinels"),
    ],
)
def test_an_address_that_is_none_ends_the_start(flags: tuple[str, ...], name: str) -> None:
    """Also if only workers would use it."""
    server = (
        "--public",
        "--norpc",
        "--broadcast_adapter=redis",
        f"--port={free_port()}",
        f"--http_broadcast_port={free_port()}",
    )
    ended = subprocess.run([*OURS, *server, *flags], capture_output=True, text=True, timeout=30)
    assert ended.returncode == 1
    assert f"catenary: {name}: expected" in ended.stderr
    assert "hush" not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_parameter_without_effect_is_logged() -> None:
    with redis_server() as redis, ExitStack() as stack:
        flags = ("--public", "--norpc", "--broadcast_adapter=redis")
        server: CableServer = stack.enter_context(
            cable_server(*flags, f"--redis_url={redis.url}/0?dial_timeout=3s")
        )
        output = server.wait_for_output("Subscribed to the Redis channel")
        assert "redis_url: the parameter dial_timeout has no effect" in output
