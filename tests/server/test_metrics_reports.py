"""Reports of a running server: to a real UDP socket in each format of tags, and in both formats of the log."""

import json
import re
from contextlib import ExitStack

import pytest

from tests.parts.cable_client import CableClient
from tests.parts.ports import free_port
from tests.parts.server import cable_server
from tests.parts.statsd import StatsdListener

FLAGS = ("--public", "--norpc", "--broadcast_adapter=http", "--metrics_rotate_interval=1")


@pytest.mark.parametrize("tags_format", ["datadog", "influxdb", "graphite"])
def test_statsd_gets_increases_and_values_with_tags(tags_format: str) -> None:
    with (
        StatsdListener(tags_format) as statsd,
        cable_server(
            *FLAGS,
            f"--statsd_host=localhost:{statsd.port}",
            "--statsd_prefix=app.",
            f"--statsd_tags_format={tags_format}",
            "--statsd_max_packet_size=300",
            "--metrics_tags=environment:production",
        ) as server,
        ExitStack() as stack,
    ):
        for _ in range(3):
            stack.enter_context(CableClient(server.cable_url)).receive_welcome()
        tags = {"environment": "production"}
        increases = 0.0
        while increases < 3:
            sent = statsd.metric("app.server_msg_total")
            assert (sent.kind, sent.tags) == ("c", tags)
            increases += sent.value
        assert increases == 3
        clients = statsd.metric("app.clients_num")
        assert clients == ("app.clients_num", 3, "g", tags)
        assert len(statsd.packet()) <= 300


def test_the_last_interval_is_reported_when_a_server_ends() -> None:
    with StatsdListener() as statsd:
        flags = (*FLAGS[:-1], "--metrics_rotate_interval=3600", "--metrics_log")
        address = f"--statsd_host=127.0.0.1:{statsd.port}"
        with cable_server(*flags, address) as server:
            with CableClient(server.cable_url) as client:
                client.receive_welcome()
            server.stop()
            assert re.search(r" metrics: .*\bserver_msg_total=1\b", server.output())
        assert statsd.metric("anycable_go.server_msg_total").value == 1


def test_each_worker_reports_its_own_with_a_tag() -> None:
    with StatsdListener() as statsd:
        flags = (*FLAGS, "--workers=2", "--metrics_log", "--metrics_log_filter=rpc_call_total")
        address = f"--statsd_host=127.0.0.1:{statsd.port}"
        with cable_server(*flags, address) as server, ExitStack() as stack:
            server.wait_for_output("Worker 2 serves")
            for _ in range(10):
                stack.enter_context(CableClient(server.cable_url)).receive_welcome()
            clients = [
                statsd.metric("anycable_go.clients_num", worker=worker).value for worker in "12"
            ]
            while sum(clients) < 10:
                clients = [
                    statsd.metric("anycable_go.clients_num", worker=worker).value for worker in "12"
                ]
            assert sum(clients) == 10
            for worker in "12":
                server.wait_for_output(f" metrics: rpc_call_total=0 worker={worker}\n")


def test_a_server_without_statsd_serves_and_says_so() -> None:
    with cable_server(
        *FLAGS, f"--statsd_host=127.0.0.1:{free_port()}", "--metrics_http=/metrics"
    ) as server:
        server.wait_for_output("Metrics for StatsD at 127.0.0.1")
        assert server.figure("statsd_lost_lines_total") > 0
        with CableClient(server.cable_url) as client:
            client.receive_welcome()


def test_lines_that_are_longer_than_a_packet_are_counted_and_named_once() -> None:
    with (
        StatsdListener() as statsd,
        cable_server(
            *FLAGS,
            f"--statsd_host=127.0.0.1:{statsd.port}",
            "--statsd_max_packet_size=30",
            "--metrics_http=/metrics",
        ) as server,
    ):
        assert len(statsd.packet()) <= 30
        server.wait_for_output("each takes more than statsd_max_packet_size=30")
        assert server.figure("statsd_lost_lines_total") > 0


def test_a_line_of_json_has_a_number_for_each_metric() -> None:
    flags = (*FLAGS, "--log_format=json", "--metrics_log")
    wanted = "--metrics_log_filter=clients_num,server_msg_total,x_num"
    with cable_server(*flags, wanted) as server, CableClient(server.cable_url) as client:
        client.receive_welcome()
        output = server.wait_for_output('"clients_num":1')
    lines = [json.loads(line) for line in output.splitlines() if '"clients_num"' in line]
    assert {tuple(line) for line in lines} == {
        ("ts", "level", "event", "msg", "node", "logger", "clients_num", "server_msg_total")
    }
    assert sum(line["server_msg_total"] for line in lines) == 1
    assert "metrics_log_filter: this server has no metrics named x_num" in output


def test_all_metrics_fit_on_a_line() -> None:
    with cable_server(*FLAGS, "--metrics_log") as server:
        output = server.wait_for_output("ds_requests_total=")
    (line, *_) = (line for line in output.splitlines() if " metrics: " in line)
    names = [field.partition("=")[0] for field in line.split(" metrics: ")[1].split()]
    assert names == sorted(names)
    assert len(names) > 60
    assert {"clients_num", "webhook_retries_total"} <= set(names)


def test_a_level_above_info_is_said_to_leave_no_metrics() -> None:
    with cable_server(*FLAGS, "--metrics_log", "--log_level=warn") as server:
        assert "metrics_log writes no lines: expected log_level=info or debug" in server.output()
