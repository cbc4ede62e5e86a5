"""Sessions that Starlette has signed: what is believed, and what is not."""

import json
import subprocess
import sys
from base64 import b64encode

import pytest
from itsdangerous import TimestampSigner

from catenary.channels.connection import Request
from catenary.channels.sessions import starlette_session
from catenary.errors import install_command
from catenary.messages.environment import Environment
from catenary.messages.names import Sid

KEY = "s3cret"


def cookie(content: object, key: str = KEY) -> str:
    """As the middleware writes it."""
    return TimestampSigner(key).sign(b64encode(json.dumps(content).encode())).decode()


def with_cookie(header: str) -> Request:
    return Request(Environment(Sid("s"), "ws://test/", {"cookie": header}))


def test_a_session_signed_with_the_key_is_read() -> None:
    signed = with_cookie(f"a=b; session={cookie({'user_id': 7})}; c=d")
    assert starlette_session(signed, KEY) == {"user_id": 7}
    named = with_cookie(f"sid={cookie({'user_id': 7})}")
    assert starlette_session(named, KEY, cookie="sid", max_age_s=None) == {"user_id": 7}


@pytest.mark.parametrize(
    "header",
    [
        "",
        "a=b",
        "session=",
        "session=null",
        f"session={cookie({'user_id': 7}, 'other')}",
        f"session={cookie({'user_id': 7})[:-1]}",
        f"session=x{cookie({'user_id': 7})}",
        f"session={cookie([7])}",
        f"session={TimestampSigner(KEY).sign(b'!').decode()}",
    ],
    ids=[
        *("none", "another", "empty", "null", "another key", "cut", "altered", "a list"),
        "no base64",
    ],
)
def test_any_other_cookie_is_an_empty_session(header: str) -> None:
    assert starlette_session(with_cookie(header), KEY) == {}


def test_a_session_that_is_too_old_is_empty() -> None:
    assert starlette_session(with_cookie(f"session={cookie({'a': 1})}"), KEY, max_age_s=-1) == {}


def test_a_missing_library_is_named() -> None:
    code = "import sys; sys.modules['itsdangerous'] = None; import catenary.channels.sessions"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert install_command("sessions") in done.stderr.splitlines()[-1]
