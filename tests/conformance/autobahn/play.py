"""Runs a case, and checks the outcome.

A case passes with one of three verdicts, as Autobahn has them; one that fails raises AssertionError.
"""

import time
from collections.abc import Callable, Collection, Sequence
from enum import Enum
from typing import Final, NamedTuple

from tests.conformance.autobahn.peer import CLOSE, Heard, Peer, frame

NORMAL: Final = 1000
PROTOCOL_ERROR: Final = 1002
INVALID_PAYLOAD: Final = 1007

HANG_UP_S: Final = 1.0
"""How long the server's side may stay open after a close frame, as Autobahn counts."""


class Verdict(Enum):
    """``NON_STRICT`` is right by the RFC, and not as early as it could be."""

    OK = "OK"
    NON_STRICT = "NON-STRICT"
    INFORMATIONAL = "INFORMATIONAL"


Play = Callable[[Peer], Verdict]


class Case(NamedTuple):
    """One case; a ``path`` that ends in ``?binary`` is answered in binary frames."""

    number: str
    title: str
    play: Play
    path: str = "/cable"
    offer: str = ""


def run(case: Case, port: int) -> Verdict:
    """Plays a case on a connection of its own. Raises AssertionError where it fails."""
    with Peer(port, case.path, case.offer) as peer:
        return case.play(peer)


def close(code: int | None = NORMAL, reason: bytes = b"") -> bytes:
    """A close frame; None leaves the code out."""
    return frame(CLOSE, (b"" if code is None else code.to_bytes(2, "big")) + reason)


def echo(number: str, title: str, pieces: Sequence[bytes], *heard: Heard) -> Case:
    """Exactly this arrives; then the client closes and the server ends the connection."""

    def play(peer: Peer) -> Verdict:
        peer.send(pieces)
        expect(peer, *heard)
        say_goodbye(peer)
        return Verdict.OK

    return Case(number, title, play, path_for(heard))


def refused(
    number: str,
    title: str,
    pieces: Sequence[bytes],
    *heard: Heard,
    codes: Collection[int] = (PROTOCOL_ERROR,),
) -> Case:
    """Exactly this arrives, and then the server closes because of an error."""

    def play(peer: Peer) -> Verdict:
        peer.send(pieces)
        expect(peer, *heard)
        expect_close(peer, codes)
        return Verdict.OK

    return Case(number, title, play, path_for(heard))


def path_for(heard: Sequence[Heard]) -> str:
    return "/cable?binary" if any(each.kind == "binary" for each in heard) else "/cable"


def expect(peer: Peer, *heard: Heard) -> None:
    """Receives exactly this."""
    for expected in heard:
        got = peer.hear()
        # Not compared by ==, which shows all of 16 MB.
        assert got.kind == expected.kind, f"expected {expected}, got {got}"
        assert got.payload == expected.payload, f"expected {expected}, got {got}"


def expect_close(peer: Peer, codes: Collection[int]) -> None:
    """Receives a close frame with one of these codes, and the server ends the connection first."""
    got = peer.hear()
    assert got.kind == "close", f"expected a close frame, got {got}"
    assert got.code in codes, f"expected a close code of {codes}, got {got.code}"
    closed = time.monotonic()
    end = peer.hear()
    assert end.kind == "end", f"expected the end, got {end}"
    assert time.monotonic() - closed < HANG_UP_S, "the server did not hang up"


def say_goodbye(peer: Peer) -> None:
    """The client closes; it gets its code back and nothing else."""
    peer.send([close()])
    expect_close(peer, [NORMAL])
