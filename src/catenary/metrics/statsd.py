"""The text format of StatsD, with tags in one of three formats, and its packets.

Sources: docs/metric_types.md (statsd/statsd); docs/instrumentation.md (anycable); "DogStatsD datagrams" (Datadog);
"InfluxDB StatsD" (Telegraf's input plugin); "Graphite Tag Support" (Graphite).
Knows: readings, bytes. Does not know: sockets.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from catenary.metrics.figures import Labels
from catenary.metrics.intervals import Reading


class TagsFormat(NamedTuple):
    """``first`` precedes the first tag, ``separator`` the others, ``between`` stands between a name and its value.

    Tags follow the name, or with ``is_at_end`` the whole line. ``forbidden`` characters would end a tag: they become ``_``.
    """

    first: str
    separator: str
    between: str
    is_at_end: bool
    forbidden: re.Pattern[str]


_INFLUXDB: Final = TagsFormat(",", ",", "=", False, re.compile(r"[\s\x00-\x1f,=:|]"))

FORMATS: Final = {
    "datadog": TagsFormat("|#", ",", ":", True, re.compile(r"[\x00-\x1f,|]")),
    "influxdb": _INFLUXDB,
    "influx": _INFLUXDB,
    "graphite": TagsFormat(";", ";", "=", False, re.compile(r"[\s\x00-\x1f;=:|~]")),
}


class StatsdLines:
    """Writes readings as lines. ``prefix`` precedes every name, ``tags`` are added to every line."""

    __slots__ = ("_format", "_prefix", "_tags")

    def __init__(self, prefix: str, tags: Labels, tags_format: str) -> None:
        self._format: Final = FORMATS[tags_format]
        self._prefix: Final = prefix
        self._tags: Final = tags

    def encode(self, readings: Iterable[Reading]) -> Iterator[bytes]:
        """The lines of a report, without line feeds. A counter that has not grown has none, as in anycable-go."""
        for reading in readings:
            if reading.is_increase:
                if reading.value:
                    yield self._line(reading, f"{_decimal(reading.value)}|c").encode()
                continue
            line = self._line(reading, f"{_decimal(reading.value)}|g")
            if reading.value < 0:
                # A gauge with a sign is added to its present value, so it is set to 0 before, in the same packet.
                line = f"{self._line(reading, '0|g')}\n{line}"
            yield line.encode()

    def _line(self, reading: Reading, value: str) -> str:
        tags = self._written(reading.labels + self._tags)
        name = self._prefix + reading.name
        return f"{name}:{value}{tags}" if self._format.is_at_end else f"{name}{tags}:{value}"

    def _written(self, tags: Labels) -> str:
        if not tags:
            return ""
        first, separator, between, _, forbidden = self._format
        pairs = (
            forbidden.sub("_", name).replace(between, "_") + between + forbidden.sub("_", value)
            for name, value in tags
        )
        return first + separator.join(pairs)


def _decimal(value: float) -> str:
    """Without an exponent, which some servers can't read; a fraction has six digits."""
    if isinstance(value, int):
        return str(value)
    return f"{value:.6f}".rstrip("0").removesuffix(".")


class Packed(NamedTuple):
    """The packets of a report, in order, and how many lines are in none of them, because they alone are too long."""

    packets: list[bytes]
    too_long: int


def packed(lines: Iterable[bytes], max_bytes: int) -> Packed:
    """Joins lines by line feeds to packets of at most ``max_bytes``."""
    packets: list[bytes] = []
    packet = b""
    too_long = 0
    for line in lines:
        if len(line) > max_bytes:
            too_long += 1
        elif not packet:
            packet = line
        elif len(packet) + 1 + len(line) <= max_bytes:
            packet += b"\n" + line
        else:
            packets.append(packet)
            packet = line
    if packet:
        packets.append(packet)
    return Packed(packets, too_long)
