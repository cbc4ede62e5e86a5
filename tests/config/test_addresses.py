"""Addresses of NATS: every form that is read, and the one line that answers every other."""

import pytest

from catenary.config.addresses import (
    Gateway,
    NatsAddress,
    gateway,
    listening_address,
    server_address,
)
from catenary.errors import ConfigError
from tests.config.sources import options


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("nats://h:1", NatsAddress("h", 1)),
        ("nats://h", NatsAddress("h", 4222)),
        ("nats://h/", NatsAddress("h", 4222)),
        ("h", NatsAddress("h", 4222)),
        ("h:65535", NatsAddress("h", 65535)),
        ("tls://h:1", NatsAddress("h", 1, is_encrypted=True)),
        ("nats://[::1]:1", NatsAddress("::1", 1)),
        ("nats://u:p@h:1", NatsAddress("h", 1, "u", "p")),
        ("u:p@h", NatsAddress("h", 4222, "u", "p")),
        ("nats://token@h:1", NatsAddress("h", 1, "token")),
        ("nats://u:p%40%2F%3A@h:1", NatsAddress("h", 1, "u", "p@/:")),
    ],
)
def test_servers(text: str, address: NatsAddress) -> None:
    assert server_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        *("nats://", "nats://:1", "nats://h:0", "nats://h:65536", "nats://h:x", "nats://h:-1"),
        *("ws://h:1", "http://h", "redis://h", "nats://h/path", "nats://h?q", "nats://h#f"),
        *("nats://h h", "h\n", "nats://[::1", "nats://h:1,nats://i:1", " ", "nats://h\x00:1"),
    ],
)
def test_what_is_no_server(text: str) -> None:
    with pytest.raises(ValueError, match="expected "):
        server_address(text)


def test_a_url_names_nobody() -> None:
    assert server_address("nats://u:secret@h:1").url == "nats://h:1"
    assert server_address("tls://token@[::1]:1").url == "tls://[::1]:1"


@pytest.mark.parametrize("text", ["nats://h", "h", "nats://u@h:1", "nats://u:p@h:1", "tls://h:1"])
def test_listening_needs_a_port_and_no_user(text: str) -> None:
    assert listening_address("nats://h:1") == listening_address("h:1") == NatsAddress("h", 1)
    with pytest.raises(ValueError, match="expected "):
        listening_address(text)


def test_gateways() -> None:
    assert gateway("c:nats://h:1") == Gateway("c", ("nats://h:1",))
    assert gateway("c: nats://h:1, h:2 ,") == Gateway("c", ("nats://h:1", "h:2"))


@pytest.mark.parametrize("text", ["", "c", "c:", ":nats://h:1", "c:,", "nats://h:1", "c:ws://h"])
def test_what_is_no_gateway(text: str) -> None:
    with pytest.raises(ValueError, match="expected "):
        gateway(text)


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (
            ["--nats_servers=nats://a,http://b"],
            "nats_servers: expected nats://HOST:PORT or tls://HOST:PORT, got 'http://b'",
        ),
        (
            ["--enats_addr=nats://h"],
            "enats_addr: expected a port from 1 to 65535 in nats://HOST:PORT, got 'nats://h'",
        ),
        (
            ["--enats_cluster=nats://h:99999"],
            "enats_cluster: expected a port from 1 to 65535 in nats://HOST:PORT,"
            " got 'nats://h:99999'",
        ),
        (
            ["--enats_cluster=nats://h:1", "--enats_cluster_routes=nats://a:1,nats://h/x"],
            "enats_cluster_routes: expected nats://HOST:PORT or tls://HOST:PORT, got 'nats://h/x'",
        ),
        (
            ["--enats_cluster_routes=nats://a:1"],
            "enats_cluster_routes: expected enats_cluster beside it, got enats_cluster_routes alone",
        ),
        (
            ["--enats_gateways=c:nats://a:1"],
            "enats_gateways: expected enats_gateway beside it, got enats_gateways alone",
        ),
        (
            ["--enats_gateway=nats://h:1", "--enats_gateways=c:nats://a:1;nats://b:1"],
            "enats_gateways: expected NAME:ADDRESS,ADDRESS with addresses as nats://HOST:PORT,"
            " got 'nats://b:1'",
        ),
        (
            ["--enats_cluster_name=my cluster"],
            "enats_cluster_name: expected a name without spaces, got 'my cluster'",
        ),
        (
            ["--enats_cluster=nats://h:1", "--enats_cluster_name="],
            "enats_cluster_name: expected a name for the cluster, got none",
        ),
        (
            ["--enats_server_name=a\tb"],
            "enats_server_name: expected a name without spaces, got 'a\\tb'",
        ),
        (["--nats_servers="], "nats_servers: expected a URL, got none"),
        *(
            (
                [f"--nats_channel={subject}"],
                "nats_channel: expected words with dots between them and without spaces,"
                f" got {subject!r}",
            )
            for subject in ("", "a b", ".a", "a..b", "a.>.b", "a*", "a\r\nPUB x 0")
        ),
    ],
)
def test_what_does_not_go_is_said_in_one_line(argv: list[str], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        options(*argv)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    "argv",
    [
        "--nats_servers=http://u:hush@h",
        "--enats_addr=nats://u:hush@h:1",
        "--enats_cluster_routes=http://u:hush@h",
        "--enats_gateways=c:http://u:hush@h",
    ],
)
def test_a_password_is_not_shown(argv: str) -> None:
    with pytest.raises(ConfigError, match="got something else") as caught:
        options(argv)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("subject", ["__anycable__", "a.b-c.d", "a.*.c", "a.>"])
def test_subjects(subject: str) -> None:
    assert options(f"--nats_channel={subject}").broadcast.nats_channel == subject
