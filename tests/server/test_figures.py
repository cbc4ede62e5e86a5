"""The figures of a running server, as Prometheus gets them."""

import json
import os
import platform
import re
import signal
import stat
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from catenary import __version__
from tests.parts.cable_client import CableClient
from tests.parts.server import CableServer, cable_server

ROOT = Path(__file__).parents[2]
PUBLIC = ("--public", "--norpc", "--broadcast_adapter=http")


def scrape(port: int) -> dict[str, int]:
    """The figures without other labels, added for all workers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as response:
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        lines = response.read().decode().splitlines()
    found = [re.fullmatch(r'anycable_go_(\w+)(?:\{worker="\d+"\})? (\d+)', line) for line in lines]
    values: dict[str, int] = {}
    for each in filter(None, found):
        values[each[1]] = values.get(each[1], 0) + int(each[2])
    return values


def families(port: int) -> dict[str, Metric]:
    """The figures by their names with prefix, as Prometheus' own parser reads them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as response:
        text = response.read().decode()
    return {
        f"{each.name}_total" if each.type == "counter" else each.name: each
        for each in text_string_to_metric_families(text)
    }


ANYCABLE_GO = {
    **dict.fromkeys(
        [
            "broadcast_msg_total",
            "client_msg_total",
            "data_rcvd_total",
            "data_sent_total",
            "disconnected_slow_clients_total",
            "ds_poll_requests_total",
            "ds_requests_total",
            "ds_sse_requests_total",
            "failed_auths_total",
            "failed_broadcast_msg_total",
            "failed_client_msg_total",
            "failed_server_msg_total",
            "publications_total",
            "remote_commands_total",
            "rpc_call_total",
            "rpc_canceled_total",
            "rpc_error_total",
            "rpc_retries_total",
            "rpc_timeout_total",
            "server_msg_total",
            "timeout_server_msg_total",
            "long_poll_stale_requests_total",
        ],
        "counter",
    ),
    **dict.fromkeys(
        [
            "broadcast_streams_num",
            "clients_num",
            "clients_uniq_num",
            "disconnect_queue_size",
            "ds_poll_clients_num",
            "ds_sse_clients_num",
            "goroutines_num",
            "grpc_active_conn_num",
            "heap_alloc_total",
            "heap_idle_bytes",
            "heap_released_bytes",
            "heap_sys_bytes",
            "mem_sys_bytes",
            "rpc_pending_num",
            "rpc_capacity_num",
            "sse_clients_num",
            "stack_sys_bytes",
            "long_poll_clients_num",
        ],
        "gauge",
    ),
}
"""What anycable-go 1.6.16 shows with an application over gRPC, ``--sse``, ``--ds`` and ``ANYCABLE_MEMORY_METRICS=1``, with its
adaptive concurrency, and what AnyCable Pro shows for long polling by its documentation."""

WITHOUT_COUNTERPART = {
    "failed_server_msg_total",
    "timeout_server_msg_total",
    "heap_idle_bytes",
    "heap_released_bytes",
}
"""docs/differences.md says why."""


@pytest.fixture(scope="module")
def remote() -> Iterator[CableServer]:
    """A server whose application is away, with everything that has figures of its own."""
    flags = (
        "--rpc_host=127.0.0.1:1",
        "--broadcast_adapter=http",
        "--sse",
        "--ds",
        "--poll",
        "--broker=memory",
    )
    env = {"ANYCABLE_MEMORY_METRICS": "1"}
    with cable_server(*flags, "--metrics_http=/metrics", "--max-conn=100", env=env) as server:
        yield server


def test_the_names_and_types_are_those_of_anycable_go(remote: CableServer) -> None:
    ours = {
        name.removeprefix("anycable_go_"): each.type for name, each in families(remote.port).items()
    }
    assert {
        name: kind for name, kind in ANYCABLE_GO.items() if ours.get(name) != kind
    }.keys() == WITHOUT_COUNTERPART
    differences = (ROOT / "docs/differences.md").read_text()
    assert [name for name in WITHOUT_COUNTERPART if f"`{name}`" not in differences] == []


def test_the_process_is_described_as_by_prometheus_client_libraries(remote: CableServer) -> None:
    shown = families(remote.port)
    names = {name for name in shown if name.startswith("process_")}
    assert names == {
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_start_time_seconds",
    }
    value = {name: shown[name].samples[0].value for name in names}
    assert 0 < value["process_cpu_seconds_total"] < 60
    assert value["process_virtual_memory_bytes"] >= value["process_resident_memory_bytes"] > 10e6
    assert 5 < value["process_open_fds"] < value["process_max_fds"]
    assert time.time() - 600 < value["process_start_time_seconds"] < time.time()


def test_the_build_is_shown(remote: CableServer) -> None:
    (sample,) = families(remote.port)["anycable_go_build_info"].samples
    assert (sample.value, sample.labels) == (
        1,
        {
            "version": __version__,
            "python": platform.python_version(),
            "implementation": platform.python_implementation().lower(),
        },
    )


HELLO = json.dumps({"channel": "$pubsub", "stream_name": "hello"})


def test_deliveries_and_handshakes_are_measured() -> None:
    with cable_server(*PUBLIC, "--metrics_http=/metrics") as server:
        with CableClient(server.cable_url) as client:
            client.receive_welcome()
            client.subscribe(HELLO)
            body = json.dumps({"stream": "hello", "data": "1"}).encode()
            with urllib.request.urlopen(server.broadcast_url, body, timeout=20) as response:
                assert response.status == 201
            assert client.receive()["message"] == 1
        shown = families(server.port)
    for name in ("delivery_seconds", "delivery_clients", "handshake_seconds"):
        values = {
            each.name.rpartition("_")[2]: each.value
            for each in shown[f"anycable_go_{name}"].samples
        }
        assert values["count"] == 1, name
        assert 0 < values["sum"] < 30, name


def test_every_limit_is_shown_beside_its_use(remote: CableServer) -> None:
    with CableClient(remote.cable_url):
        shown = families(remote.port)
    used, limits = (
        {each.labels["limit"]: each.value for each in shown[f"anycable_go_{name}"].samples}
        for name in ("limit_used", "limit_max")
    )
    expected = {
        "max_conn": 100,
        "max_pending_requests_size": 64 * 1024 * 1024,
        "rpc_concurrency": 28,
        "deliveries": 256,
        "disconnects": 100_000,
        "handshakes": 4096,
    }
    assert {name: limits.get(name) for name in expected} == expected
    assert used.keys() == limits.keys()
    assert used["max_conn"] == 1
    queues = {each.labels["queue"] for each in shown["anycable_go_queue_length"].samples}
    assert queues >= {"calls", "deliveries", "disconnects", "handshakes"}


def test_clients_are_counted_at_the_server_s_own_port() -> None:
    with cable_server(*PUBLIC, "--metrics_http=/metrics") as server:
        with CableClient(server.cable_url) as client:
            client.receive_welcome()
            figures = scrape(server.port)
            assert (figures["clients_num"], figures["open_connections_num"]) == (1, 1)
            assert figures["mem_sys_bytes"] > 10_000_000
            assert figures["pubsub_trouble_num"] == 0
        deadline = time.monotonic() + 5
        while scrape(server.port)["clients_num"] != 0:
            assert time.monotonic() < deadline


def test_nothing_is_shown_unless_asked_for() -> None:
    with cable_server(*PUBLIC) as server, pytest.raises(urllib.error.HTTPError, match="404"):
        scrape(server.port)


# Several workers


class Workers(NamedTuple):
    """Two workers, whose temporary files are in ``temporary``."""

    server: CableServer
    temporary: Path


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    flags = (*PUBLIC, "--workers=2", "--metrics_http=/metrics")
    with tempfile.TemporaryDirectory() as temporary:
        with cable_server(*flags, env={"TMPDIR": temporary}) as server:
            for number in (1, 2):
                server.wait_for_output(f"Worker {number} serves")
            yield Workers(server, Path(temporary))
        assert list(Path(temporary).glob("catenary-workers-*")) == [], "removed at the end"


def by_worker(port: int, name: str) -> dict[str, float]:
    """The values of a figure by worker."""
    samples = families(port)[f"anycable_go_{name}"].samples
    assert [each.labels for each in samples if set(each.labels) != {"worker"}] == []
    return {each.labels["worker"]: each.value for each in samples}


def test_one_scrape_has_the_figures_of_all_workers_at_the_clients_port(
    workers: Workers,
) -> None:
    server = workers.server
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(CableClient(server.cable_url)).receive_welcome()
        scrapes = [by_worker(server.port, "clients_num") for _ in range(10)]
    assert scrapes == [scrapes[0]] * 10, "whichever worker answers"
    assert scrapes[0].keys() == {"1", "2"}
    assert sum(scrapes[0].values()) == 10
    assert by_worker(server.port, "worker_up") == {"1": 1, "2": 1}
    shown = families(server.port)
    starts = {
        each.labels["worker"]: each.value for each in shown["process_start_time_seconds"].samples
    }
    assert starts.keys() == {"1", "2"}
    (lag,) = (each for name, each in shown.items() if name.endswith("event_loop_lag_seconds"))
    counts = [each.labels for each in lag.samples if each.name.endswith("_count")]
    assert counts == [{"worker": "1"}, {"worker": "2"}]


def test_a_worker_that_is_replaced_is_asked_again(workers: Workers) -> None:
    server = workers.server
    found = re.findall(r"Worker (\d) serves \(pid (\d+)\)", server.output())
    os.kill({number: int(pid) for number, pid in found}["2"], signal.SIGKILL)
    server.wait_for_output("Worker 2 serves", times=2)
    assert by_worker(server.port, "worker_up") == {"1": 1, "2": 1}
    (directory,) = workers.temporary.glob("catenary-workers-*")
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700, "for the user of the server only"
