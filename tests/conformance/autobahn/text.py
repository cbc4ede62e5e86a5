"""Category 6: text that is UTF-8 (RFC 3629), and text that is not.

The sequences of 6.5 to 6.23 follow Markus Kuhn's stress test for UTF-8 decoders.
"""

from functools import partial
from typing import NamedTuple

from tests.conformance.autobahn.peer import (
    CONTINUATION,
    TEXT,
    Heard,
    Peer,
    fragments,
    frame,
)
from tests.conformance.autobahn.play import (
    INVALID_PAYLOAD,
    Case,
    Verdict,
    echo,
    expect_close,
    refused,
)

KOSME = bytes.fromhex("ceba e1bdb9 cf83 cebc ceb5")
"""Greek of 2, 3, 2, 2 and 2 bytes."""

HELLO = "Hello-µ@ßöäüàá-UTF-8!!".encode()
MIDDLE = b"middle frame payload"
SURROGATE = KOSME + b"\xed\xa0\x80edited"
OUT_OF_RANGE = KOSME + b"\xf4\x90\x80\x80edited"

PAUSE_S = 0.1
"""How long nothing may come where nothing is wrong yet; Autobahn waits a second."""


def cases() -> list[Case]:
    return [*fragmented(), *fail_fast(), *sequences()]


def fragmented() -> list[Case]:
    cut = HELLO.index("ü".encode())
    halves = frame(TEXT, HELLO[:cut], fin=False) + frame(CONTINUATION, HELLO[cut:])
    empty = frame(CONTINUATION, fin=False)
    start, end = frame(TEXT, fin=False), frame(CONTINUATION)
    middle = frame(CONTINUATION, MIDDLE, fin=False)
    return [
        echo("6.1.1", "text of 0 bytes", [frame(TEXT)], Heard("text")),
        echo("6.1.2", "three fragments of 0 bytes", [start + empty + end], Heard("text")),
        echo(
            "6.1.3",
            "three fragments, the first and the last of 0 bytes",
            [start + middle + end],
            Heard("text", MIDDLE),
        ),
        echo("6.2.1", "UTF-8 in one frame", [frame(TEXT, HELLO)], Heard("text", HELLO)),
        echo("6.2.2", "UTF-8 in two fragments", [halves], Heard("text", HELLO)),
        echo("6.2.3", "UTF-8, a byte a fragment", fragments(TEXT, HELLO, 1), Heard("text", HELLO)),
        echo("6.2.4", "Greek, a byte a fragment", fragments(TEXT, KOSME, 1), Heard("text", KOSME)),
        refused("6.3.1", "no UTF-8", [frame(TEXT, SURROGATE)], codes=[INVALID_PAYLOAD]),
        refused(
            "6.3.2",
            "no UTF-8, a byte a fragment",
            [b"".join(fragments(TEXT, SURROGATE, 1))],
            codes=[INVALID_PAYLOAD],
        ),
    ]


# Fail-fast: a good part, the part that spoils it, a rest that should not be waited for


def fail_fast() -> list[Case]:
    wide = [OUT_OF_RANGE[:11], OUT_OF_RANGE[11:15], OUT_OF_RANGE[15:]]
    narrow = [OUT_OF_RANGE[:12], OUT_OF_RANGE[12:13], OUT_OF_RANGE[13:]]
    found = []
    for number, how, parts in (
        (1, "in three fragments", _as_fragments(wide)),
        (2, "in three fragments, cut at the byte that spoils it", _as_fragments(narrow)),
        (3, "in three chops of a frame", _as_chops(wide)),
        (4, "in three chops of a frame, cut at the byte that spoils it", _as_chops(narrow)),
    ):
        found.append(Case(f"6.4.{number}", f"no UTF-8 {how}", partial(_one_by_one, parts)))
    return found


def _as_fragments(parts: list[bytes]) -> list[bytes]:
    return [
        frame(TEXT, parts[0], fin=False),
        frame(CONTINUATION, parts[1], fin=False),
        frame(CONTINUATION, parts[2]),
    ]


def _as_chops(parts: list[bytes]) -> list[bytes]:
    whole = frame(TEXT, b"".join(parts))
    first = len(whole) - len(parts[1]) - len(parts[2])
    second = first + len(parts[1])
    return [whole[:first], whole[first:second], whole[second:]]


def _one_by_one(parts: list[bytes], peer: Peer) -> Verdict:
    peer.send(parts[:1])
    assert peer.is_left_alone(PAUSE_S), "expected nothing yet: all is well so far"
    peer.send(parts[1:2])
    verdict = Verdict.OK
    if peer.is_left_alone(PAUSE_S):
        verdict = Verdict.NON_STRICT
        peer.send(parts[2:])
    expect_close(peer, [INVALID_PAYLOAD])
    return verdict


# Sequences


class Group(NamedTuple):
    """Texts of one kind; ``good`` are those that are UTF-8: all, none, or these."""

    what: str
    texts: list[bytes]
    good: range | list[int]


def sequences() -> list[Case]:
    found = []
    for group, (what, texts, good) in enumerate(_groups(), 5):
        for number, text in enumerate(texts, 1):
            title = f"{what}: {text.hex(' ')}"
            case = f"6.{group}.{number}"
            if number in good:
                found.append(echo(case, title, [frame(TEXT, text)], Heard("text", text)))
            else:
                found.append(refused(case, title, [frame(TEXT, text)], codes=[INVALID_PAYLOAD]))
    return found


def _all(what: str, *texts: str) -> Group:
    return Group(what, [bytes.fromhex(text) for text in texts], range(1, len(texts) + 1))


def _none(what: str, *texts: str) -> Group:
    return Group(what, [bytes.fromhex(text) for text in texts], [])


def _groups() -> list[Group]:
    cut = ["c0", "e080", "f08080", "f8808080", "fc80808080"]
    cut += ["df", "efbf", "f7bfbf", "fbbfbfbf", "fdbfbfbfbf"]
    surrogates = ["eda080", "edadbf", "edae80", "edafbf", "edb080", "edbe80", "edbfbf"]
    lonely = [(0xC0, 0xDF), (0xE0, 0xEF), (0xF0, 0xF7), (0xF8, 0xFB), (0xFC, 0xFD)]
    boundaries = ["ed9fbf", "ee8080", "efbfbd", "f48fbfbf", "f4908080"]
    return [
        Group(
            "good text",
            [
                *(f"hello{sign}world".encode() for sign in ("$", "¢", "€", "\U00024b62")),
                KOSME,
            ],
            range(1, 6),
        ),
        Group(
            "beginning of good text",
            [KOSME[:size] for size in range(1, len(KOSME) + 1)],
            [2, 5, 7, 9, 11],
        ),
        _all("first of its length", "00", "c280", "e0a080", "f0908080"),
        _none("first of length 5, 6", "f888808080", "fc8480808080"),
        _all("last of its length", "7f", "dfbf", "efbfbf", "f48fbfbf"),
        _none("last of length 4, 5, 6", "f7bfbfbf", "fbbfbfbfbf", "fdbfbfbfbfbf"),
        Group("boundary", [bytes.fromhex(text) for text in boundaries], [1, 2, 3, 4]),
        _none(
            "unexpected continuation",
            "80",
            "bf",
            *(("80bf" * 3)[: 2 * size] for size in range(2, 7)),
            bytes(range(0x80, 0xBF)).hex(),
        ),
        _none(
            "lonely start",
            *("".join(f"{byte:02x}20" for byte in range(*pair)) for pair in lonely),
        ),
        _none("last continuation is missing", *cut),
        _none("incomplete sequences in a row", "".join(cut)),
        _none("impossible byte", "fe", "ff", "fefeffff"),
        _none("overlong ASCII", "c0af", "e080af", "f08080af", "f8808080af", "fc80808080af"),
        _none("longest overlong", "c1bf", "e09fbf", "f08fbfbf", "f887bfbfbf", "fc83bfbfbfbf"),
        _none("overlong NUL", "c080", "e08080", "f0808080", "f880808080", "fc8080808080"),
        _none("surrogate", *surrogates),
        _none(
            "pair of surrogates",
            *(high + low for high in surrogates[:4] for low in ("edb080", "edbfbf")),
        ),
        _all("no character", "efbfbe", "efbfbf", *_noncharacters()),
        _all("special", *(f"efbf{byte:02x}" for byte in range(0xB9, 0xC0))),
    ]


def _noncharacters() -> list[str]:
    """The last two code points of the planes 1 to 16, as far as Autobahn has them."""
    return [
        f"{first:02x}{second:02x}bf{last}"
        for first in (0xF0, 0xF1, 0xF2, 0xF3, 0xF4)
        for second in (0x8F, 0x9F, 0xAF, 0xBF)
        if (first, second) != (0xF0, 0x8F) and not (first == 0xF4 and second != 0x8F)
        for last in ("be", "bf")
    ]
