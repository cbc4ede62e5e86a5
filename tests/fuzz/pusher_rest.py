"""What must hold for requests to Pusher's HTTP API, whatever bytes their bodies and their queries are made of."""

import contextlib
from random import Random
from typing import Final

from catenary.auth.pusher import PusherSignatures
from catenary.auth.pusher_requests import (
    SignatureError,
    SignedRequest,
    check_body,
    verified_parameters,
)
from catenary.errors import RequestRefused
from catenary.protocols.pusher_rest import (
    MAX_BATCH,
    MAX_CHANNELS,
    check_object,
    read_batch,
    read_event,
    read_info,
    read_user_event,
)

SECRET: Final = "7ad3773142a6692b25b8"
_SIGNATURES: Final = PusherSignatures("key", SECRET)
_MAX_DATA_BYTES: Final = 10_240


def check(data: bytes, random: Random) -> None:
    """The input is a body, and a query, and a path."""
    text = data.decode("latin-1")
    with contextlib.suppress(RequestRefused):
        event = read_event(data, _MAX_DATA_BYTES)
        assert 1 <= len(event.channels) <= MAX_CHANNELS
        assert len(event.data.encode(errors="surrogatepass")) <= _MAX_DATA_BYTES
    with contextlib.suppress(RequestRefused):
        assert len(read_batch(data, _MAX_DATA_BYTES)) <= MAX_BATCH
    with contextlib.suppress(RequestRefused):
        assert len(read_user_event(data, "jack", _MAX_DATA_BYTES).channels) == 1
    with contextlib.suppress(RequestRefused):
        check_object(data)
    with contextlib.suppress(RequestRefused):
        read_info(text)
    for request in (SignedRequest("POST", "/apps/a/events", text), SignedRequest("GET", text, "")):
        assert SECRET not in _why_refused(request, data), "nobody has signed this"


def _why_refused(request: SignedRequest, body: bytes) -> str:
    try:
        check_body(verified_parameters(request, _SIGNATURES, 1353088179), body)
    except SignatureError as error:
        return str(error)
    return SECRET


SEEDS: Final = (
    b'{"name":"n","channels":["a","presence-b"],"data":"{}","socket_id":"1.2","info":"user_count"}',
    b'{"batch":[{"name":"n","channel":"a","data":"d","info":"subscription_count"}]}',
    b"auth_key=key&auth_timestamp=1353088179&auth_version=1.0&body_md5=0&auth_signature=1",
    b"/apps/a/channels/presence-a%40b/users",
)

WORDS: Final = (b'"channel":"', b"#server-to-user-", b"%25", b"&info=", b"\\ud83c", b"private-")
