"""Redis: reachable, new enough, with all permissions, and fit to store what must not be lost."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from catenary.adapters.redis import inspection
from catenary.terminal.doctor.findings import Finding
from catenary.terminal.doctor.redis import check_redis
from tests.parts.ports import free_port
from tests.parts.redis import RedisServer, redis_server
from tests.parts.redis_cluster import shared_redis_cluster
from tests.terminal.doctor import bad, reached, shown


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator["redis.Redis"]:
    with redis.Redis(port=server.port, decode_responses=True) as client:
        yield client


def checked(url: str, *flags: str) -> list[Finding]:
    return reached(check_redis, f"--redis_url={url}", *(flags or ("--broker=redis",)))


def test_a_server_without_redis() -> None:
    assert reached(check_redis, "--broadcast_adapter=http") == []


def test_all_is_well_and_nothing_is_stored(server: RedisServer, client: "redis.Redis") -> None:
    found = checked(server.url, "--broker=redis", "--broadcast_adapter=redis,redisx")
    texts = [each.text for each in found if each.level == "ok"]
    assert [each for each in texts if each.startswith("Redis ") and each.endswith("answers")]
    assert "a message that was published came back" in texts
    assert "the clock of Redis agrees with this machine's" in texts
    assert [each.level for each in bad(found)] == ["warning"]
    assert client.keys() == []


def test_what_may_be_lost_is_a_warning(server: RedisServer, client: "redis.Redis") -> None:
    assert [each.text for each in bad(checked(server.url))] == [
        "Redis keeps nothing on disk: histories and sessions are lost when it restarts"
    ]
    assert bad(checked(server.url, "--pubsub=redis")) == []
    assert client.config_get("dir") != {"dir": str(Path.cwd())}  # its files must not be committed
    client.config_set("appendonly", "yes")
    client.config_set("maxmemory", "100mb")
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert [each.advice for each in bad(checked(server.url))] == [
            "CONFIG SET maxmemory-policy noeviction"
        ]
    finally:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "0")
        client.config_set("appendonly", "no")


def test_permissions(server: RedisServer, client: "redis.Redis") -> None:
    def allow(rules: str) -> None:
        client.execute_command(f"ACL SETUSER cable reset on >s3cret {rules}")  # type: ignore[no-untyped-call]

    url = server.url.replace("//", "//cable:s3cret@")
    allow("~* &* +@all -zadd -hset")
    (finding,) = [each for each in bad(checked(url)) if each.level == "problem"]
    assert finding.text.startswith("the user may not run HSET, ZADD, ")
    assert finding.advice == "allow them to this user: ACL SETUSER NAME +hset +zadd"
    allow("~elsewhere:* &* +@all")
    (finding,) = [each for each in bad(checked(url)) if each.level == "problem"]
    assert "or not on Catenary's keys" in finding.text
    allow("~* +@all resetchannels")
    texts = [each.text for each in bad(checked(url)) if each.level == "problem"]
    assert "a message that was published did not come back within 2 s" in texts
    allow("~* &* +@all -info -config")
    assert bad(checked(url)) == []
    (finding,) = bad(checked(server.url.replace("//", "//cable:wrong@")))
    assert finding.level == "problem"
    assert "s3cret" not in finding.text
    assert "wrong" not in finding.text.replace("WRONGPASS", "")


def test_redis_that_is_away_or_hangs() -> None:
    port = free_port()
    (finding,) = bad(checked(f"redis://:s3cret@127.0.0.1:{port}"))
    assert finding.level == "problem"
    assert finding.text.startswith(f"Redis at 127.0.0.1:{port} is unavailable: ")
    assert "s3cret" not in finding.text


def test_replicas_and_clusters(server: RedisServer, client: "redis.Redis", tmp_path: Path) -> None:
    client.config_set("appendonly", "yes")
    client.replicaof("127.0.0.1", free_port())
    try:
        problems = [each for each in bad(checked(server.url)) if each.level == "problem"]
    finally:
        client.replicaof("no", "one")
        client.config_set("appendonly", "no")
    assert "a replica" in problems[0].text
    flags = ("--cluster-enabled", "yes", "--cluster-config-file", str(tmp_path / "nodes.conf"))
    with redis_server(flags=flags) as cluster:
        (finding,) = [each for each in bad(checked(cluster.url)) if each.level == "problem"]
    assert "is a node of a Redis Cluster" in finding.text
    assert finding.advice == "write redis+cluster://HOST:PORT as redis_url"


def test_a_cluster(server: RedisServer) -> None:
    flags = ("--broker=redis", "--broadcast_adapter=redisx")
    cluster = shared_redis_cluster()
    assert [each for each in bad(checked(cluster.url, *flags)) if each.level == "problem"] == []
    assert all(node.ask("DBSIZE") == 0 for node in cluster.nodes)
    (finding,) = bad(checked(f"{server.url},{server.url}", *flags))
    assert "cluster support disabled" in finding.text


def test_a_missing_library_is_a_finding_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("catenary.adapters.redis.inspection")
    monkeypatch.setitem(sys.modules, "catenary.adapters.redis.inspection", None)
    assert checked("redis://127.0.0.1:1") == []


def test_sentinels(server: RedisServer) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        found = checked(
            "redis://mymaster", f"--redis_sentinels={where},127.0.0.1:{port}", "--broker=redis"
        )
    assert ("ok", f"the sentinel at {where} can be reached") in shown(found)
    first, last = bad(found)
    assert first.text.startswith(f"the sentinel at 127.0.0.1:{port} can't be reached: ")
    assert last.level == "problem"


def test_every_command_of_a_script_has_an_example() -> None:
    commands = inspection.commands_of((*inspection.PUBSUB, *inspection.STORES, *inspection.CLUSTER))
    assert len(commands) > 20
    assert commands - inspection._EXAMPLES.keys() == set()
