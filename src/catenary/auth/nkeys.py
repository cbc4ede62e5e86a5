"""NATS' nkeys and credential files: who a client of NATS is, by an Ed25519 key.

An nkey is a base32 text of a kind, a key and a checksum. A seed (``SU…``) is secret, and signs the nonce of a server. A file
of credentials (``.creds``) has a user's JWT and the seed of the key that the JWT names.
Source: "NKeys" and "JWT" of the NATS documentation (docs.nats.io); github.com/nats-io/nkeys.
Knows: texts, keys. Does not know: files, connections.
"""

import base64
import binascii
import re
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_SEED: Final = 18 << 3
_USER: Final = 20 << 3
"""The first bits of a seed, and those of a user's key: they become the letters S and U."""

_blocks: Final = re.compile(r"-{3,}BEGIN ([^-]+)-{3,}\s+([^\s-]\S*)\s+-{3,}END").findall


class UserKey:
    """The key of a user. Raises ValueError for a text that is no seed of a user; the error does not show it."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: str) -> None:
        try:
            raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
        except binascii.Error:
            raise ValueError("expected the seed of a user (SU…)") from None
        is_user = len(raw) == 36 and _kinds(raw) == (_SEED, _USER)
        if not is_user or raw[-2:] != _checksum(raw[:-2]):
            raise ValueError("expected the seed of a user (SU…)")
        self._key: Final = Ed25519PrivateKey.from_private_bytes(raw[2:34])
        self.public: Final = _public_text(self._key)
        """The public key, as servers name it (``U…``)."""

    def sign(self, nonce: str) -> str:
        """The signature of a server's nonce, as CONNECT carries it."""
        return base64.urlsafe_b64encode(self._key.sign(nonce.encode())).rstrip(b"=").decode()


def read_credentials(text: str) -> tuple[str, UserKey]:
    """Reads a file of credentials: the JWT and the key. Raises ValueError, which shows nothing of the file."""
    found = {name.strip(): block for name, block in _blocks(text)}
    jwt, seed = found.get("NATS USER JWT"), found.get("USER NKEY SEED")
    if jwt is None or seed is None:
        raise ValueError("expected a NATS USER JWT and a USER NKEY SEED")
    return jwt, UserKey(seed)


def _kinds(raw: bytes) -> tuple[int, int]:
    return raw[0] & 0xF8, (raw[0] & 7) << 5 | raw[1] >> 3


def _public_text(key: Ed25519PrivateKey) -> str:
    raw = bytes((_USER,)) + key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return base64.b32encode(raw + _checksum(raw)).rstrip(b"=").decode()


def _checksum(raw: bytes) -> bytes:
    return binascii.crc_hqx(raw, 0).to_bytes(2, "little")
