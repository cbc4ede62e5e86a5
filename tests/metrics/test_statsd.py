"""Lines and packets of StatsD, read back by a reader that knows each format of tags."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.metrics.figures import Labels
from catenary.metrics.intervals import Reading
from catenary.metrics.statsd import FORMATS, StatsdLines, packed
from tests.parts.statsd import Metric, read

TAGS = (("env", "prod"), ("node_id", "a"))


def counter(value: float, name: str = "calls_total", labels: Labels = ()) -> Reading:
    return Reading(name, name, labels, value, is_increase=True)


def gauge(value: float, name: str = "clients_num", labels: Labels = ()) -> Reading:
    return Reading(name, name, labels, value, is_increase=False)


def lines(*readings: Reading, tags: Labels = (), tags_format: str = "datadog") -> list[bytes]:
    return list(StatsdLines("anycable_go.", tags, tags_format).encode(readings))


@pytest.mark.parametrize(
    ("tags_format", "line"),
    [
        ("datadog", b"anycable_go.clients_num:7|g|#env:prod,node_id:a"),
        ("influxdb", b"anycable_go.clients_num,env=prod,node_id=a:7|g"),
        ("influx", b"anycable_go.clients_num,env=prod,node_id=a:7|g"),
        ("graphite", b"anycable_go.clients_num;env=prod;node_id=a:7|g"),
    ],
)
def test_tags_are_written_as_anycable_go_writes_them(tags_format: str, line: bytes) -> None:
    assert lines(gauge(7), tags=TAGS, tags_format=tags_format) == [line]


def test_labels_come_before_the_tags_of_the_options() -> None:
    found = lines(counter(2, labels=(("method", "connect"),)), tags=(("env", "prod"),))
    assert found == [b"anycable_go.calls_total:2|c|#method:connect,env:prod"]


def test_counters_that_have_not_grown_are_left_out() -> None:
    assert lines(counter(0), gauge(0), counter(3)) == [
        b"anycable_go.clients_num:0|g",
        b"anycable_go.calls_total:3|c",
    ]


def test_a_negative_gauge_is_no_difference() -> None:
    assert lines(gauge(-2)) == [b"anycable_go.clients_num:0|g\nanycable_go.clients_num:-2|g"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.25, b"0.25"),
        (1.0, b"1"),
        (0.0000123, b"0.000012"),
        (1e21, b"1" + b"0" * 21),
        (10.0, b"10"),
    ],
)
def test_numbers_have_no_exponent(value: float, text: bytes) -> None:
    assert lines(gauge(value)) == [b"anycable_go.clients_num:" + text + b"|g"]


@pytest.mark.parametrize("tags_format", ["datadog", "influxdb", "graphite"])
@given(
    tags=st.dictionaries(
        st.text("ab,;:|=#@ \n\x00é", min_size=1), st.text("xy,;:|=#@ \n\x00é", min_size=1)
    )
)
def test_no_tag_breaks_a_line(tags_format: str, tags: dict[str, str]) -> None:
    (line,) = lines(gauge(7), tags=tuple(tags.items()), tags_format=tags_format)
    (metric,) = read(line, tags_format)
    assert metric[:3] == ("anycable_go.clients_num", 7, "g")
    assert len(metric.tags) <= len(tags)


def test_every_format_of_the_option_is_known() -> None:
    from catenary.config.options import TABLE

    (row,) = (each for each in TABLE if each.place == "statsd.tags_format")
    assert set(FORMATS) == set(row.choices)


@given(
    st.lists(st.binary(min_size=1).map(lambda each: each.replace(b"\n", b" "))), st.integers(1, 200)
)
def test_packets_have_all_lines_that_fit_in_order_and_never_more_bytes(
    given_lines: list[bytes], max_bytes: int
) -> None:
    packets, too_long = packed(given_lines, max_bytes)
    fitting = [each for each in given_lines if len(each) <= max_bytes]
    assert too_long == len(given_lines) - len(fitting)
    assert [line for packet in packets for line in packet.split(b"\n")] == fitting
    assert all(len(packet) <= max_bytes for packet in packets)
    assert all(
        len(one) + 1 + len(other.split(b"\n")[0]) > max_bytes
        for one, other in itertools.pairwise(packets)
    )


def test_a_report_is_read_back() -> None:
    readings = [counter(n, f"c{n}_total", TAGS) for n in range(1, 50)]
    packets, _ = packed(lines(*readings), 200)
    assert len(packets) > 10
    assert [metric for packet in packets for metric in read(packet, "datadog")] == [
        Metric(f"anycable_go.c{n}_total", n, "c", dict(TAGS)) for n in range(1, 50)
    ]
