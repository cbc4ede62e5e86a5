"""Addresses of NATS, Redis and StatsD: every form that is read, and the one line that answers every other."""

import pytest

from catenary.config.addresses import (
    Gateway,
    NatsAddress,
    RedisAddress,
    RedisServer,
    gateway,
    listening_address,
    redis_server,
    sentinel_server,
    server_address,
    statsd_address,
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


# Redis


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("redis://h", RedisServer(host="h")),
        ("redis://h:1/2", RedisServer(host="h", port=1, db=2)),
        ("h:1", RedisServer(host="h", port=1)),
        ("localhost:6379", RedisServer()),
        ("redis://", RedisServer()),
        ("redis://:1/", RedisServer(port=1)),
        ("[::1]:1/3", RedisServer(host="::1", port=1, db=3)),
        ("redis://h?db=4", RedisServer(host="h", db=4)),
        ("rediss://h", RedisServer(host="h", is_encrypted=True)),
        ("valkey://h", RedisServer(host="h")),
        ("valkeys://h", RedisServer(host="h", is_encrypted=True)),
        ("redis://u:p%40@h", RedisServer(host="h", user="u", password="p@")),
        ("redis://:p@q@h", RedisServer(host="h", password="p@q")),
        ("redis://h?username=u&password=p", RedisServer(host="h", user="u", password="p")),
        ("redis://h?name=cable", RedisServer(host="h", client_name="cable")),
        ("redis://h?client_name=c", RedisServer(host="h", client_name="c")),
        ("redis://h/0?dial_timeout=3s", RedisServer(host="h", unknown=("dial_timeout",))),
        ("redis://MyMaster", RedisServer(host="MyMaster")),
        ("unix:///run/r.sock", RedisServer(path="/run/r.sock")),
        ("unix:/run/r.sock?db=1", RedisServer(path="/run/r.sock", db=1)),
        ("/run/r.sock", RedisServer(path="/run/r.sock")),
        ("unix:///r.sock?password=p", RedisServer(path="/r.sock", password="p")),
    ],
)
def test_redis(text: str, server: RedisServer) -> None:
    assert redis_server(text) == server


@pytest.mark.parametrize(
    "text",
    [
        *(
            "http://h",
            "redis://h/x",
            "redis://h/0/1",
            "redis://h:x",
            "redis://h:0",
            "redis://h?db=x",
        ),
        *("redis://a,redis://b", "redis://h?addr=i:1", "redis://h?master_set=m", "redis://a..b"),
        *("unix://", "unix:///", "unix://h/r.sock", "redis://h\n", "redis://[::1"),
        *("redis://:hush/x@h:1", "redis://:12#hush@h", "redis://:12?hush@h", "redis://u:hu[sh@h:x"),
    ],
)
def test_what_is_no_redis(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expected ") as caught:
        redis_server(text)
    assert "hu" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("h", RedisServer(host="h", port=26379)),
        ("h:1", RedisServer(host="h", port=1)),
        ("[::1]:1", RedisServer(host="::1", port=1)),
        ("redis://h:1", RedisServer(host="h", port=1)),
        ("rediss://h:1", RedisServer(host="h", port=1, is_encrypted=True)),
        (":p%40ss@h:1", RedisServer(host="h", port=1, password="p@ss")),
        (":p@ss@h:1", RedisServer(host="h", port=1, password="p@ss")),
        ("p@h", RedisServer(host="h", port=26379, password="p")),
        ("u:p@h", RedisServer(host="h", port=26379, user="u", password="p")),
    ],
)
def test_sentinels(text: str, server: RedisServer) -> None:
    assert sentinel_server(text) == server


@pytest.mark.parametrize("text", ["", ":1", "h:x", "http://h", "unix:///s", "a b", ":hush@h:99999"])
def test_what_is_no_sentinel(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expected ") as caught:
        sentinel_server(text)
    assert "hush" not in str(caught.value)


def test_a_master_behind_sentinels() -> None:
    address = RedisAddress("redis://u:p@MyMaster:1/5", sentinels=(":q@a", "b:1"))
    assert (address.server.host, address.server.db) == ("MyMaster", 5)
    assert address.sentinel_servers == (
        RedisServer(host="a", port=26379, password="q"),
        RedisServer(host="b", port=1, password="q"),
    )
    assert RedisAddress("redis://", sentinels=("a",)).server.host == "mymaster"
    with pytest.raises(ConfigError, match=r"redis_url: expected the master's name"):
        _ = RedisAddress("unix:///r.sock", sentinels=("a",)).server


def test_tls_behind_sentinels() -> None:
    """By either URL, as anycable-go has it by that of the sentinels, which it asks in plain text."""
    assert RedisAddress("rediss://m", sentinels=("a",)).server.is_encrypted
    assert not RedisAddress("rediss://m", sentinels=("a",)).sentinel_servers[0].is_encrypted
    address = RedisAddress("redis://m", sentinels=("rediss://a",))
    assert address.server.is_encrypted
    assert [each.is_encrypted for each in address.sentinel_servers] == [True, False]
    verified = RedisAddress("redis://m", sentinels=("rediss://a",), tls_verify=True)
    assert [each.is_encrypted for each in verified.sentinel_servers] == [True]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:8125", ("localhost", 8125)),
        ("statsd.test", ("statsd.test", 8125)),
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("[::1]:1", ("::1", 1)),
        ("::1", ("::1", 8125)),
    ],
)
def test_a_statsd_server(text: str, address: tuple[str, int]) -> None:
    assert statsd_address(text) == address


@pytest.mark.parametrize(
    "text", ["udp://localhost:8125", ":8125", "localhost:0", "localhost:x", "a b:1", "a..b"]
)
def test_what_is_no_address_of_a_statsd_server(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^statsd_host: expected HOST:PORT, got "):
        statsd_address(text)


@pytest.mark.parametrize(
    ("url", "places"),
    [
        ("redis://h", []),
        ("redis://h,i:1", [("h", 6379), ("i", 1)]),
        ("redis://h:1/, redis://i/0", [("h", 1), ("i", 6379)]),
        ("redis+cluster://h:1", [("h", 1)]),
        ("rediss+cluster://h:1,rediss+cluster://i:2", [("h", 1), ("i", 2)]),
        ("valkey+cluster://h", [("h", 6379)]),
        ("redis://u:a,b@h,redis://i", [("h", 6379), ("i", 6379)]),
        ("redis://u:a,b@h", []),
    ],
)
def test_nodes_of_a_redis_cluster(url: str, places: list[tuple[str, int]]) -> None:
    nodes = RedisAddress(url).cluster_nodes
    assert [(each.host, each.port) for each in nodes] == places
    if "@" in url and nodes:
        assert {(each.user, each.password) for each in nodes} == {("u", "a,b")}
    assert {each.is_encrypted for each in nodes} <= {url.startswith("rediss")}


@pytest.mark.parametrize(
    ("url", "sentinels", "message"),
    [
        ("redis://:hush@h/1,redis://i", (), "expected database 0, the only one"),
        ("redis://h,unix:///r.sock", (), "expected hosts"),
        ("redis+cluster://m", ("s",), "beside redis_sentinels, got a Redis Cluster"),
        ("redis://h,http://i", (), "expected redis://"),
    ],
)
def test_nodes_that_are_none(url: str, sentinels: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        _ = RedisAddress(url, sentinels).server
    assert "hush" not in str(caught.value)
