"""Ports, limits, libraries."""

import importlib.util
import os
import resource
import socket
from pathlib import Path

import pytest

from catenary.process import interpreter
from catenary.terminal.doctor import machine
from catenary.terminal.doctor.findings import Finding
from catenary.terminal.doctor.ports import check_ports
from tests.parts.ports import free_port
from tests.parts.server import cable_server
from tests.terminal.doctor import bad, configured


def ports(*flags: str) -> list[Finding]:
    return list(check_ports(configured("--host=127.0.0.1", *flags)))


def test_free_and_taken_ports_are_named_by_their_options() -> None:
    flags = (f"--port={free_port()}", f"--http_broadcast_port={free_port()}")
    assert [each.level for each in ports(*flags)] == ["ok", "ok"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (finding,) = bad(ports(flags[0], f"--http_broadcast_port={port}"))
    assert (finding.level, finding.check) == ("problem", "http_broadcast_port")
    assert finding.text.startswith(f"port {port} is taken by process {os.getpid()} (")
    (finding,) = bad(ports("--host=nowhere.invalid", *flags)[:1])
    assert finding.level == "problem"
    assert "nowhere.invalid" in finding.text


def test_ports_of_the_embedded_nats_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"--enats_addr=nats://127.0.0.1:{taken.getsockname()[1]}"
        flags = (f"--port={free_port()}", "--broadcast_adapter=nats", "--embed_nats", address)
        (finding,) = bad(ports(*flags))
    assert finding.check == "enats_addr"


def test_a_server_that_runs_already_is_a_warning() -> None:
    with cable_server("--public", "--norpc", "--broadcast_adapter=http") as server:
        found = ports(f"--port={server.port}", f"--http_broadcast_port={server.broadcast_port}")
    assert [each.level for each in bad(found)] == ["warning", "warning"]
    assert f"process {server.process.pid} " in found[0].text


def test_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for files, flag, level in (
        (100_000, "--max-conn=50000", "ok"),
        (50_000, "--max-conn=50000", "problem"),
        (resource.RLIM_INFINITY, "--max-conn=50000", "ok"),
        (1_024, "--max-conn=100", "warning"),
        (1_024, "--max-conn=0", "warning"),
    ):
        monkeypatch.setattr(resource, "getrlimit", lambda _, files=files: (1_024, files))
        found = list(machine.check_limits(configured(flag)))
        (finding,) = [each for each in found if each.check == "open files"]
        assert finding.level == level
        bad(found)


def test_limits_of_the_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, text in (
        ("core/somaxconn", "128"),
        ("netfilter/nf_conntrack_max", "1000"),
        ("ipv4/ip_local_port_range", "8000 8010"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    monkeypatch.setattr(machine, "_SYSCTL", tmp_path)
    found = bad(machine.check_limits(configured("--port=8005", "--tcp_timeout=0")))
    checks = [each.check for each in found if each.check != "open files"]
    assert checks == ["backlog", "firewall", "local ports", "local ports", "keep-alive"], found
    found = bad(machine.check_limits(configured("--rpc_host=http://localhost/_anycable")))
    assert [each.level for each in found if each.check == "local ports"] == ["problem"]


def test_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    options = configured(
        "--redis_url=redis://x", "--jwt_jwks_url=http://x/", "--embed_nats", "--otel"
    )
    assert bad(machine.check_extras(options)) == []
    find = importlib.util.find_spec
    gone = ("redis", "google.protobuf", "jwt", "uvloop", "opentelemetry.sdk")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in gone else find(name)
    )
    monkeypatch.setattr(interpreter, "is_optimized", lambda: False)
    found = bad(machine.check_extras(options))
    assert [each.advice.rpartition("[")[2].rstrip("]'") for each in found] == [
        "redis",
        "grpc",
        "jwt",
        "otel",
    ]
    assert [each.level for each in machine.check_interpreter()] == ["warning", "problem"]
