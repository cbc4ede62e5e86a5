"""Rules for streams in a running server: rates, and new rules on SIGHUP."""

import http.client
import json
import time
from collections.abc import Iterator

import pytest

from tests.parts.cable_client import CableClient, identifier
from tests.parts.configured_server import APPLIED, REFUSED, ConfiguredServer, configured_server
from tests.parts.server import CableServer

FLAGS = (
    "--public",
    "--norpc",
    "--broadcast_adapter=http",
    "--broker=memory",
    "--metrics_http=/metrics",
    *("--ds", "--ds_write"),
)
ROOM = identifier("$pubsub", stream_name="busy")


def rule(**fields: object) -> str:
    lines = [f"{name} = {json.dumps(value)}" for name, value in fields.items()]
    return "\n".join(("[[streams.rules]]", *lines, ""))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredServer]:
    directory = tmp_path_factory.mktemp("rules")
    rules = rule(match="busy", max_rate=1) + rule(match="durable", max_rate=1)
    with configured_server(directory, rules, *FLAGS) as running:
        yield running


def publish(server: CableServer, stream: str, data: object) -> tuple[int, str | None, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.broadcast_port, timeout=20)
    try:
        body = json.dumps({"stream": stream, "data": json.dumps(data)})
        connection.request("POST", "/_broadcast", body)
        answer = connection.getresponse()
        return answer.status, answer.headers["Retry-After"], answer.read().decode()
    finally:
        connection.close()


def write(server: CableServer, method: str, body: str = "") -> tuple[int, str | None]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request(method, "/ds/durable", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.headers["Retry-After"]
    finally:
        connection.close()


def test_writes_of_a_durable_stream_have_its_rate(server: ConfiguredServer) -> None:
    before = server.figure("rate_limited_publications_total")
    assert write(server, "PUT")[0] == 201
    answers = [write(server, "POST", str(each)) for each in range(9)]
    refused = [each for each in answers if each != (204, None)]
    assert 1 <= len(refused) < 9
    assert {*refused} == {(429, "1")}
    assert server.figure("rate_limited_publications_total") - before == len(refused)


def test_a_rate_that_is_used_up_is_refused_until_it_is_replaced(server: ConfiguredServer) -> None:
    with CableClient(server.cable_url) as client:
        assert client.receive()["type"] == "welcome"
        assert client.subscribe(ROOM)["type"] == "confirm_subscription"
        before = server.figure("rate_limited_publications_total")
        answers = [publish(server, "busy", each) for each in range(9)]
        accepted = [each for each, (status, *_) in enumerate(answers) if status == 201]
        assert 1 <= len(accepted) < 9
        refused = next(each for each in answers if each[0] != 201)
        assert refused == (
            429,
            "1",
            '{"error":"expected up to 1 publications a second on the stream \'busy\', try again in 1 s"}',
        )
        assert publish(server, "quiet", 1)[0] == publish(server, "quiet", 2)[0] == 201
        limited = server.figure("rate_limited_publications_total") - before
        assert limited == 9 - len(accepted)

        said = server.configure(rule(match="busy", max_rate=-1))
        assert REFUSED in said
        assert "streams.rules[1]: max_rate: expected 0 or more, got -1" in said
        assert publish(server, "busy", 0)[0] in (201, 429)

        said = server.configure(rule(match="busy", history_limit=2))
        assert APPLIED in said
        assert "streams.rules" in said
        for each in range(100, 110):
            assert publish(server, "busy", each)[0] == 201
        received = [client.receive()["message"] for _ in range(len(accepted) + 10)]
        assert [each for each in received if each >= 100] == list(range(100, 110))
    # The sweep of each second applies new limits.
    deadline = time.monotonic() + 20
    while history(server, "busy") != [108, 109]:
        assert time.monotonic() < deadline, history(server, "busy")
        time.sleep(0.05)


def history(server: CableServer, stream: str) -> list[int]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request("GET", f"/api/history/{stream}")
        answer = connection.getresponse()
        found = json.loads(answer.read())
    finally:
        connection.close()
    return [json.loads(each["data"]) for each in found["messages"]]
