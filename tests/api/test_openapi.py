"""The OpenAPI document and the running server agree: schemathesis sends what the document allows, and what it forbids."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from catenary.api.cluster_reads import ClusterReads
from catenary.api.operations import operations
from catenary.messages.nodes import NodeEntry
from catenary.metrics.counters import Counters
from catenary.node.cluster import Cluster
from catenary.node.reads import Reads
from tests.parts.cable_client import identifier
from tests.parts.rest import FLAGS, KEY, get, rest, signed_in
from tests.parts.server import CableServer, cable_server


async def not_called(*_: object) -> Any:
    raise AssertionError


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES = 4
ALONE = Cluster(NodeEntry("", "", "", 1, 0, "", 0), None, Counters(), lambda: 0)
TABLE = operations(
    ClusterReads(ALONE),
    Reads(None, None),
    publish=not_called,
    events=not_called,
    disconnect=not_called,
    health=tuple,
)
NAMES = [*(each.name for each in TABLE), "describe"]
ENDLESS = "followEvents"
"""An event stream: see test_live_events.py."""


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    with cable_server(*FLAGS, "--broker=memory", "--broadcast_adapter=http") as server:
        client, _ = signed_in(server, "ann")
        with client:
            client.receive_welcome()
            client.subscribe(identifier("$pubsub", stream_name="chat"))
            yield server


@pytest.fixture(scope="module")
def schema(server: CableServer) -> Any:
    url = f"http://127.0.0.1:{server.port}/api/openapi.json"
    return schemathesis.openapi.from_url(url, headers={"Authorization": f"Bearer {KEY}"})


@pytest.mark.parametrize("name", [name for name in NAMES if name != ENDLESS])
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_the_server_does_what_the_document_says(
    schema: Any, name: str, mode: GenerationMode
) -> None:
    operation = schema.find_operation_by_id(name)
    checks = CHECKS if mode.is_positive else [*CHECKS, negative_data_rejection]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @seed(1)
    def check(case: Case[Any]) -> None:
        response = case.call(headers={"Authorization": f"Bearer {KEY}"}, timeout=20)
        case.validate_response(response, checks=checks)

    check()


def test_the_document_has_every_operation_and_no_other(server: CableServer) -> None:
    described = get(server, "/openapi.json")
    found = {
        operation["operationId"]
        for methods in described["paths"].values()
        for operation in methods.values()
    }
    assert found == set(NAMES)
    assert len(found) == len(NAMES)
    assert described["servers"] == [{"url": "/api"}]
    for path, methods in described["paths"].items():
        named = path.replace("{sid}", "x").replace("{stream}", "x")
        refused = rest(server, "PATCH", named)
        assert refused.status in {405, 422}
        expected = ", ".join(sorted(each.upper() for each in methods))
        assert refused.content == {"error": f"expected {expected}, got PATCH"}


def test_the_page_of_the_docs_has_every_operation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    rows = set(re.findall(r"^\| `(\w+ /\S+)` \|", page, re.MULTILINE))
    named = {f"{each.method} {each.path.replace(':path}', '}')}" for each in TABLE}
    assert rows == named | {"GET /openapi.json"}
