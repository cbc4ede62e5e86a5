"""The engine on NATS: its requirements, logins, clusters."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest

from catenary.adapters.nats.subjects import Subjects, token
from catenary.errors import BackendError, ConfigError
from catenary.messages.names import Sid, Stream
from tests.parts.certificates import Authority
from tests.parts.heart import in_loop
from tests.parts.nats import nats_server
from tests.parts.nats_node import JetStreamServer, NatsNode, jetstream_server, nats_node, until
from tests.parts.ports import free_port

S = Stream("s")


@pytest.fixture
def server() -> Iterator[JetStreamServer]:
    with jetstream_server() as running:
        yield running


@in_loop
async def test_many_nodes_that_start_at_once_agree_on_one_history(server: JetStreamServer) -> None:
    nodes = [NatsNode(server) for _ in range(10)]
    async with AsyncExitStack() as stack:
        for node in nodes:
            stack.push_async_callback(node.close)
        await asyncio.gather(*(node.start() for node in nodes))
        for node in nodes:
            await node.is_up()
        assert len({node.engine.kept().epoch for node in nodes}) == 1
        assert len({node.engine.records().epoch for node in nodes}) == 1


@in_loop
async def test_a_server_without_jetstream_is_trouble_until_it_has_it() -> None:
    with nats_server() as plain:
        node = NatsNode(plain)
        await node.start()
        try:
            await until(lambda: "enabled" in (node.pubsub.trouble or ""))
            with pytest.raises(BackendError, match="enabled"):
                await node.history.since(S, 0)
            with pytest.raises(BackendError, match="enabled"):
                await node.publish(S, 1)
        finally:
            await node.close()
        async with nats_node(plain, None) as free:
            await free.listen([S])
            await free.publish(S, "nothing is kept: none is needed")
            await until(lambda: len(free.received) == 1)


@in_loop
async def test_a_server_that_is_too_old_is_refused(
    server: JetStreamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catenary.adapters.nats.store.OLDEST_SERVER", (99, 0))
    node = NatsNode(server)
    await node.start()
    try:
        await until(lambda: "nats-server 2.11 or newer" in (node.pubsub.trouble or ""))
    finally:
        await node.close()


@in_loop
async def test_a_user_and_a_password_let_in(tmp_path: Path) -> None:
    with nats_server("--user", "jack", "--pass", "s3cr:t@é", store_dir=tmp_path) as server:
        node = NatsNode(server)
        await node.start()
        try:
            await until(lambda: "authorization" in (node.pubsub.trouble or "").lower())
            assert "s3cr" not in (node.pubsub.trouble or "")
        finally:
            await node.close()
        url = f"nats://jack:s3cr%3At%40%C3%A9@127.0.0.1:{server.port}"
        async with nats_node(server, url=url) as allowed:
            await allowed.publish(S, 1)


@in_loop
async def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority()
    issued = authority.issue("localhost")
    for name, pem in (("ca", authority.pem), ("cert", issued.certificate), ("key", issued.key)):
        (tmp_path / name).write_bytes(pem)
    flags = ("--tls", "--tlscert", str(tmp_path / "cert"), "--tlskey", str(tmp_path / "key"))
    with nats_server(*flags) as server:
        node = NatsNode(server, None, url=f"tls://localhost:{server.port}")
        await node.start()
        try:
            await until(lambda: "certificate" in (node.pubsub.trouble or "").lower())
        finally:
            await node.close()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca"))
        async with nats_node(server, None, url=f"tls://localhost:{server.port}") as trusting:
            await trusting.listen([S])
            await trusting.publish(S, "x" * 500_000)
            await until(lambda: len(trusting.received) == 1)


@in_loop
async def test_without_tls_no_password_is_sent(server: JetStreamServer) -> None:
    node = NatsNode(server, url=server.url.replace("nats://", "tls://user:hush@"))
    await node.start()
    try:
        await until(lambda: "127.0.0.1" in (node.pubsub.trouble or ""))
        assert "hush" not in (node.pubsub.trouble or "")
    finally:
        await node.close()


@pytest.mark.parametrize("prefix", ["", "a b", "a..b", ".a", "a.*", "a.>", "é", "x" * 65, "a\r\nb"])
def test_prefixes_that_are_no_subjects(prefix: str) -> None:
    with pytest.raises(ConfigError, match=r"nats_pubsub\.channel"):
        Subjects(prefix)


def test_names_stay_distinct() -> None:
    names = ["", "-", "a", "A", "*", "a.b", "\ud800", "\ud801", *("x" * n for n in range(90, 200))]
    tokens = {token(name) for name in names}
    assert len(tokens) == len(names)
    assert all(each.isascii() and each.isprintable() and len(each) <= 128 for each in tokens)
    assert not any(character in each for each in tokens for character in " .*>")


@pytest.mark.parametrize("url", ["", "http://h", "nats://h:x"])
@in_loop
async def test_addresses_that_are_none(url: str, server: JetStreamServer) -> None:
    with pytest.raises(ConfigError, match="nats_servers"):
        NatsNode(server, url=url or "nats://")


@in_loop
async def test_a_cluster_keeps_everything_when_it_loses_a_server(tmp_path: Path) -> None:
    routes = [free_port() for _ in range(3)]
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                nats_server(
                    *("-n", f"n{number}", "--cluster_name", "c"),
                    *("--cluster", f"nats://127.0.0.1:{port}"),
                    *("--routes", ",".join(f"nats://127.0.0.1:{each}" for each in routes)),
                    store_dir=tmp_path / str(number),
                )
            )
            for number, port in enumerate(routes)
        ]
        nodes = [NatsNode(server) for server in servers]
        try:
            await asyncio.gather(*(node.start() for node in nodes))
            for node in nodes:
                await until(lambda n=node: n.pubsub.trouble is None, 20)  # type: ignore[misc]
                assert node.engine.kept().replicas == node.engine.records().replicas == 3
                await node.listen([S])
            for number in range(60):
                await nodes[number % 3].publish(S, number)
            await nodes[0].sessions.save(Sid("a"), b"1")
            for node in nodes:
                await until(lambda n=node: len(n.received) == 60)  # type: ignore[misc]
                assert node.data(S) == [str(number) for number in range(60)]
            servers[0].stop()
            await until(lambda: nodes[0].restored == 1, 20)
            published = False
            while not published:
                try:
                    await nodes[1].publish(S, "after")
                    published = True
                except BackendError:
                    await asyncio.sleep(0.1)
            for node in nodes:
                await until(lambda n=node: "after" in n.data(S))  # type: ignore[misc]
                assert node.data(S)[:60] == [str(number) for number in range(60)]
            assert await nodes[2].sessions.take(Sid("a")) == b"1"
        finally:
            for node in nodes:
                await node.close()
