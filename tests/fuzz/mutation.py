"""Bytes that are almost right: valid ones, damaged a little. About 3 µs for each."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

EDGES: Final = (b"\x00", b"\x7f", b"\x80", b"\xff", b"\xc3", b"\xed\xa0\x80", b'"', b"\\", b"\r\n")
"""Where numbers, UTF-8, JSON and lines change their meaning."""

LONGEST: Final = 4096
STRETCHED: Final = 65_536
"""What one in some hundreds has: what takes time with the square of its length shows there."""


def mutations(seeds: Sequence[bytes], words: Sequence[bytes]) -> Callable[[Random], bytes]:
    """A maker of inputs. ``words`` mean something to the core, wherever they come."""
    pieces = (*EDGES, *words)

    def flip(data: bytes, at: int, random: Random) -> bytes:
        return data[:at] + bytes((random.getrandbits(8),)) + data[at + 1 :]

    def insert(data: bytes, at: int, random: Random) -> bytes:
        return data[:at] + random.choice(pieces) + data[at:]

    def replace(data: bytes, at: int, random: Random) -> bytes:
        piece = random.choice(pieces)
        return data[:at] + piece + data[at + len(piece) :]

    def cut(data: bytes, at: int, random: Random) -> bytes:
        return data[:at] + data[at + 1 + random.getrandbits(4) :]

    def end(data: bytes, at: int, random: Random) -> bytes:
        return data[:at]

    def repeat(data: bytes, at: int, random: Random) -> bytes:
        piece = data[at : at + 1 + random.getrandbits(3)]
        return data[:at] + piece * (2 + random.getrandbits(4)) + data[at:]

    def join(data: bytes, at: int, random: Random) -> bytes:
        return data[:at] + random.choice(seeds)

    ways = (flip, flip, insert, insert, replace, replace, cut, end, repeat, join)

    def mutated(random: Random) -> bytes:
        data = random.choice(seeds)
        for _ in range(1 + random.getrandbits(2)):
            data = random.choice(ways)(data, int(random.random() * (len(data) + 1)), random)
        if random.getrandbits(9) == 0:
            return stretched(data, random)
        return data[:LONGEST]

    def stretched(data: bytes, random: Random) -> bytes:
        at = int(random.random() * (len(data) + 1))
        piece = random.choice((data[at : at + 1 + random.getrandbits(3)], random.choice(pieces)))
        times = (STRETCHED - len(data)) // max(len(piece), 1)
        return data[:at] + piece * times + random.choice(pieces) + data[at:]

    return mutated
