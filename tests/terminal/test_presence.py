"""``catenary presence``."""

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
