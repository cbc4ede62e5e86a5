"""The way back to NATS: real servers, one or several, that refuse, freeze, go and name each other."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from catenary.adapters.nats.connection import NatsConnection
from catenary.adapters.nats.reconnector import Reconnector
from catenary.adapters.nats.servers import NatsServers
from catenary.errors import BackendError, ConfigError
from tests.adapters.nats.listening import QUICK_S, shorten_timeouts, until
from tests.parts.certificates import Authority
from tests.parts.heart import in_loop
from tests.parts.nats import NatsServer, nats_server
from tests.parts.ports import free_port


@pytest.fixture
def nats() -> Iterator[NatsServer]:
    with nats_server() as server:
        yield server


class Visitor:
    """Uses every connection there is; ``went`` are the reasons why it had none."""

    def __init__(self, *urls: str) -> None:
        self.connection: NatsConnection | None = None
        self.visits = 0
        self.went: list[str] = []
        self.way = Reconnector(NatsServers(urls=urls, in_order=True), self._visit, self.went.append)

    async def _visit(self, connection: NatsConnection, works: Callable[[], bool]) -> str:
        self.connection = connection
        self.visits += 1
        works()
        return await asyncio.shield(connection.lost)

    @property
    def url(self) -> str:
        """Where it is now; empty: nowhere."""
        connection = self.connection
        return "" if connection is None or connection.lost.done() else connection.url


@asynccontextmanager
async def visitor(*urls: str, is_up: bool = True) -> AsyncIterator[Visitor]:
    """One for the length of a with block: connected when it begins, unless not ``is_up``."""
    one = Visitor(*urls)
    one.way.start()
    try:
        if is_up:
            await until(lambda: one.url != "")
        yield one
    finally:
        await one.way.stop()
        if one.connection is not None:
            await one.connection.close(1)


@in_loop
async def test_servers_go_and_come_back(nats: NatsServer) -> None:
    async with visitor(nats.url) as one:
        for outage in range(2):
            nats.stop()
            await until(lambda n=outage: len(one.went) > n)  # type: ignore[misc]
            assert one.url == ""
            nats.start()
            await until(lambda: one.url == nats.url)
        assert one.visits == 3
        assert one.went[0].startswith(f"{nats.url}: ")


@in_loop
async def test_a_server_that_is_not_there_at_the_start_is_found_later(nats: NatsServer) -> None:
    nats.stop()
    async with visitor(nats.url, is_up=False) as one:
        await until(lambda: len(one.went) == 2)
        nats.start()
        await until(lambda: one.url == nats.url)


@in_loop
async def test_an_outage_of_several_servers_is_one_row_of_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However the reasons differ: each server has its own, and they are tried in any order."""
    monkeypatch.setattr("catenary.supervision.backoff.delay_s", lambda *_: 0.001)
    urls = tuple(f"nats://127.0.0.1:{free_port()}" for _ in range(3))
    went: list[str] = []
    lines: list[str] = []

    async def visit(connection: NatsConnection, works: Callable[[], bool]) -> str:
        raise AssertionError("expected no connection")

    way = Reconnector(NatsServers(urls=urls), visit, went.append, log=lines.append)
    way.start()
    await until(lambda: len(lines) == 2)
    await way.stop()
    assert len(went) >= 3 * 8, "the second line is that of the eighth round"
    for url in urls:
        assert url in lines[0]


@in_loop
async def test_a_visit_in_vain_is_tried_again(nats: NatsServer) -> None:
    """The connection is of no use: it is closed, and the next one made."""
    connections: list[NatsConnection] = []
    went: list[str] = []

    async def visit(connection: NatsConnection, works: Callable[[], bool]) -> str:
        connections.append(connection)
        raise BackendError("NATS: nothing is ready")

    way = Reconnector(NatsServers(urls=(nats.url,)), visit, went.append)
    way.start()
    await until(lambda: len(connections) == 3)
    await way.stop()
    assert went[:2] == [f"{nats.url}: nothing is ready"] * 2
    assert all(each.lost.done() for each in connections[:2])
    connections[-1].drop("over")


@in_loop
async def test_a_frozen_server_is_left_and_found_again(
    nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection stays open all the time: only a question finds out."""
    shorten_timeouts(monkeypatch)
    async with visitor(nats.url) as one:
        nats.freeze()
        try:
            await until(lambda: len(one.went) == 2, 8)
        finally:
            nats.thaw()
        assert one.went[0].endswith(f"silent for {QUICK_S:g} s")
        assert one.went[1].endswith(f"no answer within {QUICK_S:g} s")
        await until(lambda: one.url == nats.url)


@in_loop
async def test_the_end_waits_for_no_frozen_server(nats: NatsServer) -> None:
    async with visitor(nats.url) as one:
        assert one.connection is not None
        nats.freeze()
        try:
            for _ in range(20):
                one.connection.publish("news", b"x" * 500_000)
            began = time.monotonic()
            await one.way.stop()
            await one.connection.close(0.5)
            assert time.monotonic() - began < 2
        finally:
            nats.thaw()


@pytest.mark.parametrize("credentials", ["app:correct%2Fhorse", "app:battery-staple", "sesame", ""])
@in_loop
async def test_credentials(credentials: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with nats_server("--user", "app", "--pass", "correct/horse") as nats:
        url = nats.url.replace("//", f"//{credentials}@") if credentials else nats.url
        is_right = credentials.startswith("app:correct")
        async with visitor(url, is_up=is_right) as one:
            if not is_right:
                await until(lambda: bool(one.went))
                assert "it refuses the user, the password or the token" in one.went[0]
    said = caplog.text + " ".join(one.went)
    for secret in ("horse", "battery-staple", "sesame"):
        assert secret not in said


@in_loop
async def test_a_token() -> None:
    with nats_server("--auth", "open-sesame") as nats:
        async with visitor(nats.url.replace("//", "//open-sesame@")) as one:
            assert one.url == nats.url


@in_loop
async def test_a_user_that_is_let_in_later_comes_in(tmp_path: Path) -> None:
    """A server that refuses once is not given up."""
    file = tmp_path / "nats.conf"
    file.write_text('{"authorization": {"token": "old"}}')
    with nats_server("-c", str(file)) as nats:
        async with visitor(nats.url.replace("//", "//new@"), is_up=False) as one:
            await until(lambda: len(one.went) > 1)
            nats.stop()
            file.write_text('{"authorization": {"token": "new"}}')
            nats.start()
            await until(lambda: one.url == nats.url)


@in_loop
async def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority()
    issued = authority.issue("localhost")
    for name, pem in (("ca", authority.pem), ("cert", issued.certificate), ("key", issued.key)):
        (tmp_path / name).write_bytes(pem)
    flags = ("--tls", "--tlscert", str(tmp_path / "cert"), "--tlskey", str(tmp_path / "key"))
    with nats_server(*flags) as nats:
        url = f"tls://localhost:{nats.port}"
        async with visitor(url, is_up=False) as stranger:
            await until(lambda: bool(stranger.went))
            assert "certificate" in stranger.went[0]
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca"))
        async with visitor(url) as one:
            nats.stop()
            await until(lambda: bool(one.went))
            nats.start()
            await until(lambda: one.url == url)


@in_loop
async def test_without_tls_no_password_is_sent(
    nats: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with visitor(nats.url.replace("nats://", "tls://user:hush@"), is_up=False) as one:
        await until(lambda: bool(one.went))
        assert one.visits == 0
    assert "hush" not in caplog.text + one.went[0]


@in_loop
async def test_of_several_servers_one_that_is_there_is_taken(nats: NatsServer) -> None:
    with nats_server() as other:
        async with visitor(f"nats://127.0.0.1:{free_port()}", nats.url, other.url) as one:
            assert one.url == nats.url
            nats.stop()
            await until(lambda: one.url == other.url)


@in_loop
async def test_servers_that_a_server_names_are_tried_too() -> None:
    """And shown the same password."""
    route = free_port()
    users = ("--user", "app", "--pass", "secret", "--cluster_name", "c")
    with (
        nats_server(*users, "--cluster", f"nats://127.0.0.1:{route}") as known,
        nats_server(
            *(*users, "--cluster", f"nats://127.0.0.1:{free_port()}"),
            *("--routes", f"nats://127.0.0.1:{route}"),
        ) as other,
    ):
        # Until they know each other.
        for _ in range(100):
            async with visitor(known.url.replace("//", "//app:secret@")) as one:
                assert one.connection is not None
                if any(str(other.port) in url for url in one.connection.info.connect_urls):
                    known.stop()
                    await until(lambda: one.url == other.url)
                    return
            await asyncio.sleep(0.05)
        raise AssertionError("the servers found each other too late")


@pytest.mark.parametrize("urls", [(), ("http://u:hush@h",), ("nats://h:99999",)])
def test_an_address_that_is_none(urls: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="nats_servers: expected ") as caught:
        Visitor(*urls)
    assert "hush" not in str(caught.value)
