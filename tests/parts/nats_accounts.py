"""Keys, JWTs and configurations of NATS: operators, accounts and users, made for one test run.

Source: "JWTs" and "NKeys" of the NATS documentation (docs.nats.io); github.com/nats-io/jwt, version 2.
"""

import base64
import binascii
import json
import secrets
import time
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

OPERATOR, ACCOUNT, USER = 14 << 3, 0, 20 << 3
SEED = 18 << 3


class Key:
    """An nkey of a kind; ``seed`` is its secret text, ``public`` the other one."""

    def __init__(self, kind: int) -> None:
        raw = secrets.token_bytes(32)
        self._key = Ed25519PrivateKey.from_private_bytes(raw)
        self.seed = _text(bytes((SEED | kind >> 5, (kind & 31) << 3)) + raw)
        public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public = _text(bytes((kind,)) + public)

    def jwt(
        self, subject: str, name: str, nats: Mapping[str, object], *, ends_in_s: int = 0
    ) -> str:
        """A JWT about the owner of another key."""
        now = int(time.time())
        claims: dict[str, object] = {
            "jti": secrets.token_hex(16),
            "iat": now,
            "iss": self.public,
            "name": name,
            "sub": subject,
            "nats": {"version": 2, **nats},
        }
        if ends_in_s:
            claims["exp"] = now + ends_in_s
        parts = ({"typ": "JWT", "alg": "ed25519-nkey"}, claims)
        signed = ".".join(_base64(json.dumps(part).encode()) for part in parts)
        return f"{signed}.{_base64(self._key.sign(signed.encode()))}"


NO_LIMITS = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1) | {
    "wildcards": True
}
JETSTREAM = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}


class Operator:
    """An operator with one account, in the memory of the server."""

    def __init__(self, *, jetstream: bool = True) -> None:
        operator, self._account = Key(OPERATOR), Key(ACCOUNT)
        limits = {**NO_LIMITS, **(JETSTREAM if jetstream else {})}
        account = operator.jwt(self._account.public, "cable", {"type": "account", "limits": limits})
        system = Key(ACCOUNT)
        system_jwt = operator.jwt(system.public, "SYS", {"type": "account", "limits": NO_LIMITS})
        own = operator.jwt(operator.public, "op", {"type": "operator"})
        self.configuration = (
            f"operator: {own}\nsystem_account: {system.public}\nresolver: MEMORY\n"
            f"resolver_preload: {{ {self._account.public}: {account}, {system.public}: {system_jwt} }}\n"
        )

    def credentials(self, *, ends_in_s: int = 0, **permissions: object) -> str:
        """The contents of a ``.creds`` file of a new user."""
        user = Key(USER)
        claims = {"type": "user", "subs": -1, "data": -1, "payload": -1, **permissions}
        jwt = self._account.jwt(user.public, "node", claims, ends_in_s=ends_in_s)
        return (
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            "************************* IMPORTANT *************************\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
        )


def _text(raw: bytes) -> str:
    checksum = binascii.crc_hqx(raw, 0).to_bytes(2, "little")
    return base64.b32encode(raw + checksum).rstrip(b"=").decode()


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
