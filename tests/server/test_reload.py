"""SIGHUP: a running server reads its configuration again, and applies what it can."""

import http.client
import json
import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from catenary.auth.keys import API_PHRASE, BROADCAST_PHRASE, derived_key
from catenary.auth.pusher import PusherSignatures
from catenary.config.effective import effective
from catenary.server.assembly import Assembly
from catenary.server.reloads import RELOADABLE
from tests.config.sources import options
from tests.parts.cable_client import CableClient, identifier
from tests.parts.certificates import Authority
from tests.parts.configured_server import REFUSED, ConfiguredServer, configured_server
from tests.parts.heart import in_loop
from tests.parts.ports import free_port
from tests.parts.pusher import pusher_client
from tests.parts.tokens import signed_name, token

FLAGS = ("--norpc", "--broadcast_adapter=http", "--presets=broker")
OLD, NEW = "the-old-secret-" + 32 * "o", "the-new-secret-" + 32 * "n"
CLAIMS = {"ext": '{"user":1}'}


def configuration(secret: str, grace_s: int = 3600) -> str:
    return (
        f"secret = '{secret}'\nsecret_rotation_grace = {grace_s}\n"
        f"[admin]\nenabled = true\nsecret = '{secret}-admin'\n[ds]\nenabled = true\nwrite = true\n"
        f"skip_auth = true\n[pusher]\napp_id = 'a'\napp_key = 'k'\nsecret = '{secret}'\n"
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredServer]:
    directory = tmp_path_factory.mktemp("reload")
    with configured_server(directory, configuration(OLD), *FLAGS) as running:
        yield running


def post(port: int, path: str, key: str, body: bytes = b"", method: str = "POST") -> int:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, body, {**headers, "x-catenary-console": "1"})
    with connection.getresponse() as response:
        status = response.status
    connection.close()
    return status


def subscribes_to_private_channel(port: int, secret: str) -> bool:
    with pusher_client(port, "k") as client:
        auth = PusherSignatures("k", secret).subscription(client.socket_id, "private-a")
        data = {"channel": "private-a", "auth": auth}
        client.send(json.dumps({"event": "pusher:subscribe", "data": data}))
        return bool(client.receive()["event"] == "pusher_internal:subscription_succeeded")


def accepted(server: ConfiguredServer, secret: str) -> dict[str, bool]:
    """What the server accepts that was made with this secret."""
    stream = identifier("$pubsub", signed_stream_name=signed_name("room", secret))
    with CableClient(f"{server.cable_url}?jid={token(CLAIMS, secret)}") as client:
        has_welcome = client.receive()["type"] == "welcome"
        is_confirmed = has_welcome and client.subscribe(stream)["type"] == "confirm_subscription"
    publication = json.dumps({"stream": "room", "data": "{}"}).encode()
    broadcast = derived_key(secret, BROADCAST_PHRASE)
    read = f"/ds/room?signed={signed_name('room', secret)}&offset=-1"
    return {
        "token": has_welcome,
        "stream": is_confirmed,
        "publisher": post(server.broadcast_port, "/_broadcast", broadcast, publication) == 201,
        "api": post(server.port, "/api/connections", derived_key(secret, API_PHRASE), method="GET")
        == 200,
        "console": post(server.port, "/_high_voltage_/login", f"{secret}-admin") == 204,
        "pusher": subscribes_to_private_channel(server.port, secret),
        "durable stream": post(server.port, read, "", method="GET") == 200,
    }


def test_secrets_are_replaced_and_the_old_ones_are_accepted_for_a_while(
    server: ConfiguredServer,
) -> None:
    everything = accepted(server, OLD)
    assert all(everything.values()), everything
    assert not any(accepted(server, NEW).values())
    log = server.configure(configuration(NEW, grace_s=3))
    assert "Reload: secret: changed" in log
    assert OLD not in log
    assert NEW not in log
    for secret in (OLD, NEW):
        assert all(accepted(server, secret).values()), (secret, accepted(server, secret))
    server.wait_for_output("are no longer accepted")
    assert not any(accepted(server, OLD).values())
    assert all(accepted(server, NEW).values())


def test_the_old_secret_is_refused_at_once_without_a_grace(server: ConfiguredServer) -> None:
    server.configure(configuration(OLD, grace_s=0))
    server.configure(configuration(NEW, grace_s=0))
    assert not any(accepted(server, OLD).values())
    assert all(accepted(server, NEW).values())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("secret = ", "expected TOML"),
        ("[limits]\nmax_streamz = 1", "unknown key limits.max_streamz"),
        ("[server]\nallowed_origins = 'https://'", "allowed_origins"),
    ],
)
def test_a_configuration_that_is_wrong_changes_nothing(
    server: ConfiguredServer, text: str, why: str
) -> None:
    before = configuration(NEW)
    server.configure(before)
    log = server.configure(before.replace(NEW, "x") + text)
    assert REFUSED in log
    assert why in log
    assert all(accepted(server, NEW).values())
    assert "options applied: 0, waiting for a restart: 0" in server.configure(before)


def test_a_file_that_is_empty_for_a_moment_changes_nothing(server: ConfiguredServer) -> None:
    before = configuration(NEW) + "[server]\nallowed_origins = 'example.com'\n"
    server.configure(before)
    log = server.configure("")
    assert f"{REFUSED}: {server.path}: expected options, got an empty file" in log
    assert "options applied: 0, waiting for a restart: 0" in server.configure(before)
    server.configure(configuration(NEW))


def test_what_needs_a_restart_is_named_and_waits(server: ConfiguredServer) -> None:
    log = server.configure(configuration(NEW) + "[server]\nhealth_path = '/up'")
    assert "ERROR" not in log
    assert "waiting for a restart: server.health_path: /health → /up" in log
    assert post(server.port, "/health", "", method="GET") == 200
    server.configure(configuration(NEW))


def test_a_secret_is_not_removed_while_the_server_runs(server: ConfiguredServer) -> None:
    server.configure(configuration(NEW))
    log = server.configure("[ds]\nenabled = true")
    assert "waiting for a restart: secret: ••• → (empty)" in log
    assert post(server.broadcast_port, "/_broadcast", "", b"{}") == 401
    server.configure(configuration(NEW))


def test_origins_and_the_log_level(server: ConfiguredServer) -> None:
    def is_let_in(origin: str) -> bool:
        url = f"{server.cable_url}?jid={token(CLAIMS, NEW)}"
        try:
            with CableClient(url, origin=origin):
                return True
        except InvalidStatus:
            return False

    server.configure(configuration(NEW))
    assert is_let_in("https://a.example")
    text = configuration(NEW) + "[server]\nallowed_origins = 'b.example'\n[logging]\ndebug = true"
    log = server.configure(text)
    assert "server.allowed_origins: (empty) → b.example" in log
    assert not is_let_in("https://a.example")
    assert is_let_in("https://b.example")
    server.wait_for_output("DEBUG")
    server.configure(configuration(NEW))
    assert is_let_in("https://a.example")


def test_the_console_shows_the_present_configuration(server: ConfiguredServer) -> None:
    server.configure(configuration(NEW) + "[limits]\nmax_streams = 77")
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    base = f"http://127.0.0.1:{server.port}/_high_voltage_"
    headers = {"Authorization": f"Bearer {NEW}-admin", "x-catenary-console": "1"}
    opener.open(urllib.request.Request(f"{base}/login", b"", headers)).close()
    with opener.open(f"{base}/api/config") as answer:
        groups = json.load(answer)["groups"]
    (shown,) = (
        each for group in groups for each in group["options"] if each["name"] == "max_streams"
    )
    assert shown["value"] == "77"
    assert shown["source"].endswith("limits.max_streams")


def test_a_certificate_is_replaced_for_new_connections(tmp_path: Path) -> None:
    authority = Authority()
    trusting = ssl.create_default_context(cadata=authority.pem.decode())

    def write(name: str) -> None:
        issued = authority.issue(name, "127.0.0.1")
        (tmp_path / "cert.pem").write_bytes(issued.certificate)
        (tmp_path / "key.pem").write_bytes(issued.key)

    def served_name(server: ConfiguredServer) -> object:
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=trusting)
        connection.connect()
        found: Any = connection.sock.getpeercert()
        connection.close()
        ((pair,),) = found["subject"]
        return pair[1]

    write("first")
    text = f"[server.ssl]\ncert_path = '{tmp_path}/cert.pem'\nkey_path = '{tmp_path}/key.pem'\n"
    server = ConfiguredServer(tmp_path, text, *FLAGS, "--public")
    try:
        server.wait_for_output("wss://")
        assert served_name(server) == "first"
        write("second")
        server.configure(text)
        assert served_name(server) == "second"
        (tmp_path / "key.pem").write_text("garbage")
        assert "expected a certificate and its key" in server.configure(text)
        assert served_name(server) == "second"
    finally:
        server.close()


@in_loop
async def test_a_part_of_the_server_applies_each_option_that_is_said_to_be_reloadable(
    tmp_path: Path,
) -> None:
    issued = Authority().issue("127.0.0.1")
    (tmp_path / "both.pem").write_bytes(issued.certificate + issued.key)
    given = options(
        "--secret=s",
        "--rpc_host=http://127.0.0.1:9",
        "--broadcast_adapter=http",
        "--presets=broker",
        "--admin",
        "--admin_secret=a",
        "--sse",
        "--pusher_app_id=a",
        "--pusher_app_key=k",
        "--turbo_streams",
        "--cable_ready",
        f"--port={free_port()}",
        "--api_secret=b",
        "--trusted_proxies=10.0.0.0/8",
        f"--ssl_cert={tmp_path}/both.pem",
        f"--ssl_key={tmp_path}/both.pem",
        environ={"ANYCABLE_JWT_PUBLIC_KEY": issued.certificate.decode()},
    )
    assembly = Assembly(effective(given))
    found = assembly.build.reloads.places
    for listener in assembly.listeners:
        for each in listener._sockets:
            each.close()
    # The grace is read when a secret is replaced.
    assert found | {"access.rotation_grace_s"} == RELOADABLE
