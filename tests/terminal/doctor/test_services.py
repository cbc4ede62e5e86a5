"""Token keys, webhooks and StatsD."""

import json
import socket

import pytest

from catenary.terminal.doctor.services import check_services
from tests.parts.key_set import RSA, key_set_server, web_key
from tests.parts.ports import free_port
from tests.parts.webhook_receiver import webhook_receiver
from tests.terminal.doctor import bad, reached, shown


def test_nothing_is_named() -> None:
    assert reached(check_services) == []


def test_token_keys() -> None:
    with key_set_server(web_key(RSA, "r")) as server:
        (finding,) = reached(check_services, f"--jwt_jwks_url={server.url}")
        assert (finding.level, finding.text[:7]) == ("ok", "1 from ")
        server.status = 404
        (finding,) = bad(reached(check_services, f"--jwt_jwks_url={server.url}"))
        assert finding.level == "problem"
        assert "404" in finding.text
        server.status, server.body = 200, b'{"keys":[]}'
        (finding,) = bad(reached(check_services, f"--jwt_jwks_url={server.url}"))
        assert "no signature key" in finding.text


def app(url: str) -> str:
    given = {"id": "shop", "key": "k", "secret": "s3cret", "webhooks": [{"url": url}]}
    return f"--pusher_apps={json.dumps([given])}"


def test_webhooks_are_connected_to_and_not_called() -> None:
    with webhook_receiver() as receiver:
        (finding,) = reached(check_services, app(f"{receiver.url}/s3cret"))
    assert finding.level == "ok"
    assert receiver.received == []
    port = free_port()
    (finding,) = bad(reached(check_services, app(f"http://127.0.0.1:{port}/s3cret")))
    assert finding.text.startswith(f"URL 1 of the Pusher app shop (127.0.0.1:{port}) can't be")
    assert "s3cret" not in finding.text


def test_the_collector_of_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reached(check_services, "--otel", "--otel_exporter=console") == []
    with socket.create_server(("127.0.0.1", 0)) as collector:
        where = f"127.0.0.1:{collector.getsockname()[1]}"
        expected = [("ok", f"the collector at {where} can be reached")]
        assert (
            shown(reached(check_services, "--otel", f"--otel_endpoint=http://{where}")) == expected
        )
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{where}")
        assert shown(reached(check_services, "--otel")) == expected
    (finding,) = bad(reached(check_services, "--otel"))
    assert (finding.level, where in finding.text) == ("warning", True)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")
    (finding,) = bad(reached(check_services, "--otel"))
    assert finding.level == "warning"


def test_statsd_is_resolved() -> None:
    assert shown(reached(check_services, "--statsd_host=localhost")) == [
        ("ok", "metrics are sent to localhost:8125; UDP reports no failure")
    ]
    (finding,) = bad(reached(check_services, "--statsd_host=nowhere.invalid:8125"))
    assert finding.text.startswith("no address of nowhere.invalid: ")
