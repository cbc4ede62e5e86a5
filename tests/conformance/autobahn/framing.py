"""Categories 1 to 5: sizes of messages, pings, reserved bits, opcodes, fragments."""

from tests.conformance.autobahn.peer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Heard,
    Peer,
    chopped,
    frame,
)
from tests.conformance.autobahn.play import Case, Verdict, echo, expect, refused, say_goodbye

HELLO = b"Hello, world!"
ODD = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
PART_1, PART_2, PART_3, PART_4 = (b"fragment%d" % number for number in range(1, 5))
NOTHING_TO_CONTINUE = b"non-continuation payload"


def cases() -> list[Case]:
    return [*sizes(), *pings(), *reserved_bits(), *opcodes(), *fragmentation()]


# 1


def sizes() -> list[Case]:
    found = []
    for group, (kind, opcode, byte) in enumerate(
        (("text", TEXT, b"*"), ("binary", BINARY, b"\xfe")), 1
    ):
        for number, size in enumerate((0, 125, 126, 127, 128, 65535, 65536), 1):
            payload = byte * size
            found.append(
                echo(
                    f"1.{group}.{number}",
                    f"{kind} message of {size} bytes",
                    [frame(opcode, payload)],
                    Heard(kind, payload),
                )
            )
        payload = byte * 65536
        found.append(
            echo(
                f"1.{group}.8",
                f"{kind} message of 65536 bytes, in chops of 997",
                chopped(frame(opcode, payload), 997),
                Heard(kind, payload),
            )
        )
    return [_binary(case) if case.number.startswith("1.2") else case for case in found]


def _binary(case: Case) -> Case:
    return case._replace(path="/cable?binary")


# 2


def pings() -> list[Case]:
    wide = b"\xfe" * 125
    ten = [b"payload-%d" % number for number in range(10)]
    unasked = frame(PONG, b"unsolicited pong payload")
    return [
        echo("2.1", "ping without a payload", [frame(PING)], Heard("pong")),
        echo("2.2", "ping with text", [frame(PING, HELLO)], Heard("pong", HELLO)),
        echo("2.3", "ping with bytes", [frame(PING, ODD)], Heard("pong", ODD)),
        echo("2.4", "ping with 125 bytes", [frame(PING, wide)], Heard("pong", wide)),
        refused("2.5", "ping with 126 bytes", [frame(PING, b"\xfe" * 126)]),
        echo(
            "2.6",
            "ping with 125 bytes, byte by byte",
            chopped(frame(PING, wide), 1),
            Heard("pong", wide),
        ),
        echo("2.7", "unasked pong without a payload", [frame(PONG)]),
        echo("2.8", "unasked pong", [unasked]),
        echo(
            "2.9",
            "unasked pong, then a ping",
            [unasked + frame(PING, b"ping payload")],
            Heard("pong", b"ping payload"),
        ),
        echo(
            "2.10",
            "ten pings",
            [b"".join(frame(PING, each) for each in ten)],
            *(Heard("pong", each) for each in ten),
        ),
        echo(
            "2.11",
            "ten pings, byte by byte",
            chopped(b"".join(frame(PING, each) for each in ten), 1),
            *(Heard("pong", each) for each in ten),
        ),
    ]


# 3


def reserved_bits() -> list[Case]:
    good, heard = frame(TEXT, HELLO), Heard("text", HELLO)
    second = [good, frame(TEXT, HELLO, rsv=2), frame(PING)]
    third = [good, frame(TEXT, HELLO, rsv=3), frame(PING)]
    fourth = [good, frame(TEXT, HELLO, rsv=4), frame(PING)]
    return [
        refused("3.1", "text with RSV 1", [frame(TEXT, HELLO, rsv=1)]),
        refused("3.2", "good text, then RSV 2, then a ping", [b"".join(second)], heard),
        refused("3.3", "good text, then RSV 3, then a ping, frame by frame", third, heard),
        refused(
            "3.4",
            "good text, then RSV 4, then a ping, byte by byte",
            chopped(b"".join(fourth), 1),
            heard,
        ),
        refused("3.5", "binary with RSV 5", [frame(BINARY, ODD, rsv=5)]),
        refused("3.6", "binary with RSV 6", [frame(BINARY, HELLO, rsv=6)]),
        refused("3.7", "close with RSV 7", [frame(CLOSE, rsv=7)]),
    ]


# 4


def opcodes() -> list[Case]:
    good, heard = frame(TEXT, HELLO), Heard("text", HELLO)
    found = []
    for group, base in ((1, 3), (2, 11)):
        what = "control opcode" if group == 2 else "opcode"
        reserved = b"reserved opcode payload"
        third = good + frame(base + 2) + frame(PING)
        fourth = good + frame(base + 3, HELLO) + frame(PING)
        fifth = good + frame(base + 4, HELLO) + frame(PING)
        then = "good text, then"
        found += [
            refused(f"4.{group}.1", f"{what} {base}", [frame(base)]),
            refused(f"4.{group}.2", f"{what} {base + 1}", [frame(base + 1, reserved)]),
            refused(f"4.{group}.3", f"{then} {what} {base + 2} and a ping", [third], heard),
            refused(f"4.{group}.4", f"{then} {what} {base + 3} and a ping", [fourth], heard),
            refused(
                f"4.{group}.5",
                f"{then} {what} {base + 4} and a ping, byte by byte",
                chopped(fifth, 1),
                heard,
            ),
        ]
    return found


# 5


def fragmentation() -> list[Case]:
    found = [
        refused(
            f"5.{number}",
            f"{what} in two fragments",
            [frame(opcode, PART_1, fin=False) + frame(CONTINUATION, PART_2)],
        )
        for number, what, opcode in ((1, "ping", PING), (2, "pong", PONG))
    ]
    two = [frame(TEXT, PART_1, fin=False), frame(CONTINUATION, PART_2)]
    both = Heard("text", PART_1 + PART_2)
    with_ping = [two[0], frame(PING, b"ping payload"), two[1]]
    found += [
        echo(f"5.{number}", f"text in two fragments, {how}", pieces, both)
        for number, (how, pieces) in enumerate(_each_way(two), 3)
    ]
    found += [
        echo(
            f"5.{number}",
            f"text in two fragments, a ping between them, {how}",
            pieces,
            Heard("pong", b"ping payload"),
            both,
        )
        for number, (how, pieces) in enumerate(_each_way(with_ping), 6)
    ]
    for start, fin in ((9, True), (12, False)):
        lost = [frame(CONTINUATION, NOTHING_TO_CONTINUE, fin=fin), frame(TEXT, HELLO)]
        found += [
            refused(f"5.{number}", f"continuation of nothing (FIN {fin:d}), {how}", pieces)
            for number, (how, pieces) in enumerate(_each_way(lost), start)
        ]
    found += [
        refused(
            "5.15",
            "text in two fragments, then a continuation of nothing",
            [b"".join([*two, frame(CONTINUATION, PART_3, fin=False), frame(TEXT, PART_4)])],
            both,
        ),
        *(
            refused(
                f"5.{number}",
                f"continuation of nothing (FIN {fin:d}), then text in two fragments, twice",
                [
                    frame(CONTINUATION, PART_1, fin=fin)
                    + frame(TEXT, PART_2, fin=False)
                    + frame(CONTINUATION, PART_3)
                ]
                * 2,
            )
            for number, fin in ((16, False), (17, True))
        ),
        refused(
            "5.18",
            "text in two fragments, each with the opcode of text",
            [frame(TEXT, PART_1, fin=False) + frame(TEXT, PART_2)],
        ),
        Case("5.19", "text in five fragments, two pings and a pause between", _in_two_goes),
        Case("5.20", "text in five fragments, likewise, frame by frame", _in_two_goes_by_frames),
    ]
    return found


def _each_way(frames: list[bytes]) -> list[tuple[str, list[bytes]]]:
    whole = b"".join(frames)
    return [("at once", [whole]), ("frame by frame", frames), ("byte by byte", chopped(whole, 1))]


PAUSE_S = 0.1
"""Autobahn waits a second; the first pong must not wait for the rest."""


def _in_two_goes(peer: Peer, *, frame_by_frame: bool = False) -> Verdict:
    parts = [b"fragment%d" % number for number in range(1, 6)]
    first = [
        frame(TEXT, parts[0], fin=False),
        frame(CONTINUATION, parts[1], fin=False),
        frame(PING, b"pongme 1!"),
    ]
    rest = [
        frame(CONTINUATION, parts[2], fin=False),
        frame(CONTINUATION, parts[3], fin=False),
        frame(PING, b"pongme 2!"),
        frame(CONTINUATION, parts[4]),
    ]
    peer.send(first if frame_by_frame else [b"".join(first)])
    expect(peer, Heard("pong", b"pongme 1!"))
    assert peer.is_left_alone(PAUSE_S)
    peer.send(rest if frame_by_frame else [b"".join(rest)])
    expect(peer, Heard("pong", b"pongme 2!"), Heard("text", b"".join(parts)))
    say_goodbye(peer)
    return Verdict.OK


def _in_two_goes_by_frames(peer: Peer) -> Verdict:
    return _in_two_goes(peer, frame_by_frame=True)
