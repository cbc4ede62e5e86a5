"""Health and readiness of a server: the answers of a whole process."""

import asyncio
import json
import os
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path
from resource import RLIM_INFINITY

import pytest

from catenary.config.effective import effective
from catenary.process import resources
from catenary.process.resources import max_open_files
from catenary.server import health_checks
from catenary.server.assembly import Assembly
from catenary.server.build import ServerBuild
from catenary.supervision.health import CheckResult, is_ready
from tests.config.sources import options
from tests.parts.application import TestApplication
from tests.parts.cable_client import CableClient
from tests.parts.grpc_app import GrpcServer
from tests.parts.heart import in_loop
from tests.parts.http_app import http_server
from tests.parts.nats import NatsServer, nats_server
from tests.parts.ports import free_port
from tests.parts.redis import RedisServer, redis_server
from tests.parts.reloadable_server import reloadable_server
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


def connect(server: CableServer, times: int, query: str) -> None:
    for _ in range(times):
        with CableClient(f"{server.cable_url}?{query}") as client:
            client.wait_for_close()


def test_an_application_that_fails_makes_the_node_unready_for_a_while() -> None:
    flags = (
        "--ready_connect_failures=50",
        "--ready_connect_calls=4",
        "--ready_connect_window=2",
        "--broadcast_adapter=http",
    )
    with (
        http_server(TestApplication()) as application,
        cable_server(*flags, f"--rpc_host={application.url}") as server,
    ):
        connect(server, 5, "reject=1")
        assert asked(server) == (200, "OK\n")
        connect(server, 5, "error=1")
        assert wait_for_readiness(server, 503) == "the application fails to answer Connect calls\n"
        assert checks(server)["connect calls"]["state"] == "failing"
        wait_for_readiness(server, 200)  # without new clients, the window empties


def test_code_workers_that_can_not_be_started(tmp_path: Path) -> None:
    with reloadable_server(tmp_path) as reloadable:
        server = reloadable.serve("--app_workers=1")
        (pid,) = reloadable.wait_for_generation(1)
        assert checks(server)["application"]["state"] == "ok"
        reloadable.write_code("raise SystemExit(3)")
        os.kill(pid, signal.SIGKILL)
        assert wait_for_readiness(server, 503) == "no code worker accepts calls\n"
        reloadable.write(2)
        wait_for_readiness(server, 200)


def result(build: ServerBuild, name: str) -> CheckResult:
    (found,) = (each for each in build.health() if each.name == name)
    return found


async def until(build: ServerBuild, name: str, state: str) -> CheckResult:
    async with asyncio.timeout(20):
        while result(build, name).state != state:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return result(build, name)


@in_loop
async def test_a_grpc_application_that_is_away_is_reported_to_operators_only() -> None:
    port = free_port()
    flags = (f"--rpc_host=127.0.0.1:{port}", "--broadcast_adapter=http")
    build = Assembly(effective(options(*flags)), is_mounted=True).build
    for start in build.start:
        await start()
    try:
        failing = await until(build, "application", "failing")
        assert f"127.0.0.1:{port}" in failing.reason
        assert failing.summary == "the application is unavailable"
        assert is_ready(build.health())
        server = GrpcServer(TestApplication(), port=port)
        server.start()
        await until(build, "application", "ok")
        server.stop()
    finally:
        await build.shutdown.run(5)


@in_loop
async def test_open_files_may_have_no_limit() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resources, "max_open_files", lambda: RLIM_INFINITY)
        build = ServerBuild(effective(options()))
        health_checks.add_limits(build)
    build.counters.open_connections_num = 100_000
    assert result(build, "limits").state == "ok"


@in_loop
async def test_limits_are_reported_before_they_are_reached() -> None:
    build = ServerBuild(effective(options()))
    health_checks.add_limits(build)
    build.figures.limit("max_conn", lambda: build.counters.open_connections_num, 100)
    build.counters.open_connections_num = 89
    assert result(build, "limits").state == "ok"
    build.counters.open_connections_num = 90
    assert result(build, "limits").reason == "max_conn: 90 of 100"
    build.counters.open_connections_num = max_open_files()
    assert result(build, "limits").reason.startswith(f"open files: {max_open_files()} of ")
    assert result(build, "event loop").state == "ok"
    build.counters.event_loop_lag_ms = 800
    assert result(build, "event loop").reason == "the event loop was blocked for 800 ms within 5 s"
    assert is_ready(build.health())
