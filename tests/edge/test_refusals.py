"""Refused requests move the counters of their kind, and are reported with their reason."""

from typing import Any

import pytest

from catenary.edge.refusals import Refusals, too_many, unavailable
from catenary.errors import RequestRefused
from catenary.messages.environment import Requester
from catenary.metrics.counters import Counters
from catenary.node.observers import ObserverGroup
from catenary.silent_observer import SilentObserver


@pytest.mark.parametrize(
    ("refused", "counted"),
    [
        (RequestRefused(403, "expected an allowed origin"), {"failed_handshakes_total"}),
        (
            RequestRefused(431, "expected a shorter head"),
            {"failed_handshakes_total", "oversized_heads_total"},
        ),
        (
            too_many("expected up to 5 connections from an address"),
            {"failed_handshakes_total", "limited_connections_total"},
        ),
        (
            unavailable("too many connections"),
            {"failed_handshakes_total", "refused_connections_total"},
        ),
    ],
    ids=["403", "431", "429", "503"],
)
def test_a_refusal_is_counted_and_reported(refused: RequestRefused, counted: set[str]) -> None:
    counters = Counters()
    requester = Requester("10.0.0.1", "GET", "/cable", "http://page.test")
    reported: list[Any] = []

    class Noting(SilentObserver):
        def request_refused(self, requester: Requester, status: int, why: str) -> None:
            reported.append((requester, status, why))

    Refusals(counters, ObserverGroup([Noting()])).note(refused, requester)
    names = (
        "failed_handshakes_total",
        "limited_connections_total",
        "oversized_heads_total",
        "refused_connections_total",
    )
    assert {name for name in names if getattr(counters, name)} == counted
    assert reported == [(requester, refused.status, str(refused))]


def test_clients_of_a_busy_server_are_asked_to_retry() -> None:
    refused = unavailable("too many handshakes")
    assert refused.status == 503
    assert too_many("too many connections").status == 429
    assert [name for name, _ in refused.headers] == ["Retry-After"]
