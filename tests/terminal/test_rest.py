import time
from collections.abc import Iterator

import pytest

from catenary.auth.keys import API_PHRASE, derived_key
from tests.terminal.shell import SECRET, catenary, lines, rest_api


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    with rest_api(derived_key(SECRET, API_PHRASE)) as url:
        yield url


def test_who_is_there(api: str) -> None:
    found = lines(catenary("presence", "chat/1", f"--url={api}", ANYCABLE_SECRET=SECRET))
    assert found == [{"id": "ann", "info": {"name": "Ann"}}, {"id": "ben", "info": None}]
    assert lines(catenary("presence", "empty", f"--url={api}", f"--secret={SECRET}")) == []


def test_what_was_published(api: str) -> None:
    flags = (f"--url={api}", f"--key={derived_key(SECRET, API_PHRASE)}")
    first, second = lines(catenary("history", "chat/1", "--since=5m", "--limit=7", *flags))
    assert first == {"offset": 1, "data": {"text": "hi"}}
    assert second["data"]["limit"] == 7
    assert 295 < time.time() - second["data"]["since"] < 330
    assert lines(catenary("history", "chat/1", *flags))[1]["data"] == {}


@pytest.mark.parametrize("tool", ["presence", "history"])
def test_refusals(api: str, tool: str) -> None:
    done = catenary(tool, "chat/1", f"--url={api}", "--secret=another")
    assert done.returncode == 1
    assert done.stderr.startswith(f"catenary {tool}: the API wants another key (--secret, --key): ")
    done = catenary(tool, "chat/1", f"--url={api}/elsewhere", f"--secret={SECRET}")
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no such API here (--url): HTTP 404" in done.stderr
    done = catenary(tool, "chat/1", "--url=http://127.0.0.1:1/api")
    assert "does not answer" in done.stderr


def test_an_answer_of_another_kind() -> None:
    with rest_api() as open_api:
        done = catenary("history", "x", f"--url={open_api}/presence")
    assert done.returncode == 1
    assert "expected a history, got something else" in done.stderr
