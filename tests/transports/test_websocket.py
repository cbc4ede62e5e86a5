"""One WebSocket against a running server, from a client that may break every rule of RFC 6455."""

import contextlib
import json
import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.raw_socket import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    RawSocket,
    command,
    masked,
    upgrade,
)
from tests.parts.server import CableServer, cable_server

PUBLIC = ("--public", "--norpc", "--broadcast_adapter=http", "--ping_interval=100")


def on(stream: str) -> str:
    return json.dumps({"channel": "$pubsub", "stream_name": stream})


def publish(server: CableServer, stream: str, data: str) -> None:
    body = json.dumps({"stream": stream, "data": data}).encode()
    request = urllib.request.Request(server.broadcast_url, body, method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 201


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    with cable_server(*PUBLIC) as server:
        yield server


@pytest.fixture
def client(server: CableServer) -> Iterator[RawSocket]:
    with RawSocket(server.port) as client:
        yield client.open()


# Bytes, however they come


def test_commands_in_one_read_are_answered_in_order(client: RawSocket) -> None:
    rooms = [on(f"pipeline-{n}") for n in range(100)]
    client.send(b"".join(command("subscribe", room) for room in rooms))
    confirmed = [client.message()["identifier"] for _ in rooms]
    assert confirmed == rooms


def test_frames_in_the_same_read_as_the_handshake_are_received(server: CableServer) -> None:
    with RawSocket(server.port) as client:
        client.send(upgrade() + command("ping") + masked(b"x", PING))
        assert client.head().startswith("HTTP/1.1 101 ")
        assert client.message()["type"] == "welcome"
        assert client.message() == {"type": "pong"}
        assert client.frame() == (PONG, b"x")


def test_byte_by_byte(client: RawSocket) -> None:
    said = command("subscribe", on("bytes")) + masked(b"?", PING)
    client.send(*(said[i : i + 1] for i in range(len(said))))
    assert client.message()["type"] == "confirm_subscription"
    assert client.frame() == (PONG, b"?")


def test_fragments_with_a_ping_between_them(client: RawSocket) -> None:
    said = b'{"command":"subscribe","identifier":%b}' % json.dumps(on("fragments")).encode()
    client.send(masked(said[:7], first=0x01), masked(b"!", PING))
    assert client.frame() == (PONG, b"!")
    client.send(masked(said[7:20], first=0x00), masked(said[20:], first=0x80))
    assert client.message()["type"] == "confirm_subscription"


def test_binary_messages_are_read_like_texts(client: RawSocket) -> None:
    client.send(masked(b'{"command":"ping"}', BINARY))
    assert client.message() == {"type": "pong"}


@pytest.mark.parametrize("payload", [b"", b"hello", bytes(range(125))])
def test_a_ping_is_answered_with_its_payload(client: RawSocket, payload: bytes) -> None:
    client.send(masked(payload, PING))
    assert client.frame() == (PONG, payload)


def test_an_unsolicited_pong_is_ignored(client: RawSocket) -> None:
    client.send(masked(b"hello", PONG), masked(b"", PING))
    assert client.frame() == (PONG, b"")


# The end


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", 1000),
        (b"\x03\xe8", 1000),
        (b"\x03\xe9going away", 1001),
        (b"\x0f\xa0mine", 4000),
    ],
)
def test_a_close_is_answered_with_its_code_and_the_server_hangs_up(
    client: RawSocket, payload: bytes, code: int
) -> None:
    client.send(masked(payload, CLOSE))
    assert client.goodbye() == (code, b"")
    assert client.wait_for_end(1) == b""


def test_frames_after_a_close_are_ignored(client: RawSocket) -> None:
    client.send(masked(b"", CLOSE) + command("ping") + b"\xff" * 1000)
    assert client.goodbye() == (1000, b"")
    assert client.wait_for_end(1) == b""


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        pytest.param(b"\x81\x05hello", 1002, id="not masked"),
        pytest.param(masked(b"x", first=0xC1), 1002, id="reserved bit"),
        pytest.param(masked(b"x", 0x3), 1002, id="unknown opcode"),
        pytest.param(masked(b"x", 0xB), 1002, id="unknown control opcode"),
        pytest.param(masked(b"x", first=0x80), 1002, id="continuation of nothing"),
        pytest.param(masked(b"x", first=0x01) + masked(b"x"), 1002, id="message in a message"),
        pytest.param(masked(b"x", first=0x09), 1002, id="ping in pieces"),
        pytest.param(masked(b"x" * 126, PING), 1002, id="ping too long"),
        pytest.param(masked(b"x", CLOSE), 1002, id="half a close code"),
        pytest.param(masked(b"\x03\xed", CLOSE), 1002, id="close code 1005"),
        pytest.param(masked(b"\x00\x00", CLOSE), 1002, id="close code 0"),
        pytest.param(masked(b"\xff\xfe"), 1007, id="no UTF-8"),
        pytest.param(masked(b"\x03\xe8\xff", CLOSE), 1007, id="reason is no UTF-8"),
        pytest.param(masked(b"x" * 65_537), 1009, id="too large"),
        pytest.param(b"\x81\xff\x7f" + b"\xff" * 7 + b"abcd", 1009, id="far too large"),
        pytest.param(
            masked(b"x" * 40_000, first=0x01) + masked(b"x" * 40_000, first=0x80),
            1009,
            id="too large in pieces",
        ),
    ],
)
def test_a_fault_closes_with_its_code(client: RawSocket, fault: bytes, code: int) -> None:
    client.send(command("ping") + fault + command("ping"))
    assert client.message() == {"type": "pong"}
    got, reason = client.goodbye()
    assert got == code
    assert reason.startswith(b"expected")


def test_after_a_fault_the_server_hangs_up_whether_it_is_answered_or_not(
    client: RawSocket,
) -> None:
    client.send(masked(b"x", 0x3))
    assert client.goodbye()[0] == 1002
    assert client.wait_for_end(4) == b""


def test_a_half_closed_socket_still_gets_its_answers(client: RawSocket) -> None:
    client.send(command("subscribe", on("half")) + command("ping"))
    client.socket.shutdown(socket.SHUT_WR)
    assert client.message()["type"] == "confirm_subscription"
    assert client.message() == {"type": "pong"}
    assert client.wait_for_end(4) == b""


def test_deep_json_costs_a_command_and_not_the_connection(client: RawSocket) -> None:
    deep = "[" * 20_000 + "]" * 20_000
    client.send(
        command("subscribe", '{"channel":"$pubsub","stream_name":"a","x":' + deep + "}"),
        masked(b'{"command":"whisper","identifier":"","data":' + deep.encode() + b"}"),
        command("ping"),
    )
    heard = [client.message()]
    while heard[-1] != {"type": "pong"}:
        heard.append(client.message())
    assert [each["type"] for each in heard] in (["reject_subscription", "pong"], ["pong"])


def test_a_client_that_vanishes_is_forgotten(server: CableServer) -> None:
    with RawSocket(server.port) as watcher:
        watcher.open().send(command("subscribe", on("vanish")))
        watcher.message()
        for _ in range(20):
            client = RawSocket(server.port).open()
            client.send(command("subscribe", on("vanish")))
            # RST instead of FIN.
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.socket.close()
        publish(server, "vanish", '"hello"')
        assert watcher.message()["message"] == "hello"


# Slow readers


def test_a_slow_reader_is_closed_and_others_are_not_affected() -> None:
    with (
        cable_server(*PUBLIC, "--ws_max_pending_size=200000") as server,
        RawSocket(server.port, receive_buffer=4096) as slow,
        RawSocket(server.port) as quick,
    ):
        slow.open().send(command("subscribe", on("flood")))
        assert slow.message()["type"] == "confirm_subscription"
        quick.open().send(command("subscribe", on("flood")))
        assert quick.message()["type"] == "confirm_subscription"
        both = sockets(server)
        # The kernel takes some megabytes before anything waits in the server.
        for number in range(150):
            publish(server, "flood", json.dumps([number, "x" * 65_000]))
            assert quick.message()["message"][0] == number
        deadline = time.monotonic() + 30
        while sockets(server) >= both:
            assert time.monotonic() < deadline, "a client that reads nothing was never closed"
            time.sleep(0.02)
        publish(server, "flood", '"still here"')
        assert quick.message()["message"] == "still here"


def sockets(server: CableServer) -> int:
    """How many sockets the server holds: a client that does not read sees no end of its own."""
    number = 0
    for each in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since they were listed
            number += str(each.readlink()).startswith("socket:")
    return number


def test_a_slow_reader_that_reads_after_all_gets_the_reason() -> None:
    with (
        cable_server(*PUBLIC, "--ws_max_pending_size=200000") as server,
        RawSocket(server.port, receive_buffer=4096) as slow,
    ):
        slow.open().send(command("subscribe", on("flood")))
        assert slow.message()["type"] == "confirm_subscription"
        # The kernel takes some megabytes before anything waits in the server.
        for _ in range(150):
            publish(server, "flood", json.dumps("x" * 65_000))
        last = slow.message()
        while "message" in last:
            last = slow.message()
        assert last == {"type": "disconnect", "reason": "too_slow", "reconnect": True}
        assert slow.goodbye() == (1000, b"Slow client")


def test_a_limit_of_0_is_no_limit() -> None:
    with (
        cable_server(*PUBLIC, "--ws_max_pending_size=0") as server,
        RawSocket(server.port, receive_buffer=4096) as slow,
    ):
        slow.open().send(command("subscribe", on("flood")))
        assert slow.message()["type"] == "confirm_subscription"
        for number in range(150):
            publish(server, "flood", json.dumps([number, "x" * 65_000]))
        assert [slow.message()["message"][0] for _ in range(150)] == list(range(150))


def test_a_client_that_closes_and_does_not_read_is_aborted() -> None:
    with (
        cable_server(*PUBLIC, "--ws_max_pending_size=100000000") as server,
        RawSocket(server.port, receive_buffer=4096) as stuck,
    ):
        stuck.open().send(command("subscribe", on("flood")))
        assert stuck.message()["type"] == "confirm_subscription"
        for _ in range(150):
            publish(server, "flood", json.dumps("x" * 65_000))
        before = sockets(server)
        stuck.send(masked(b"", CLOSE))
        deadline = time.monotonic() + 30
        while sockets(server) >= before:
            assert time.monotonic() < deadline, "the connection is kept for ever"
            time.sleep(0.05)


# Floods


def test_a_large_read_is_taken_in_turns_and_in_order(client: RawSocket) -> None:
    """500 KB of messages of all sizes, cut anywhere by the turns."""
    client.send(command("subscribe", on("turns")))
    assert client.message()["type"] == "confirm_subscription"
    said = []
    for number in range(120):
        said.append(masked(b"%d" % number, PING))
        said.append(command("ping", "x" * (number * 97 % 9000)))
    client.send(b"".join(said))
    for number in range(120):
        assert client.frame() == (PONG, b"%d" % number)
        assert client.message() == {"type": "pong"}


def test_a_message_of_many_turns_is_one(server: CableServer, client: RawSocket) -> None:
    """Frames after it are read, too."""
    padding = " " * 60_000
    client.send(command("subscribe", on("long"), padding=padding) + masked(b"!", PING))
    assert client.message()["type"] == "confirm_subscription"
    assert client.frame() == (PONG, b"!")


def test_a_client_that_leaves_between_its_turns_is_forgotten(server: CableServer) -> None:
    for _ in range(20):
        with RawSocket(server.port) as client:
            client.open()
            client.send(command("ping") * 8000)
    with RawSocket(server.port) as client:
        client.open().send(command("ping"))
        assert client.message() == {"type": "pong"}
    assert "Traceback" not in server.output()


def test_a_goodbye_behind_a_flood_is_answered(client: RawSocket) -> None:
    client.send(masked(b"", PING) * 1500 + masked((1000).to_bytes(2, "big"), CLOSE))
    assert client.goodbye() == (1000, b"")


@pytest.fixture(scope="module")
def strict() -> Iterator[CableServer]:
    flags = (
        "--ws_max_message_rate=50",
        "--ws_message_timeout=1",
        "--handshake_timeout=1",
        "--metrics_http=/metrics",
    )
    with cable_server(*PUBLIC, *flags) as server:
        yield server


def test_messages_beyond_the_rate_are_delayed_and_not_lost(strict: CableServer) -> None:
    with RawSocket(strict.port) as client:
        client.open()
        begun = time.monotonic()
        for number in range(6):
            client.send(*[masked(b"%d" % number, PING)] * 25)
            assert [client.frame() for _ in range(25)] == [(PONG, b"%d" % number)] * 25
        # 150 of them: a second's share at once, 50 a second for the rest; counted by the share.
        assert 0.9 < time.monotonic() - begun < 5
        client.send(masked((1000).to_bytes(2, "big"), CLOSE))
        assert client.goodbye()[0] == 1000


def slowed_clients(server: CableServer) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=30) as answer:
        found = re.search(rb"^\w*slowed_clients_total (\d+)", answer.read(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_within_the_rate_no_client_is_slowed(strict: CableServer) -> None:
    before = slowed_clients(strict)
    with RawSocket(strict.port) as client:
        client.open()
        client.send(*[masked(b"", PING)] * 50)
        for _ in range(50):
            assert client.frame() == (PONG, b"")
    assert slowed_clients(strict) == before


def test_a_message_that_is_not_complete_in_time(strict: CableServer) -> None:
    with RawSocket(strict.port) as client:
        client.open()
        said = command("subscribe", on("late"))
        client.send(said[:10])
        assert client.goodbye() == (1008, b"expected the rest of the message in time")


def test_pings_do_not_prolong_a_message(strict: CableServer) -> None:
    with RawSocket(strict.port) as client:
        client.open()
        client.send(masked(b"{", first=0x01))
        begun = time.monotonic()
        client.socket.settimeout(0.1)
        opcode = PONG
        while opcode == PONG:
            client.send(masked(b"", PING))
            try:
                opcode = client.frame()[0]
            except TimeoutError:
                continue
            time.sleep(0.05)
        assert opcode == CLOSE
        assert time.monotonic() - begun < 4


def test_messages_in_a_row_may_each_take_their_time(strict: CableServer) -> None:
    """Always in the middle of one, and yet each is complete in time."""
    with RawSocket(strict.port) as client:
        client.open()
        said = command("ping")
        client.send(said[:5])
        for _ in range(5):
            time.sleep(0.45)
            client.send(said[5:] + said[:5])
            assert client.message() == {"type": "pong"}
        client.send(said[5:])
        assert client.message() == {"type": "pong"}
        time.sleep(2.2)
        client.send(said)
        assert client.message() == {"type": "pong"}
