"""Category 7: the closing handshake, close codes and reasons."""

from collections.abc import Collection
from functools import partial

from tests.conformance.autobahn.limits import TEN, repeated
from tests.conformance.autobahn.peer import CLOSE, CONTINUATION, PING, TEXT, Heard, Peer, frame
from tests.conformance.autobahn.play import (
    INVALID_PAYLOAD,
    NORMAL,
    PROTOCOL_ERROR,
    Case,
    Verdict,
    close,
    echo,
    expect,
    expect_close,
)
from tests.conformance.autobahn.text import SURROGATE

HELLO = b"Hello World!"

MAY_BE_SENT = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
NEVER_SENT = (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999)
UNDEFINED = (5000, 65535)


def cases() -> list[Case]:
    return [*basic(), *payloads(), *codes()]


def closed(
    number: str, title: str, *sent: bytes, codes: Collection[int] = (NORMAL,), informs: bool = False
) -> Case:
    """The close frame is answered, with nothing before or after it."""

    def play(peer: Peer) -> Verdict:
        peer.send([b"".join(sent)])
        expect_close(peer, codes)
        return Verdict.INFORMATIONAL if informs else Verdict.OK

    return Case(number, title, play)


def basic() -> list[Case]:
    start, end = frame(TEXT, b"fragment1", fin=False), frame(CONTINUATION, b"fragment2")
    return [
        echo("7.1.1", "a message, then a close", [frame(TEXT, HELLO)], Heard("text", HELLO)),
        closed("7.1.2", "two closes", close(), frame(CLOSE)),
        closed("7.1.3", "a ping behind the close", close(), frame(PING)),
        closed("7.1.4", "a message behind the close", close(), frame(TEXT, HELLO)),
        closed("7.1.5", "a close between two fragments", start, close(), end),
        Case("7.1.6", "256 KB, a message, a close and a ping at once", _much_and_close),
    ]


def _much_and_close(peer: Peer) -> Verdict:
    much = repeated(TEN, 256 * 2**10)
    peer.send([frame(TEXT, much) + frame(TEXT, HELLO) + close() + frame(PING)])
    expect(peer, Heard("text", much), Heard("text", HELLO))
    expect_close(peer, [NORMAL])
    return Verdict.INFORMATIONAL


def payloads() -> list[Case]:
    fault = [PROTOCOL_ERROR]
    return [
        # 1005: a close without a code may be answered without one.
        closed("7.3.1", "close without a payload", close(None), codes=[NORMAL, 1005]),
        closed("7.3.2", "close with one byte", frame(CLOSE, b"a"), codes=fault),
        closed("7.3.3", "close with a code", close()),
        closed("7.3.4", "close with a reason", close(reason=HELLO)),
        closed("7.3.5", "close with a reason of 123 bytes", close(reason=b"*" * 123)),
        closed("7.3.6", "close with a reason of 124", close(reason=b"*" * 124), codes=fault),
        closed(
            "7.5.1",
            "close with a reason that is no UTF-8",
            close(reason=SURROGATE),
            codes=[PROTOCOL_ERROR, INVALID_PAYLOAD],
        ),
    ]


def codes() -> list[Case]:
    unknown = partial(closed, informs=True)
    return [
        *(
            closed(f"7.7.{number}", f"close with {code}", close(code), codes=[NORMAL, code])
            for number, code in enumerate(MAY_BE_SENT, 1)
        ),
        *(
            closed(f"7.9.{number}", f"close with {code}", close(code), codes=[PROTOCOL_ERROR])
            for number, code in enumerate(NEVER_SENT, 1)
        ),
        *(
            unknown(
                f"7.13.{number}",
                f"close with {code}",
                close(code),
                codes=[NORMAL, code, PROTOCOL_ERROR],
            )
            for number, code in enumerate(UNDEFINED, 1)
        ),
    ]
