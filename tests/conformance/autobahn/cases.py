"""All cases, in the order of their numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import PIPE, Popen
from sys import executable

from tests.conformance.autobahn import closing, compression, framing, limits, text
from tests.conformance.autobahn.play import Case

CATEGORIES = {
    "1": "Framing",
    "2": "Pings and pongs",
    "3": "Reserved bits",
    "4": "Opcodes",
    "5": "Fragmentation",
    "6": "UTF-8",
    "7": "Closing",
    "9": "Limits",
    "10": "Fragmented by the client",
    "12": "Compression: contents",
    "13": "Compression: parameters",
}

CASES: list[Case] = [
    *framing.cases(),
    *text.cases(),
    *closing.cases(),
    *limits.cases(),
    *compression.cases(),
]


def category(case: Case) -> str:
    return case.number.partition(".")[0]


@contextmanager
def echo_server() -> Iterator[int]:
    """The server's process for the length of a with block, and its port."""
    with Popen(
        [executable, "-m", "tests.conformance.autobahn.echo"], stdin=PIPE, stdout=PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(10)
    assert process.returncode == 0
