import json
from collections.abc import Iterator

import pytest

from catenary.auth.keys import BROADCAST_PHRASE, derived_key
from tests.parts.cable_client import CableClient, confirmed, identifier
from tests.parts.server import CableServer, cable_server
from tests.terminal.shell import SECRET, beside, catenary

STREAM = identifier("$pubsub", stream_name="chat/1")


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    flags = (f"--secret={SECRET}", "--noauth", "--public_streams", "--norpc")
    with cable_server(*flags, "--broadcast_adapter=http") as server:
        yield server


@pytest.fixture
def listener(server: CableServer) -> Iterator[CableClient]:
    with CableClient(server.cable_url) as client:
        client.receive_welcome()
        assert client.subscribe(STREAM) == confirmed(STREAM)
        yield client


def received(client: CableClient) -> object:
    return client.receive()["message"]


@pytest.mark.parametrize(
    ("words", "given", "expected"),
    [
        (('{"a": [1, "ü"]}',), None, {"a": [1, "ü"]}),
        (("just text",), None, "just text"),
        (("42",), None, 42),
        (("--text", "42"), None, "42"),
        (("--", "-42"), None, -42),
        ((), '{"from": "stdin"}\n', {"from": "stdin"}),
        (("-",), "two\nlines\n", "two\nlines"),
        (('{"a": "party \\ud83c"}',), None, {"a": "party \ufffd"}),
        (("no UTF-8: \udcfc",), None, "no UTF-8: \ufffd"),
    ],
)
def test_data(
    server: CableServer,
    listener: CableClient,
    words: tuple[str, ...],
    given: str | None,
    expected: object,
) -> None:
    done = catenary("publish", "chat/1", *words, given=given, **beside(server, SECRET))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert received(listener) == expected


def test_each_line_is_a_message_in_order(server: CableServer, listener: CableClient) -> None:
    given = "".join(f"{number}\r\n" for number in range(50)) + "\nlast"
    done = catenary("publish", "chat/1", "--lines", given=given, **beside(server, SECRET))
    assert done.returncode == 0, done.stderr
    assert [received(listener) for _ in range(51)] == [*range(50), "last"]


def test_a_line_that_is_refused_is_told_and_the_next_is_published(
    server: CableServer, listener: CableClient
) -> None:
    given = f"before\n{'x' * 17_000_000}\nafter\n"
    done = catenary("publish", "chat/1", "--lines", given=given, **beside(server, SECRET))
    assert done.returncode == 1
    assert done.stderr.startswith("catenary publish: 'xxx")
    assert "HTTP 413: expected a body of up to 16777216 bytes" in done.stderr
    assert len(done.stderr) < 300
    assert [received(listener), received(listener)] == ["before", "after"]


def test_somebody_is_left_out(server: CableServer, listener: CableClient) -> None:
    with CableClient(server.cable_url) as other:
        sid = other.receive_welcome()["sid"]
        other.subscribe(STREAM)
        around = beside(server, SECRET)
        assert catenary("publish", "chat/1", "1", "--exclude-socket", sid, **around).returncode == 0
        assert catenary("publish", "chat/1", "2", **around).returncode == 0
        assert received(other) == 2
        assert [received(listener), received(listener)] == [1, 2]


def test_a_refusal_is_told(server: CableServer) -> None:
    url = f"--url={server.broadcast_url}"
    done = catenary("publish", "chat/1", "x", url, "--secret=another")
    assert done.returncode == 1
    assert done.stderr == (
        "catenary publish: the server refused the broadcast: HTTP 401: "
        "expected Authorization: Bearer with the key\n"
    )


def test_the_key_itself(server: CableServer, listener: CableClient) -> None:
    url = f"--url={server.broadcast_url}"
    key = derived_key(SECRET, BROADCAST_PHRASE)
    assert catenary("publish", "chat/1", json.dumps("k"), url, f"--key={key}").returncode == 0
    assert received(listener) == "k"
