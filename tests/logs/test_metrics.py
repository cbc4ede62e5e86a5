"""Lines with metrics: which readings they have, in which order."""

import logging
from typing import Any

import pytest

from catenary.logs.metrics import MetricsLog
from catenary.metrics.intervals import Reading

READINGS = [
    Reading("rpc_call_total", "rpc_call_total", (), 2, is_increase=True),
    Reading("clients_num", "clients_num", (), 7, is_increase=False),
    Reading("start_seconds", "start_seconds", (), 1796052436.4, is_increase=False),
    Reading("wait_seconds", "wait_seconds_count", (("by", "rpc"),), 3, is_increase=True),
    Reading("wait_seconds", "wait_seconds_p99", (("by", "rpc"),), 0.01234567, is_increase=False),
]


def fields(caplog: pytest.LogCaptureFixture, *wanted: str) -> list[tuple[str, Any]]:
    """The fields of the line, in order."""
    caplog.set_level(logging.INFO, "catenary.metrics")
    MetricsLog(wanted).write(READINGS)
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("INFO", "")
    return list(vars(record)["fields"].items())


def test_all_are_logged_in_the_order_of_their_names(caplog: pytest.LogCaptureFixture) -> None:
    assert fields(caplog) == [
        ("clients_num", 7),
        ("rpc_call_total", 2),
        ("start_seconds", 1796052436),
        ("wait_seconds_count{by=rpc}", 3),
        ("wait_seconds_p99{by=rpc}", 0.0123457),
    ]


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (("rpc_call_total", "clients_num"), ["clients_num", "rpc_call_total"]),
        (("wait_seconds",), ["wait_seconds_count{by=rpc}", "wait_seconds_p99{by=rpc}"]),
        (("wait_seconds_p99",), ["wait_seconds_p99{by=rpc}"]),
    ],
)
def test_a_filter_names_figures_or_single_numbers_of_a_histogram(
    caplog: pytest.LogCaptureFixture, wanted: tuple[str, ...], names: list[str]
) -> None:
    assert [name for name, _ in fields(caplog, *wanted)] == names
