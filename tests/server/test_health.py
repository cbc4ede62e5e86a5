"""Health and readiness of a server: the answers of a whole process."""

import json
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.parts.nats import NatsServer, nats_server
from tests.parts.redis import RedisServer, redis_server
from tests.parts.server import CableServer, cable_server

FLAGS = ("--public", "--norpc", "--broadcast_adapter=http")

Checks = dict[str, dict[str, str]]


def asked(server: CableServer, accept: str = "*/*", path: str = "/ready") -> tuple[int, str]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}{path}", headers={"Accept": accept}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def checks(server: CableServer) -> Checks:
    return {
        each["name"]: each for each in json.loads(asked(server, "application/json")[1])["checks"]
    }


def wait_for_readiness(server: CableServer, status: int) -> str:
    deadline = time.monotonic() + 20
    while True:
        found, text = asked(server)
        if found == status:
            return text
        assert time.monotonic() < deadline, text
        time.sleep(0.02)


def test_a_server_that_waits_for_its_shutdown_is_alive_and_not_ready() -> None:
    with cable_server(*FLAGS, "--shutdown_delay=30") as server:
        assert asked(server) == (200, "OK\n")
        server.process.send_signal(signal.SIGTERM)
        assert wait_for_readiness(server, 503) == "the server is shutting down\n"
        assert checks(server)["shutdown"]["state"] == "failing"
        assert asked(server, path="/health") == (200, "OK\n")
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(20)


def test_redis_that_ends_or_hangs() -> None:
    with redis_server() as redis:
        check_lost_engine("redis", "Redis is unavailable", redis, f"--redis_url={redis.url}")


def test_nats_that_ends_or_hangs(tmp_path: Path) -> None:
    with nats_server(store_dir=tmp_path) as nats:
        summary = "NATS or its JetStream is unavailable"
        check_lost_engine("nats", summary, nats, f"--nats_servers={nats.url}")


def test_nats_without_jetstream() -> None:
    with (
        nats_server() as nats,
        cable_server(*FLAGS, "--broker=nats", f"--nats_servers={nats.url}") as server,
    ):
        text = wait_for_readiness(server, 503)
        assert text.splitlines()[0] == "NATS or its JetStream is unavailable"
        assert "JetStream" in server.output()


def check_lost_engine(
    name: str, summary: str, engine: RedisServer | NatsServer, where: str
) -> None:
    """Its process ends and starts again, then it stops answering for a while."""
    lost = {summary, "messages from the other nodes do not arrive"}
    with cable_server(*FLAGS, f"--broker={name}", where) as server:
        wait_for_readiness(server, 200)
        before = checks(server)
        assert {before[each]["state"] for each in (name, "pubsub", "broker")} == {"ok"}
        assert {before[each]["state"] for each in {"redis", "nats"} - {name}} == {"off"}
        engine.stop()
        assert lost & set(wait_for_readiness(server, 503).splitlines())
        assert str(engine.port) not in asked(server, "text/html")[1]
        failing = checks(server)[name]
        assert (failing["state"], failing["reason"]) == ("failing", summary)
        assert failing["since"] > before[name]["since"]
        engine.start()
        wait_for_readiness(server, 200)
        assert checks(server)[name]["since"] > failing["since"]
        engine.freeze()
        try:
            assert lost & set(wait_for_readiness(server, 503).splitlines())
            assert asked(server, path="/health") == (200, "OK\n")
        finally:
            engine.thaw()
        wait_for_readiness(server, 200)
