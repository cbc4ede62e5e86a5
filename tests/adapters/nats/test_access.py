"""Logging in to real servers: users, tokens, nkeys, credentials, TLS; and what is said of a refusal."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from catenary.adapters.nats.access import ANONYMOUS, NatsAccess
from catenary.adapters.nats.connection import NatsConnection, connect
from catenary.auth.nkeys import UserKey, read_credentials
from catenary.config.addresses import server_address
from catenary.errors import BackendError, ConfigError
from tests.parts.certificates import Authority
from tests.parts.heart import in_loop
from tests.parts.nats import NatsServer, nats_server
from tests.parts.nats_accounts import ACCOUNT, USER, Key, Operator


@contextmanager
def configured(tmp_path: Path, configuration: str, **files: str) -> Iterator[NatsServer]:
    path = tmp_path / "nats.conf"
    path.write_text(configuration)
    with nats_server("-c", str(path), store_dir=tmp_path / "store") as running:
        yield running


async def greeted(url: str, access: NatsAccess = ANONYMOUS) -> NatsConnection:
    """A connection over which a message has come back."""
    connection = await connect(server_address(url), access)
    arrived = asyncio.Event()
    connection.subscribe("a", lambda *_: arrived.set())
    connection.publish("a", b"")
    async with asyncio.timeout(5):
        await arrived.wait()
    return connection


async def refusal(url: str, access: NatsAccess = ANONYMOUS) -> str:
    with pytest.raises(BackendError) as caught:
        await greeted(url, access)
    return str(caught.value)


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@in_loop
async def test_a_user_and_a_token(tmp_path: Path) -> None:
    with configured(
        tmp_path, "authorization: { users: [ { user: u, password: 'p:/@' } ] }"
    ) as nats:
        connection = await greeted(f"nats://u:p%3A%2F%40@127.0.0.1:{nats.port}")
        await connection.close(1)
        words = await refusal(f"nats://u:wrong-secret@127.0.0.1:{nats.port}")
        assert "refuses the user, the password or the token of nats_servers" in words
        assert "Authorization Violation" in words
        assert "secret" not in words
    with configured(tmp_path, "authorization: { token: t0k3n }") as nats:
        connection = await greeted(f"nats://t0k3n@127.0.0.1:{nats.port}")
        await connection.close(1)
        assert "Authorization Violation" in await refusal(nats.url)


@in_loop
async def test_an_nkey(tmp_path: Path) -> None:
    key, other = Key(USER), Key(USER)
    access = NatsAccess(nkey_path=written(tmp_path / "key", f"{key.seed}\n"))
    with configured(tmp_path, f"authorization: {{ users: [ {{ nkey: {key.public} }} ] }}") as nats:
        connection = await greeted(nats.url, access)
        await connection.close(1)
        stranger = NatsAccess(nkey_path=written(tmp_path / "other", other.seed))
        words = await refusal(nats.url, stranger)
        assert "it refuses nats_nkey_path" in words
        assert other.seed not in words
        # A renewed file applies to the next connection.
        written(tmp_path / "other", key.seed)
        connection = await greeted(nats.url, stranger)
        await connection.close(1)
    with nats_server() as open_to_all:
        words = await refusal(open_to_all.url, access)
        assert "nats_nkey_path is given, but the server does not ask for a signature" in words


@in_loop
async def test_credentials(tmp_path: Path) -> None:
    operator = Operator()
    access = NatsAccess(credentials_path=written(tmp_path / "node.creds", operator.credentials()))
    with configured(tmp_path, operator.configuration) as nats:
        connection = await greeted(nats.url, access)
        assert b'"error"' not in (await connection.request("$JS.API.INFO")).payload
        await connection.close(1)
        stranger = NatsAccess(
            credentials_path=written(tmp_path / "other.creds", Operator().credentials())
        )
        assert "it refuses nats_creds_path: Authorization Violation" in await refusal(
            nats.url, stranger
        )
        brief = written(tmp_path / "brief.creds", operator.credentials(ends_in_s=2))
        connection = await greeted(nats.url, NatsAccess(credentials_path=brief))
        async with asyncio.timeout(10):
            assert "renew nats_creds_path" in await connection.lost


@in_loop
async def test_tls(tmp_path: Path) -> None:
    authority, stranger = Authority(), Authority("Another CA")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.pem)
    paths = {}
    for name, issued in (
        ("server", authority.issue("127.0.0.1")),
        ("client", authority.issue("node")),
        ("strange", stranger.issue("node")),
    ):
        paths[name] = tmp_path / f"{name}.pem", tmp_path / f"{name}.key"
        paths[name][0].write_bytes(issued.certificate)
        paths[name][1].write_bytes(issued.key)
    files = f"cert_file: '{paths['server'][0]}', key_file: '{paths['server'][1]}'"
    access = NatsAccess(ca_path=str(ca))
    with configured(tmp_path, f"tls: {{ {files} }}") as nats:
        # With the CA alone, whatever the scheme
        for url in (nats.url, nats.url.replace("nats:", "tls:")):
            connection = await greeted(url, access)
            await connection.close(1)
        words = await refusal(nats.url)
        assert "the certificate of the server is refused" in words
        assert "nats_tls_ca_cert_path" in words
        # Another name than the certificate's
        assert "the certificate of the server is refused" in await refusal(
            nats.url.replace("127.0.0.1", "localhost"), access
        )
    both = NatsAccess(
        ca_path=str(ca), certificate_path=str(paths["client"][0]), key_path=str(paths["client"][1])
    )
    with configured(tmp_path, f"tls: {{ {files}, ca_file: '{ca}', verify: true }}") as nats:
        connection = await greeted(nats.url, both)
        await connection.close(1)
        words = await refusal(nats.url, access)
        assert "nats_tls_client_cert_path" in words
        wrong = NatsAccess(
            ca_path=str(ca),
            certificate_path=str(paths["strange"][0]),
            key_path=str(paths["strange"][1]),
        )
        words = await refusal(nats.url, wrong)
        assert "TLS has failed" in words
        # The server has refused the certificate of the client: its own was accepted.
        assert "nats_tls_client_cert_path" in words
    with configured(tmp_path, f"tls: {{ {files}, handshake_first: true }}") as nats:
        first = NatsAccess(ca_path=str(ca), handshake_first=True)
        connection = await greeted(nats.url, first)
        await connection.close(1)
        assert "nats_tls_handshake_first" in await refusal(nats.url, access)


@pytest.mark.parametrize("handshake_first", [False, True])
@in_loop
async def test_a_server_without_tls_is_sent_nothing(tmp_path: Path, handshake_first: bool) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(Authority().pem)
    with nats_server() as nats:
        access = NatsAccess(ca_path=str(ca), handshake_first=handshake_first)
        assert await refusal(nats.url, access)


@in_loop
async def test_needed_subjects_that_are_forbidden_are_named(tmp_path: Path) -> None:
    user = "{ user: u, password: p, permissions: { subscribe: { deny: 'b' } } }"
    with configured(tmp_path, f"authorization: {{ users: [ {user} ] }}") as nats:
        connection = await connect(server_address(f"nats://u:p@127.0.0.1:{nats.port}"))
        connection.subscribe("b", lambda *_: None, is_needed=False)
        await connection.flushed()
        assert not connection.lost.done()
        connection.subscribe("b", lambda *_: None, queue="nodes")
        async with asyncio.timeout(5):
            assert "this user may not subscribe to b" in await connection.lost


# Files


@pytest.mark.parametrize("name", ["credentials_path", "nkey_path"])
@pytest.mark.parametrize(
    "text",
    ["", "SUAsecret", Key(ACCOUNT).seed, Key(USER).public, "\x00", "é"],
    # Keys are random: processes that share the tests must give them the same names.
    ids=["empty", "too short", "of an account", "public", "zero", "not ASCII"],
)
def test_files_that_are_no_credentials(tmp_path: Path, name: str, text: str) -> None:
    path = written(tmp_path / "file", text)
    access = msgspec.structs.replace(ANONYMOUS, **{name: path})
    with pytest.raises(ConfigError) as caught:
        access.check()
    assert str(caught.value).startswith("nats_")
    assert path in str(caught.value)
    assert not text or text not in str(caught.value).replace(path, "")


@pytest.mark.parametrize(
    ("access", "option"),
    [
        (NatsAccess(credentials_path="/nowhere"), "nats_creds_path"),
        (NatsAccess(nkey_path="/nowhere"), "nats_nkey_path"),
        (NatsAccess(ca_path="/nowhere"), "nats_tls_ca_cert_path"),
        (NatsAccess(certificate_path="/nowhere", key_path="/x"), "nats_tls_client_cert_path"),
    ],
)
def test_files_that_do_not_exist(access: NatsAccess, option: str) -> None:
    with pytest.raises(ConfigError, match=f"^{option}: /nowhere: No such file"):
        access.check()


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="expected text"):
        NatsAccess(nkey_path=str(path)).check()


def test_keys_are_those_of_the_server() -> None:
    # From the documentation of nkeys
    key = Key(USER)
    assert UserKey(key.seed).public == key.public
    assert key.public.startswith("U")
    assert key.seed.startswith("SU")
    jwt, found = read_credentials(Operator().credentials())
    assert jwt.count(".") == 2
    assert found.public.startswith("U")
