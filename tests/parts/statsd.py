"""A StatsD server as far as tests need one: a UDP socket, and a reader of the three formats of tags.

The reader follows the servers that define the formats (Datadog's agent, Telegraf, Graphite), and shares no code with the writer.
"""

import re
import socket
from typing import NamedTuple, Self

_FORMS = {
    "datadog": re.compile(r"(?P<name>[^:|#]+):(?P<value>[^|]+)\|(?P<kind>[cg])(\|#(?P<tags>.+))?"),
    "influxdb": re.compile(
        r"(?P<name>[^:|,]+)(,(?P<tags>[^:|]+))?:(?P<value>[^|]+)\|(?P<kind>[cg])"
    ),
    "graphite": re.compile(
        r"(?P<name>[^:|;]+)(;(?P<tags>[^:|]+))?:(?P<value>[^|]+)\|(?P<kind>[cg])"
    ),
}
_TAGS = {"datadog": (",", ":"), "influxdb": (",", "="), "graphite": (";", "=")}


class Metric(NamedTuple):
    """One line. ``kind`` is c for the increase of a counter, g for a gauge."""

    name: str
    value: float
    kind: str
    tags: dict[str, str]


def read(packet: bytes, tags_format: str) -> list[Metric]:
    """The lines of a packet. Raises AssertionError for one that a server could not read."""
    return [_metric(line, tags_format) for line in packet.decode().split("\n")]


def _metric(line: str, tags_format: str) -> Metric:
    found = _FORMS[tags_format].fullmatch(line)
    assert found is not None, line
    separator, between = _TAGS[tags_format]
    tags = {}
    for tag in filter(None, (found["tags"] or "").split(separator)):
        name, _, value = tag.partition(between)
        assert name, line
        assert between not in value or tags_format == "datadog", line
        tags[name] = value
    return Metric(found["name"], float(found["value"]), found["kind"], tags)


class StatsdListener:
    """A UDP socket on a free port; ``tags_format`` is that of the packets."""

    def __init__(
        self, tags_format: str = "datadog", host: str = "127.0.0.1", port: int = 0
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._tags_format = tags_format
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.bind((host, port))
        self._socket.settimeout(20)
        self.port: int = self._socket.getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def packet(self) -> bytes:
        """The next packet. Raises TimeoutError after 20 s."""
        return self._socket.recv(65_536)

    def has_packet(self) -> bool:
        """Whether a packet has arrived."""
        self._socket.setblocking(False)
        try:
            return bool(self._socket.recv(65_536, socket.MSG_PEEK))
        except BlockingIOError:
            return False
        finally:
            self._socket.settimeout(20)

    def metric(self, name: str, **tags: str) -> Metric:
        """The next metric with this name, and these among its tags."""
        while True:
            for metric in read(self.packet(), self._tags_format):
                if metric.name == name and tags.items() <= metric.tags.items():
                    return metric
