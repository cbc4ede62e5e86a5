"""Signatures of Pusher's protocol: subscriptions, users, REST requests and webhooks of one app.

Each is the hexadecimal HMAC-SHA256 of a text with the app's secret; clients send it after the app's key: ``KEY:HMAC``.
Source: https://pusher.com/docs/channels/library_auth_reference/auth-signatures. Knows: strings. Does not know: what is
granted.
"""

import hmac

from catenary.auth.keys import key_bytes


class PusherSignatures:
    """Signs and verifies with the credentials of one app. Without a secret, it verifies nothing."""

    __slots__ = ("_secrets", "key")

    def __init__(self, key: str, secret: str) -> None:
        self.key = key
        self.replace(*([secret] if secret else []))

    def replace(self, *secrets: str) -> None:
        """Signs with the first secret from now on, and accepts signatures of all of them."""
        self._secrets = tuple(map(key_bytes, secrets))

    def digest(self, text: str | bytes) -> str:
        """The hexadecimal HMAC-SHA256 of a text. Raises ValueError without a secret: anyone could sign."""
        if not self._secrets:
            raise ValueError("expected a secret, got an empty one")
        return _digest(self._secrets[0], text)

    def verifies(self, text: str | bytes, digest: str) -> bool:
        """Whether ``digest`` is that of the text; compares in constant time."""
        given = _bytes(digest)
        return any(
            hmac.compare_digest(_digest(secret, text).encode(), given) for secret in self._secrets
        )

    def subscription(self, socket_id: str, channel: str, channel_data: str | None = None) -> str:
        """The ``auth`` of a subscription to a private channel, or with ``channel_data`` to a presence channel."""
        return f"{self.key}:{self.digest(_subscription(socket_id, channel, channel_data))}"

    def user(self, socket_id: str, user_data: str) -> str:
        """The ``auth`` of a user (``pusher:signin``)."""
        return f"{self.key}:{self.digest(_user(socket_id, user_data))}"

    def allows_subscription(
        self, auth: str, socket_id: str, channel: str, channel_data: str | None = None
    ) -> bool:
        """Whether ``auth`` allows a client to subscribe to a channel, as the member that ``channel_data`` describes."""
        return self._is_signed(auth, _subscription(socket_id, channel, channel_data))

    def allows_user(self, auth: str, socket_id: str, user_data: str) -> bool:
        """Whether ``auth`` says that a client is the user whom ``user_data`` describes."""
        return self._is_signed(auth, _user(socket_id, user_data))

    def _is_signed(self, auth: str, text: str) -> bool:
        key, colon, digest = auth.partition(":")
        return bool(colon) and key == self.key and self.verifies(text, digest)


def _digest(secret: bytes, text: str | bytes) -> str:
    return hmac.new(secret, _bytes(text), "sha256").hexdigest()


def _subscription(socket_id: str, channel: str, channel_data: str | None) -> str:
    text = f"{socket_id}:{channel}"
    return text if channel_data is None else f"{text}:{channel_data}"


def _user(socket_id: str, user_data: str) -> str:
    return f"{socket_id}::user::{user_data}"


def _bytes(text: str | bytes) -> bytes:
    """Encodes text of a client, which may contain lone surrogates."""
    return text.encode(errors="surrogatepass") if isinstance(text, str) else text
