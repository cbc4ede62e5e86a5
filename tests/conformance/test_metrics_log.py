"""Five scenarios that anycable-go is tested with: metrics in the log, and which features need no application.

Counterparts of features/{metrics,jwt,streams,turbo_rpc_less,file_config}.testfile (anycable/anycable). Each runs on the
reference, too. Increases of all lines are added up, because a line may end between two events.
"""

import json
import os
import re
import subprocess
import time
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import COMMANDS, StartServer
from tests.parts.cable_client import V1, CableClient, confirmed, identifier
from tests.parts.conformance_app import ConformanceApp
from tests.parts.server import CableServer
from tests.parts.tokens import SECRET, signed_name, token

RPC = ("rpc_call_total", "rpc_error_total", "rpc_retries_total")
LOG_RPC = (
    "--metrics_rotate_interval=1",
    "--metrics_log",
    f"--metrics_log_filter={','.join(RPC)}",
)
NO_CALLS = dict.fromkeys(RPC, 0)
UNAUTHORIZED = {"type": "disconnect", "reason": "unauthorized", "reconnect": False}


def logged(server: CableServer, *names: str) -> dict[str, int]:
    """The sums of these metrics over all lines so far, which have them in the order of their names and no others."""
    lines = re.findall(
        " ".join(rf"{name}=(\d+)" for name in names) + r"$", server.output(), re.MULTILINE
    )
    assert lines, server.output()
    return {name: sum(int(line[n]) for line in lines) for n, name in enumerate(names)}


def one_line_later(server: CableServer, name: str) -> None:
    """Waits for a line that was written after this was called."""
    lines = server.output().count(f"{name}=")
    server.wait_for_output(f"{name}=", times=lines + 1)


# metrics


def test_calls_to_the_application_are_logged(
    start_server: StartServer, app: ConformanceApp
) -> None:
    names = ("failed_auths_total", "rpc_call_total")
    with ExitStack() as stack:
        server = stack.enter_context(
            start_server(
                f"--rpc_host={app.host}",
                "--disconnect_mode=never",
                "--metrics_rotate_interval=1",
                "--metrics_log",
                f"--metrics_log_filter={','.join(reversed(names))}",
            )
        )
        for _ in range(2):
            stack.enter_context(CableClient(server.cable_url)).receive_welcome()
        one_line_later(server, "rpc_call_total")
        server.stop()
        assert logged(server, *names) == {"failed_auths_total": 0, "rpc_call_total": 2}


# jwt


@pytest.fixture(scope="module")
def guarded(start_server: StartServer) -> Iterator[CableServer]:
    """A server that admits nobody without a token, in a place of the token's own name."""
    with start_server(
        f"--secret={SECRET}", "--jwt_param=token", "--enforce_jwt", *LOG_RPC
    ) as server:
        yield server


@pytest.mark.parametrize("place", ["query", "header", "subprotocol"])
def test_a_token_is_read_from_each_place_without_a_call(guarded: CableServer, place: str) -> None:
    good = token({"ext": json.dumps({}), "exp": int(time.time()) + 60}, SECRET)
    url = guarded.cable_url
    options: dict[str, Any] = {}
    if place == "query":
        url = f"{url}?token={good}"
    elif place == "header":
        options = {"headers": {"x-token": good}}
    else:
        options = {"subprotocols": (*V1, f"anycable-token.{good}")}
    with CableClient(url, **options) as client:
        client.receive_welcome()


def test_a_client_without_a_token_is_refused_without_a_call(guarded: CableServer) -> None:
    with CableClient(guarded.cable_url) as client:
        assert client.receive() == UNAUTHORIZED
    one_line_later(guarded, "rpc_call_total")
    assert logged(guarded, *RPC) == NO_CALLS


# streams


def test_public_streams_need_no_calls(start_server: StartServer) -> None:
    with start_server("--public", *LOG_RPC) as server:
        name = identifier("$pubsub", stream_name="stream/2023")
        with CableClient(server.cable_url) as client:
            client.receive_welcome()
            assert client.subscribe(name) == confirmed(name)
        one_line_later(server, "rpc_call_total")
        assert logged(server, *RPC) == NO_CALLS


# turbo_rpc_less


def test_turbo_streams_of_clients_with_tokens_need_no_calls(start_server: StartServer) -> None:
    with start_server("--turbo_rails_key=s3Krit", f"--jwt_id_key={SECRET}", *LOG_RPC) as server:
        good = token({"ext": json.dumps({}), "exp": int(time.time()) + 60}, SECRET)
        signed = signed_name("chat/2023", "s3Krit")
        name = identifier("Turbo::StreamsChannel", signed_stream_name=signed)
        with CableClient(f"{server.cable_url}?jid={good}") as client:
            client.receive_welcome()
            assert client.subscribe(name) == confirmed(name)
        one_line_later(server, "rpc_call_total")
        assert logged(server, *RPC) == NO_CALLS


# file_config

FLAGS = (
    "--debug",
    "--noauth",
    *("--port", "2024"),
    "--broadcast_adapter=http,redisx",
    "--sse",
    "--metrics_tags=env:production,node_id:xyz",
    "--statsd_tags_format=datadog",
)
VARIABLES = {
    "ANYCABLE_SECRET": "file-secret",
    "ANYCABLE_NODE_ID": "node-1",
    "ANYCABLE_STATSD_HOST": "localhost:8125",
}


class Configuration:
    """Runs ``--print-config`` in a directory whose anycable.toml was printed with other flags and variables."""

    def __init__(self, command: tuple[str, ...], directory: Path) -> None:
        self._command = command
        self._directory = directory
        (directory / "anycable.toml").write_text(self._printed(FLAGS, VARIABLES))

    def read(self, *flags: str, **variables: str) -> dict[str, Any]:
        """The printed metrics, as a program reads them."""
        return tomllib.loads(self._printed(flags, variables))

    def _printed(self, flags: tuple[str, ...], variables: dict[str, str]) -> str:
        return subprocess.run(
            [*self._command, *flags, "--print-config"],
            env={"PATH": os.environ["PATH"], **variables},
            cwd=self._directory,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=60,
        ).stdout


@pytest.fixture
def configuration(command: str, tmp_path: Path) -> Configuration:
    return Configuration(COMMANDS[command], tmp_path)


def test_a_printed_configuration_is_loaded_again(configuration: Configuration) -> None:
    config = configuration.read()
    assert config["node_id"] == "node-1"
    assert config["noauth"] is True
    assert config["secret"] == "file-secret"
    assert config["broadcast_adapters"] == ["http", "redisx"]
    assert config["logging"]["debug"] is True
    assert config["server"]["port"] == 2024
    assert config["sse"]["enabled"] is True
    assert config["metrics"]["tags"] == {"env": "production", "node_id": "xyz"}
    assert config["metrics"]["statsd"]["host"] == "localhost:8125"
    assert config["metrics"]["statsd"]["tags_format"] == "datadog"
    assert config["rpc"]["proxy_headers"] == ["cookie"]


def test_a_configuration_file_is_ignored_on_request(configuration: Configuration) -> None:
    config = configuration.read("--ignore-config-path")
    assert config.get("node_id") is None
    assert config["secret"] == "none"


def test_variables_and_flags_override_the_file(configuration: Configuration) -> None:
    config = configuration.read(
        "--port=2025",
        "--statsd_tags_format=influx",
        ANYCABLE_NODE_ID="node-2",
        ANYCABLE_PORT="312",
        ANYCABLE_SECRET="override",
        ANYCABLE_DEBUG="false",
    )
    assert config["node_id"] == "node-2"
    assert config["noauth"] is True
    assert config["secret"] == "override"
    assert config["broadcast_adapters"] == ["http", "redisx"]
    assert config["server"]["port"] == 2025
    assert config["sse"]["enabled"] is True
    assert config["metrics"]["tags"] == {"env": "production", "node_id": "xyz"}
    assert config["metrics"]["statsd"]["host"] == "localhost:8125"
    assert config["metrics"]["statsd"]["tags_format"] == "influx"
    assert config["logging"].get("debug") is None
