"""What must hold for long-polling requests, responses and messages between nodes, whatever bytes they are made of."""

import contextlib
import json
from random import Random
from typing import Final

from catenary.errors import CommandError
from catenary.messages.names import Identifier, Stream
from catenary.messages.publications import Position
from catenary.messages.replies import Delivery
from catenary.protocols import relayed_polls
from catenary.protocols.long_polling import (
    ACTION_CABLE_POLLS,
    node_of,
    poll_id,
    received_number,
)
from catenary.wire.json_lines import LINES, lines_of

COMMANDS: Final = 2_000
"""Lines of a body that are read as commands: the server reads more over several turns of the event loop."""

_codec: Final = ACTION_CABLE_POLLS.codec()


def check(data: bytes, random: Random) -> None:
    """Reads a body, the headers, and a message of another node; publishes the body, too."""
    for place, line in enumerate(lines_of(data)):
        assert line.strip(), "an empty line is no command"
        assert b"\n" not in line
        if place < COMMANDS:
            with contextlib.suppress(CommandError):
                _codec.decode(line)
    text = data.decode("latin-1")
    number = received_number(text)
    assert number is None or number >= 0
    node = node_of(text)
    assert not node or node_of(poll_id(node, "secret")) == node
    with contextlib.suppress(ValueError):
        relayed_polls.unpack(data)
    _check_line(data)


def _check_line(message: bytes) -> None:
    """Whatever was published is one line, of the same meaning."""
    content = json.dumps({"text": message.decode(errors="replace")}, indent=1).encode()
    delivery = Delivery(Identifier("i"), content, "", Stream("s"), Position("e", 1))
    line = LINES.frame(_codec.encode_delivery(delivery) or b"")
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert json.loads(line)["message"] == json.loads(content)


_ABOUT: Final = ("0123456789abcdef", 7)
_MESSAGES: Final = (
    relayed_polls.Relayed(*_ABOUT, "0123456789abcdef.abc", 3, b'{"command":"ping"}'),
    relayed_polls.Lost(*_ABOUT, "0123456789abcdef.abc"),
    relayed_polls.Part(*_ABOUT, b'{"type":"pong"}'),
    relayed_polls.Answered(*_ABOUT, 200, 16, 4),
)
SEEDS: Final = (
    b'{"command":"subscribe","identifier":"{\\"channel\\":\\"Chat\\"}"}\n\r\n{"command":"ping"}',
    b"0123456789abcdef.abc-_",
    b"17",
    *(relayed_polls.pack(each) for each in _MESSAGES),
)
WORDS: Final = (b"\n", b"\r\n", b".", b"\x00", b"\xff", b"99999999999999999999", b'{"command":')
