"""Pusher's signatures, against the worked examples of its documentation and of npm's ``pusher``."""

import pytest

from catenary.auth.pusher import PusherSignatures

# https://pusher.com/docs/channels/library_auth_reference/auth-signatures
KEY, SECRET = "278d425bdf160c739803", "7ad3773142a6692b25b8"
SOCKET = "1234.1234"
PRIVATE = f"{KEY}:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"
MEMBER = '{"user_id":10,"user_info":{"name":"Mr. Channels"}}'
PRESENCE = f"{KEY}:31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80"

signatures = PusherSignatures(KEY, SECRET)


def test_the_documented_signatures() -> None:
    assert signatures.subscription(SOCKET, "private-foobar") == PRIVATE
    assert signatures.subscription(SOCKET, "presence-foobar", MEMBER) == PRESENCE
    assert signatures.allows_subscription(PRIVATE, SOCKET, "private-foobar")
    assert signatures.allows_subscription(PRESENCE, SOCKET, "presence-foobar", MEMBER)


@pytest.mark.parametrize(
    "auth",
    [
        "",
        ":",
        KEY,
        PRIVATE.partition(":")[2],
        f"x{PRIVATE}",
        f"other:{PRIVATE.partition(':')[2]}",
        PRIVATE[:-1],
        PRIVATE + "0",
        PRIVATE.upper(),
        PRESENCE,
        f"{KEY}:ü\ud800",
    ],
)
def test_other_signatures_allow_nothing(auth: str) -> None:
    assert not signatures.allows_subscription(auth, SOCKET, "private-foobar")


def test_a_signature_holds_for_one_socket_channel_and_member() -> None:
    assert not signatures.allows_subscription(PRIVATE, "1234.1235", "private-foobar")
    assert not signatures.allows_subscription(PRIVATE, SOCKET, "private-foo")
    assert not signatures.allows_subscription(PRIVATE, SOCKET, "private-foobar", MEMBER)
    assert not signatures.allows_subscription(PRESENCE, SOCKET, "presence-foobar", "{}")
    assert not signatures.allows_user(PRIVATE, SOCKET, "private-foobar")


def test_a_user_is_signed_apart_from_channels() -> None:
    data = '{"id":"7"}'
    auth = signatures.user(SOCKET, data)
    assert signatures.allows_user(auth, SOCKET, data)
    assert not signatures.allows_user(auth, "1.1", data)
    assert not signatures.allows_subscription(auth, SOCKET, data)


def test_without_a_secret_nothing_is_allowed() -> None:
    """An HMAC with an empty key is one that anybody can compute."""
    import hmac

    open_app = PusherSignatures(KEY, "")
    digest = hmac.new(b"", b"1234.1234:private-foobar", "sha256").hexdigest()
    assert not open_app.allows_subscription(f"{KEY}:{digest}", SOCKET, "private-foobar")
    with pytest.raises(ValueError, match="expected a secret"):
        open_app.subscription(SOCKET, "private-foobar")
