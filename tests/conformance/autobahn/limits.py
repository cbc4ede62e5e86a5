"""Categories 9 and 10: large messages, small fragments, small chops, many round trips.

Sizes are Autobahn's; of its 1,000 round trips in 9.7 and 9.8 we make 200, which differ in nothing.
"""

from typing import Final, NamedTuple

from tests.conformance.autobahn.peer import (
    BINARY,
    TEXT,
    Heard,
    Peer,
    chopped,
    fragments,
)
from tests.conformance.autobahn.play import Case, Verdict, expect, say_goodbye

KB: Final = 2**10
MB: Final = 2**20

TEN: Final = b"BAsd7&jh23"
FIVE: Final = b"\x00\xfe\x23\xfa\xf0"

SIZES: Final = (64 * KB, 256 * KB, MB, 4 * MB, 8 * MB, 16 * MB)
FRAGMENTS: Final = (64, 256, KB, 4 * KB, 16 * KB, 64 * KB, 256 * KB, MB, 4 * MB)
CHOPS: Final = (64, 128, 256, 512, 1024, 2048)
ROUND_TRIPS: Final = (0, 16, 64, 256, 1024, 4096)
TIMES: Final = 200


def cases() -> list[Case]:
    return [*large(), *fragmented(), *in_chops(), *round_trips(), auto_fragmented()]


def repeated(pattern: bytes, size: int) -> bytes:
    """So many bytes of a pattern."""
    return (pattern * (size // len(pattern) + 1))[:size]


class Trip(NamedTuple):
    """A message that goes there and back, so many times; 0 for no fragments, no chops."""

    opcode: int
    pattern: bytes
    size: int
    fragment: int = 0
    chop: int = 0
    times: int = 1

    def play(self, peer: Peer) -> Verdict:
        payload = repeated(self.pattern, self.size)
        kind = "text" if self.opcode == TEXT else "binary"
        for _ in range(self.times):
            frames = fragments(self.opcode, payload, self.fragment or self.size or 1)
            sent = b"".join(frames)
            peer.send(chopped(sent, self.chop) if self.chop else [sent])
            expect(peer, Heard(kind, payload))
        say_goodbye(peer)
        return Verdict.OK


def _case(number: str, title: str, pattern: bytes, size: int, **shape: int) -> Case:
    # Even groups are binary: 9.2, 9.4, 9.6, 9.8.
    is_binary = number[2] in "2468"
    trip = Trip(BINARY if is_binary else TEXT, pattern, size, **shape)
    return Case(
        number,
        f"{'binary' if is_binary else 'text'} message of {size} bytes{title}",
        trip.play,
        "/cable?binary" if is_binary else "/cable",
    )


def large() -> list[Case]:
    return [
        _case(f"9.{group}.{number}", "", pattern, size)
        for group, pattern in ((1, TEN), (2, FIVE))
        for number, size in enumerate(SIZES, 1)
    ]


def fragmented() -> list[Case]:
    return [
        _case(
            f"9.{group}.{number}",
            f" in fragments of {size}",
            b"\xfe" if (group, number) == (4, 1) else b"*",
            4 * MB,
            fragment=size,
        )
        for group in (3, 4)
        for number, size in enumerate(FRAGMENTS, 1)
    ]


def in_chops() -> list[Case]:
    return [
        _case(f"9.{group}.{number}", f" in chops of {size}", pattern, MB, chop=size)
        for group, pattern in ((5, TEN), (6, FIVE))
        for number, size in enumerate(CHOPS, 1)
    ]


def round_trips() -> list[Case]:
    return [
        _case(f"9.{group}.{number}", f", {TIMES} times", pattern, size, times=TIMES)
        for group, pattern in ((7, b"*"), (8, b"\xfe"))
        for number, size in enumerate(ROUND_TRIPS, 1)
    ]


def auto_fragmented() -> Case:
    return Case(
        "10.1.1",
        "text message of 65536 bytes in fragments of 1300",
        Trip(TEXT, b"*", 65536, fragment=1300).play,
    )
