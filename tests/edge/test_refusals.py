"""Refused requests move the counters of their kind, and are logged with their reason."""

import logging

import pytest

from catenary.edge.refusals import Refusals, unavailable
from catenary.errors import RequestRefused
from catenary.metrics.counters import Counters


@pytest.mark.parametrize(
    ("refused", "counted"),
    [
        (RequestRefused(403, "expected an allowed origin"), {"failed_handshakes_total"}),
        (
            RequestRefused(431, "expected a shorter head"),
            {"failed_handshakes_total", "oversized_heads_total"},
        ),
        (
            unavailable("too many connections"),
            {"failed_handshakes_total", "refused_connections_total"},
        ),
    ],
    ids=["403", "431", "503"],
)
def test_a_refusal_is_counted_and_logged(
    refused: RequestRefused, counted: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    counters = Counters()
    with caplog.at_level(logging.INFO):
        Refusals(counters).note(refused)
    names = ("failed_handshakes_total", "oversized_heads_total", "refused_connections_total")
    assert {name for name in names if getattr(counters, name)} == counted
    (record,) = caplog.records
    assert record.getMessage() == f"Request refused with {refused.status}: {refused}"


def test_clients_of_a_busy_server_are_asked_to_retry() -> None:
    refused = unavailable("too many handshakes")
    assert (refused.status, refused.headers) == (503, (("Retry-After", "5"),))
