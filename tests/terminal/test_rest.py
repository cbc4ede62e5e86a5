"""Requests to the REST API that are refused or not answered."""

from collections.abc import Iterator

import pytest

from catenary.auth.keys import API_PHRASE, derived_key
from tests.terminal.shell import SECRET, catenary, rest_api


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    with rest_api(derived_key(SECRET, API_PHRASE)) as url:
        yield url


@pytest.mark.parametrize("tool", ["presence", "history"])
def test_refusals(api: str, tool: str) -> None:
    done = catenary(tool, "chat/1", f"--url={api}", "--secret=another")
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"catenary {tool}: the API requires another key (--secret, --key): "
    )
    done = catenary(tool, "chat/1", f"--url={api}/elsewhere", f"--secret={SECRET}")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no such API at this URL (--url): HTTP 404" in done.stderr
    done = catenary(tool, "chat/1", "--url=http://127.0.0.1:1/api")
    assert done.stderr == (
        f"catenary {tool}: no server answers at http://127.0.0.1:1/api (Connection refused): start it,"
        " or name another with --url\n"
    )
