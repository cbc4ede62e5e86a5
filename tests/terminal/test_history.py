"""``catenary history``."""

import json
import time
import urllib.request
from collections.abc import Iterator

import pytest

from catenary.auth.keys import API_PHRASE, derived_key
from tests.parts.server import cable_server
from tests.terminal.shell import SECRET, beside, catenary, lines, rest_api


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    with rest_api(derived_key(SECRET, API_PHRASE)) as url:
        yield url


def test_what_was_published(api: str) -> None:
    flags = (f"--url={api}", f"--key={derived_key(SECRET, API_PHRASE)}")
    first, second = lines(catenary("history", "chat/1", "--since=5m", "--limit=7", *flags))
    assert first == {"offset": 1, "data": {"text": "hi"}}
    assert second["data"]["limit"] == 7
    assert 295 < time.time() - second["data"]["since"] < 330
    assert lines(catenary("history", "chat/1", *flags))[1]["data"] == {}


def test_the_end_of_a_history_of_a_server() -> None:
    flags = ("--public", "--norpc", "--broadcast_adapter=http", "--broker=memory")
    with cable_server(*flags, "--history_limit=5000") as server:
        messages = [{"stream": "news", "data": str(number)} for number in range(2500)]
        request = urllib.request.Request(server.broadcast_url, json.dumps(messages).encode())
        urllib.request.urlopen(request, timeout=10).close()
        for limit in (3, 1000, 1200, 9999):
            done = catenary("history", "news", f"--limit={limit}", **beside(server))
            expected = [str(number) for number in range(2500)][-limit:]
            assert [each["data"] for each in lines(done)] == expected
        # All of it, in pages; and nothing of an unknown stream.
        assert len(lines(catenary("history", "news", **beside(server)))) == 2500
        assert lines(catenary("history", "silence", **beside(server))) == []
        assert lines(catenary("history", "silence", "--limit=3", **beside(server))) == []


def test_an_answer_of_another_kind() -> None:
    with rest_api() as open_api:
        done = catenary("history", "x", f"--url={open_api}/presence")
    assert done.returncode == 1
    assert "the API's answer was not understood: " in done.stderr
