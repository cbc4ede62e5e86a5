"""The short form of the suite: the most frequent faults. ``make faults`` runs all of them."""

import asyncio

import pytest

from tests.faults.catalogue import ENGINES
from tests.faults.injections import FAULTS
from tests.faults.runs import Load, run

SHORT = Load(clients=12, per_second=40)


@pytest.mark.parametrize(
    ("engine", "fault"),
    [
        ("redis", "kill-node"),
        ("redisx", "kill-node"),
        ("redis", "kill-store"),
        ("nats", "kill-node"),
        ("nats", "kill-store"),
        ("jetstream", "kill-store"),
        ("sentinel", "kill-store"),
        ("cluster", "kill-store"),
        ("redisx", "split-links"),
        ("nats", "split-links"),
        ("redis", "throttle-links"),
        ("nats", "half-open-links"),
        ("application", "kill-application"),
        ("workers", "kill-worker"),
    ],
)
def test_accepted_publications_arrive_once_and_in_order_and_ready_is_right(
    engine: str, fault: str
) -> None:
    verdict = asyncio.run(run(ENGINES[engine], FAULTS[fault], SHORT))
    assert verdict.accepted > 0
    assert verdict.is_good, verdict
