"""Categories 12 and 13: compressed messages of many sizes, contents and agreements.

Autobahn sends 1,000 messages in each case; we send up to 100, as many as make 200 KB, but 4 at
least. Its contents are files; ours are made up, of the same five kinds.
"""

import json
from collections.abc import Callable
from functools import cache, partial
from random import Random
from typing import Final, NamedTuple

from tests.conformance.autobahn.peer import BINARY, TEXT, Heard, Peer, fragments, frame
from tests.conformance.autobahn.play import Case, Verdict, expect, say_goodbye

KB: Final = 1024
SHAPES: Final = (
    *((size, 0) for size in (16, 64, 256, KB, 4 * KB, 8 * KB)),
    *((size * KB, 0) for size in (16, 32, 64, 128)),
    *((size * KB, 256) for size in (8, 16, 32, 64, 128)),
    *((128 * KB, fragment) for fragment in (KB, 4 * KB, 32 * KB)),
)
"""Size of each message, and of its fragments after compression; 0: in one frame."""

CONTENT_BYTES: Final = 200_000
MOST_MESSAGES: Final = 100
FEWEST_MESSAGES: Final = 4
WORDS: Final = (
    *("Habe", "nun", "ach", "Philosophie", "Juristerei", "und", "Medizin", "leider", "auch"),
    *("durchaus", "studiert", "mit", "heißem", "Bemühn", "Da", "steh", "ich", "armer", "Tor"),
)

OFFERED: Final = "permessage-deflate; client_no_context_takeover; client_max_window_bits"
OFFERS: Final = (
    OFFERED,
    f"{OFFERED}; server_no_context_takeover",
    f"{OFFERED}; server_max_window_bits=9",
    f"{OFFERED}; server_max_window_bits=15",
    f"{OFFERED}; server_no_context_takeover; server_max_window_bits=9",
    f"{OFFERED}; server_no_context_takeover; server_max_window_bits=15",
    ", ".join(
        (
            f"{OFFERED}; server_no_context_takeover; server_max_window_bits=9",
            f"{OFFERED}; server_no_context_takeover",
            OFFERED,
        )
    ),
)


class Content(NamedTuple):
    """Bytes of a kind; text is cut between its characters."""

    what: str
    opcode: int
    make: Callable[[], bytes]


def cases() -> list[Case]:
    return [*contents(), *parameters()]


def contents() -> list[Case]:
    return [
        _case(f"12.{group}.{number}", content, OFFERED, size, fragment)
        for group, content in enumerate(CONTENTS, 1)
        for number, (size, fragment) in enumerate(SHAPES, 1)
    ]


def parameters() -> list[Case]:
    return [
        _case(f"13.{group}.{number}", CONTENTS[0], offer, size, fragment)
        for group, offer in enumerate(OFFERS, 1)
        for number, (size, fragment) in enumerate(SHAPES, 1)
    ]


def _case(number: str, content: Content, offer: str, size: int, fragment: int) -> Case:
    how = f", in fragments of {fragment}" if fragment else ""
    agreed = f" ({offer.partition(', ')[0]})" if number.startswith("13") else ""
    return Case(
        number,
        f"{content.what} in messages of {size} bytes{how}{agreed}",
        partial(_there_and_back, content, offer, size, fragment),
        "/cable?binary" if content.opcode == BINARY else "/cable",
        offer,
    )


def _there_and_back(content: Content, offer: str, size: int, fragment: int, peer: Peer) -> Verdict:
    compression = peer.compression
    assert compression is not None, "expected compression, got none"
    _check_answer(offer.partition(", ")[0], compression.parameters)
    data = content.make()
    opcode = content.opcode
    start = 0
    for _ in range(max(FEWEST_MESSAGES, min(MOST_MESSAGES, CONTENT_BYTES // size))):
        payload = (data[start:] + data)[:size]
        start = (start + size) % len(data)
        packed = compression.pack(payload)
        peer.send(
            [b"".join(fragments(opcode, packed, fragment, rsv=4))]
            if fragment
            else [frame(opcode, packed, rsv=4)]
        )
        expect(peer, Heard("text" if opcode == TEXT else "binary", payload))
    say_goodbye(peer)
    return Verdict.OK


def _check_answer(offer: str, answer: dict[str, str]) -> None:
    """Sections 7.1.1 and 7.1.2: the server accepts the parameters that were offered, and adds none."""
    offered = {
        name: value for name, _, value in (each.partition("=") for each in offer.split("; "))
    }
    if "server_no_context_takeover" in offered:
        assert "server_no_context_takeover" in answer, answer
    if "server_max_window_bits" in offered:
        asked = int(offered["server_max_window_bits"])
        assert 8 <= int(answer["server_max_window_bits"]) <= asked, answer
    assert set(answer) <= {
        "server_no_context_takeover",
        "client_no_context_takeover",
        "server_max_window_bits",
        "client_max_window_bits",
    }


# Outgoing messages


def _random() -> Random:
    return Random(7692)


@cache
def json_text() -> bytes:
    """Records as an application has them, in ASCII."""
    random = _random()
    rows = [
        {
            "id": number,
            "user": f"{random.choice(WORDS).encode('ascii', 'ignore').decode()}{number}",
            "online": random.random() < 0.5,
            "tags": [random.randrange(1000) for _ in range(random.randrange(6))],
            "score": round(random.random() * 100, 3),
        }
        for number in range(2000)
    ]
    return json.dumps(rows).encode()


@cache
def picture() -> bytes:
    """A gradient with noise, as the bytes of a grey picture."""
    random = _random()
    return bytes(
        (column + row + random.randrange(8)) // 4 % 256
        for row in range(512)
        for column in range(512)
    )


@cache
def prose() -> bytes:
    """German in UTF-8, sent as bytes."""
    random = _random()
    return " ".join(random.choice(WORDS) for _ in range(30_000)).encode()


@cache
def html() -> bytes:
    """Tables of a page, in ASCII."""
    random = _random()
    return "\n".join(
        f'<tr class="row-{number % 2}"><td>{number}</td><td>{random.randrange(10**6)}</td></tr>'
        for number in range(4000)
    ).encode()


@cache
def document() -> bytes:
    """Objects with a few words around data that is compressed already."""
    random = _random()
    return b"".join(
        b"%d 0 obj\n<< /Length 2000 /Filter /FlateDecode >>\nstream\n%b\nendstream\nendobj\n"
        % (number, random.randbytes(2000))
        for number in range(100)
    )


CONTENTS: Final = (
    Content("JSON", TEXT, json_text),
    Content("a picture", BINARY, picture),
    Content("prose", BINARY, prose),
    Content("HTML", TEXT, html),
    Content("a document", BINARY, document),
)
