"""Redis behind Sentinel and TLS."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from catenary.channels.environment_settings import publisher_from_environment
from catenary.channels.publishers import publisher
from catenary.channels.publishers.redis import RedisPublisher, RedisStreamPublisher
from catenary.config.addresses import RedisAddress
from catenary.errors import BackendError
from tests.parts.certificates import Authority
from tests.parts.ports import free_port, wait_until_listening
from tests.parts.redis import redis_server
from tests.parts.redis_cluster import shared_redis_cluster


@contextmanager
def listening(port: int, *arguments: str) -> Iterator[None]:
    """Runs a redis-server with these arguments for the length of a with block."""
    process = subprocess.Popen(
        ["redis-server", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until_listening(port)
        yield
    finally:
        process.kill()
        process.wait()


def test_sentinels_name_the_master(tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "sentinel.conf"
    with redis_server() as master:
        config.write_text(f"port {port}\nsentinel monitor main 127.0.0.1 {master.port} 1\n")
        with listening(port, str(config), "--sentinel"):
            sending = publisher_from_environment(
                {
                    "ANYCABLE_BROADCAST_ADAPTER": "redisx",
                    "ANYCABLE_REDIS_URL": "redis://main",
                    "ANYCABLE_REDIS_SENTINELS": f"127.0.0.1:{free_port()},127.0.0.1:{port}",
                }
            )
            assert sending is not None
            sending.publish(b"1")
            sending.publish(b"2")
            sending.close()
        directly = RedisStreamPublisher(master.url)
        assert directly._redis.xlen("__anycable__") == 2
        directly.close()


def test_the_nodes_of_a_cluster() -> None:
    cluster = shared_redis_cluster()
    sending = publisher(cluster.url)
    first = cluster.nodes[0]
    with redis.Redis(port=first.port).pubsub() as subscribed:  # type: ignore[no-untyped-call]
        subscribed.subscribe("__anycable__")
        subscribed.get_message(timeout=5)
        sending.publish(b"1")
        message = subscribed.get_message(ignore_subscribe_messages=True, timeout=5)
    assert message is not None
    assert message["data"] == b"1"
    sending.close()
    queue = publisher(f"redisx://127.0.0.1:{cluster.nodes[1].port},{cluster.url}")
    queue.publish(b"2")
    queue.close()
    assert cluster.primary_of("__anycable__").ask("XLEN", "__anycable__") == 1


def test_a_certificate_is_verified_unless_the_options_say_otherwise(tmp_path: Path) -> None:
    authority = Authority()
    issued = authority.issue("localhost")
    paths = {name: tmp_path / f"{name}.pem" for name in ("ca", "cert", "key")}
    paths["ca"].write_bytes(authority.pem)
    paths["cert"].write_bytes(issued.certificate)
    paths["key"].write_bytes(issued.key)
    port = free_port()
    tls = (
        *("--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no", "--save", ""),
        *("--tls-cert-file", str(paths["cert"]), "--tls-key-file", str(paths["key"])),
        *("--tls-ca-cert-file", str(paths["ca"])),
    )
    url = f"rediss://localhost:{port}"
    with listening(port, *tls):
        unknown = RedisPublisher(url)
        with pytest.raises(BackendError, match="CERTIFICATE_VERIFY_FAILED"):
            unknown.publish(b"1")
        unknown.close()
        for address in (
            RedisAddress(url=url),
            RedisAddress(url=url, tls_verify=True, tls_ca_path=str(paths["ca"])),
        ):
            known = RedisPublisher(address)
            known.publish(b"1")
            known.close()
