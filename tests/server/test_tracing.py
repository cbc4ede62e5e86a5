"""Traces of a running server, as a collector gets them: from a publisher or a client, through the application, to delivery."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest

from tests.parts.application import TestApplication
from tests.parts.cable_client import CableClient, delivered, identifier
from tests.parts.collector import Collector, collector
from tests.parts.grpc_app import grpc_server
from tests.parts.http_app import http_server
from tests.parts.server import cable_server

T = TypeVar("T")

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
STATE = "vendor=t61rcWkgMzE"
NEWS = identifier("StreamChannel", room="news")
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
        with cable_server(*server_flags, env={"OTEL_BSP_SCHEDULE_DELAY": "50"}) as server:
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
