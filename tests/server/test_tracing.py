"""Traces of a running server, as a collector gets them: from a publisher or a client, through the application, to delivery."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
import redis

from catenary.errors import ConfigError, install_command
from tests.config.sources import options
from tests.parts.application import TestApplication
from tests.parts.cable_client import CableClient, delivered, identifier
from tests.parts.collector import Collector, collector
from tests.parts.grpc_app import grpc_server
from tests.parts.http_app import http_server
from tests.parts.nats import nats_publisher, nats_server
from tests.parts.ports import free_port
from tests.parts.redis import RedisPublisher, RedisServer, redis_server
from tests.parts.server import OURS, cable_server

T = TypeVar("T")

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
STATE = "vendor=t61rcWkgMzE"
NEWS = identifier("StreamChannel", room="news")
PUBLIC = json.dumps({"channel": "$pubsub", "stream_name": "news"})
QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "50"}
SECRET = "must-not-be-seen"


def publish(url: str, stream: str, text: str, **headers: str) -> None:
    body = json.dumps({"stream": stream, "data": json.dumps(text)}).encode()
    request = urllib.request.Request(url, body, headers)
    urllib.request.urlopen(request, timeout=30).close()


def flags(spans: Collector, ratio: str = "1") -> tuple[str, ...]:
    return ("--otel", f"--otel_endpoint={spans.url}", f"--otel_sample_ratio={ratio}")


@contextmanager
def application(kind: str, app: TestApplication) -> Iterator[str]:
    if kind == "grpc":
        with grpc_server(app) as grpc:
            yield grpc.address
    else:
        with http_server(app) as http:
            yield http.url


def only(found: list[T]) -> T:
    (one,) = found
    return one


@pytest.mark.parametrize("kind", ["grpc", "http"])
def test_one_trace_leads_from_a_client_through_the_application_to_the_delivery(kind: str) -> None:
    app = TestApplication()
    with collector() as spans, application(kind, app) as host:
        server_flags = (*flags(spans, "0"), f"--rpc_host={host}", "--broadcast_adapter=http")
        with cable_server(*server_flags, env=QUICK) as server:
            headers = {"traceparent": PARENT, "tracestate": STATE, "Cookie": f"user={SECRET}"}
            url = f"{server.cable_url}?jid={SECRET}"
            with CableClient(url, headers=headers) as client:
                sid = client.receive_welcome()["sid"]
                client.subscribe(NEWS)
                metadata = only(app.calls_of("connect")).metadata
                # The application publishes as a part of the trace that it was called with.
                publish(
                    server.broadcast_url,
                    "stream_news",
                    SECRET,
                    traceparent=metadata["traceparent"],
                    tracestate=metadata["tracestate"],
                )
                assert client.receive() == delivered(NEWS, SECRET)
            spans.wait_for(lambda: len(spans.of(TRACE)) == 4)
            assert server.stop() == 0
        connect, call, publishing, delivery = spans.of(TRACE)
    assert [each.name for each in spans.spans if each.trace != TRACE] == []
    assert (connect.name, connect.kind, connect.parent) == (
        "connect",
        "server",
        PARENT.split("-")[2],
    )
    assert connect.attributes == {
        "catenary.sid": sid,
        "catenary.protocol": "actioncable-v1-json",
        "network.protocol.name": "websocket",
        "url.path": "/cable",
        "client.address": "127.0.0.1",
    }
    service = "anycable.RPC" if kind == "grpc" else "catenary"
    assert (call.name, call.kind, call.parent) == (f"{service}/Connect", "client", connect.id)
    assert call.attributes == {"rpc.system.name": kind, "rpc.method": f"{service}/Connect"}
    assert metadata["traceparent"] == f"00-{TRACE}-{call.id}-01"
    assert metadata["tracestate"] == STATE
    assert (publishing.name, publishing.kind, publishing.parent) == ("publish", "producer", call.id)
    assert publishing.attributes["messaging.destination.name"] == "stream_news"
    assert (delivery.name, delivery.kind, delivery.parent) == ("deliver", "consumer", publishing.id)
    assert delivery.links == (publishing.id,)
    assert delivery.attributes["catenary.delivery.clients"] == 1
    assert connect.resource["service.name"] == "catenary"
    assert SECRET.encode() not in b"".join(spans.bodies)


def test_event_streams_and_long_polling_continue_the_trace_of_their_request_too() -> None:
    with collector() as spans:
        server_flags = (
            *flags(spans, "0"),
            "--public",
            "--norpc",
            "--sse",
            "--poll",
            "--public_streams",
        )
        with cable_server(*server_flags, env=QUICK) as server:
            base = f"http://127.0.0.1:{server.port}"
            for path, body in (("/events?stream=news", None), ("/lp", b"")):
                request = urllib.request.Request(f"{base}{path}", body, {"traceparent": PARENT})
                urllib.request.urlopen(request, timeout=30).close()
            spans.wait_for(lambda: len(spans.named("connect")) == 2)
    found = {each.attributes["network.protocol.name"]: each for each in spans.of(TRACE)}
    assert sorted(found) == ["long_polling", "sse"]


# Other publishers, other nodes


def by_redis(server: RedisServer, raw: str, fields: dict[str, str]) -> None:
    entry: dict[Any, Any] = {"payload": raw, **fields}
    with redis.Redis(port=server.port) as connection:
        connection.xadd("__anycable__", entry)


@pytest.mark.parametrize("how", ["field", "meta"])
def test_an_entry_of_a_redis_stream_leads_to_its_deliveries_on_every_node(how: str) -> None:
    meta = {"traceparent": PARENT, "tracestate": STATE}
    raw: dict[str, object] = {"stream": "news", "data": '"hello"'}
    with collector() as spans, redis_server() as backend:
        server_flags = (
            *flags(spans, "0"),
            *("--public", "--norpc", "--broadcast_adapter=redisx", "--broker=redis"),
            f"--redis_url={backend.url}",
        )
        with (
            cable_server(*server_flags, env=QUICK) as one,
            cable_server(*server_flags, env=QUICK) as other,
            CableClient(one.cable_url) as first,
            CableClient(other.cable_url) as second,
        ):
            for client in (first, second):
                client.receive_welcome()
                client.subscribe(PUBLIC)
            if how == "meta":
                raw["meta"] = meta
            by_redis(backend, json.dumps(raw), {} if how == "meta" else meta)
            assert first.receive()["message"] == second.receive()["message"] == "hello"
            spans.wait_for(lambda: len(spans.of(TRACE)) == 3)
    publishing, *deliveries = spans.of(TRACE)
    assert publishing.name == "publish"
    assert [each.name for each in deliveries] == ["deliver", "deliver"]
    assert {each.parent for each in deliveries} == {publishing.id}
    assert len({each.resource["service.instance.id"] for each in deliveries}) == 2
    (position,) = {each.attributes["messaging.message.id"] for each in deliveries}
    assert str(position).startswith("1:")


@pytest.mark.parametrize("how", ["traceparent", "Traceparent", "meta"])
def test_a_message_of_nats_leads_to_its_deliveries(how: str) -> None:
    meta = {"traceparent": PARENT}
    raw: dict[str, object] = {"stream": "news", "data": '"hello"'}
    if how == "meta":
        raw["meta"] = meta
    with collector() as spans, nats_server() as backend:
        server_flags = (
            *flags(spans, "0"),
            *("--public", "--norpc", "--broadcast_adapter=nats"),
            f"--nats_servers={backend.url}",
        )
        with (
            cable_server(*server_flags, env=QUICK) as server,
            CableClient(server.cable_url) as client,
        ):
            client.receive_welcome()
            client.subscribe(PUBLIC)
            with nats_publisher(backend) as publisher:
                publisher.publish(json.dumps(raw), {} if how == "meta" else {how: PARENT})
            assert client.receive() == delivered(PUBLIC, "hello")
            spans.wait_for(lambda: len(spans.of(TRACE)) == 2)
    assert [each.name for each in spans.of(TRACE)] == ["publish", "deliver"]


def test_a_publication_over_redis_pubsub_names_its_trace_in_meta() -> None:
    with collector() as spans, redis_server() as backend:
        server_flags = (
            *flags(spans, "0"),
            *("--public", "--norpc", "--broadcast_adapter=redis"),
            f"--redis_url={backend.url}",
        )
        with (
            cable_server(*server_flags, env=QUICK) as server,
            CableClient(server.cable_url) as client,
        ):
            client.receive_welcome()
            client.subscribe(PUBLIC)
            publisher = RedisPublisher(backend)
            publisher.broadcast("news", "hello", traceparent=PARENT)
            publisher.close()
            assert client.receive() == delivered(PUBLIC, "hello")
            spans.wait_for(lambda: len(spans.of(TRACE)) == 2)
    assert [each.name for each in spans.of(TRACE)] == ["publish", "deliver"]


# Applications in Python, and the command line


@pytest.mark.parametrize("more", [(), ("--app_workers=1",)])
def test_an_application_in_python_is_traced_and_the_console_shows_its_spans(
    more: tuple[str, ...],
) -> None:
    room = identifier("Room")
    with cable_server(
        *("--otel", "--otel_exporter=console", "--otel_sample_ratio=1", "--otel_service_name=chat"),
        *more,
        command=(*OURS, "tests.parts.room_app:cable"),
    ) as server:
        with CableClient(f"{server.cable_url}?name=ann") as client:
            client.receive_welcome()
            client.subscribe(room)
        output = server.wait_for_output('"name": "catenary/Disconnect"')
        assert server.stop() == 0
    lines = [line for line in output.splitlines() if line.startswith("{")]
    spans = [json.loads(line) for line in lines]
    found = {each["name"]: each for each in spans}
    connect, call = found["connect"], found["catenary/Connect"]
    assert call["parent_id"] == connect["context"]["span_id"]
    assert call["attributes"]["rpc.system.name"] == ("code_workers" if more else "in_process")
    assert connect["resource"]["attributes"]["service.name"] == "chat"
    assert found["catenary/Command"]["parent_id"] == found["subscribe"]["context"]["span_id"]
    assert "name=ann" not in "".join(lines)


@pytest.mark.parametrize("more", [(), ("--app_workers=1",)])
def test_spans_of_an_application_in_python_are_parts_of_the_trace(more: tuple[str, ...]) -> None:
    room = identifier("Room")
    with (
        collector() as spans,
        cable_server(
            *flags(spans),
            *more,
            command=(*OURS, "tests.parts.instrumented_app:cable"),
            env={**QUICK, "COLLECTOR": f"{spans.url}/v1/traces"},
        ) as server,
    ):
        with CableClient(server.cable_url) as client:
            client.receive_welcome()
            client.subscribe(room)
            for action in ("awaiting", "in_a_thread", "at_once"):
                client.perform(room, action)
                client.receive()
            spans.wait_for(lambda: len(spans.named("deliver")) == 3)
        assert server.stop() == 0
        # The instrumentation logs an error if its context is not the one that it has set.
        assert "opentelemetry" not in server.output()
    performs = {each.attributes["catenary.action"]: each for each in spans.named("perform")}
    assert sorted(performs) == ["at_once", "awaiting", "in_a_thread"]
    for perform in performs.values():
        found = {each.name: each for each in spans.of(perform.trace)}
        path = ["perform", "catenary/Command", "outer", "inner", "publish", "deliver"]
        assert sorted(found) == sorted(path)
        parents = {each.name: each.parent for each in found.values()}
        assert [parents[name] for name in path] == ["", *[found[name].id for name in path[:-1]]]


@pytest.mark.parametrize("more", [(), ("--app_workers=1",)])
def test_an_application_in_python_gets_no_context_of_what_is_not_traced(
    more: tuple[str, ...],
) -> None:
    room = identifier("Room")
    with (
        collector() as spans,
        cable_server(
            *flags(spans, "0"),
            *more,
            command=(*OURS, "tests.parts.instrumented_app:cable"),
            env={**QUICK, "COLLECTOR": f"{spans.url}/v1/traces"},
        ) as server,
        CableClient(server.cable_url) as client,
    ):
        client.receive_welcome()
        client.subscribe(room)
        client.perform(room, "awaiting")
        client.receive()
        spans.wait_for(lambda: bool(spans.named("deliver")))
    # The application's own sampler decides, and what it publishes belongs to its trace.
    outer = only(spans.named("outer"))
    assert outer.parent == ""
    assert only(spans.named("publish")).parent == only(spans.named("inner")).id
    assert {each.trace for each in spans.spans} == {outer.trace}


def test_workers_say_which_of_them_a_span_is_of() -> None:
    with collector() as spans:
        server_flags = (*flags(spans), "--public", "--norpc", "--workers=2", "--broker=nats")
        with (
            cable_server(*server_flags, env=QUICK) as server,
            CableClient(server.cable_url) as client,
        ):
            client.receive_welcome()
            spans.wait_for(lambda: bool(spans.named("connect")))
    assert only(spans.named("connect")).resource["catenary.worker"] in {"1", "2"}


def test_without_the_option_nothing_of_opentelemetry_is_imported() -> None:
    code = (
        "import sys\n"
        "import catenary.cli, catenary.server.run, catenary.server.assembly\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_a_missing_extra_is_named_with_the_command_that_installs_it() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from catenary.cli import main\n"
        "sys.exit(main(['--norpc', '--otel']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode != 0
    assert f"otel needs an optional library: {install_command('otel')}" in ended.stderr


@pytest.mark.parametrize(
    ("flag", "error"),
    [
        ("--otel_sample_ratio=2", "otel_sample_ratio: expected a number from 0 to 1, got '2'"),
        ("--otel_sample_ratio=nan", "otel_sample_ratio: expected a number from 0 to 1"),
        ("--otel_endpoint=collector:4318", "otel_endpoint: expected http(s)://…"),
    ],
)
def test_wrong_options_are_refused(flag: str, error: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(error)):
        options(flag)


def test_variables_that_are_refused_are_reported() -> None:
    environment = {**os.environ, "OTEL_BSP_SCHEDULE_DELAY": "0"}
    started = subprocess.run(
        [*OURS, "--public", "--norpc", "--otel", f"--port={free_port()}"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert started.returncode == 1
    assert "otel: a variable OTEL_… is refused: OTEL_BSP_SCHEDULE_DELAY: expected" in started.stderr
    assert "Traceback" not in started.stderr
