"""An issuer of tokens: key pairs, and a web server with their JSON Web Key Set."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.parts.ports import free_port

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def pem(key: PrivateKey) -> str:
    """The public half."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _number(value: int, size: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes(size, "big")).rstrip(b"=").decode()


def web_key(key: PrivateKey, kid: str | None = None, **fields: object) -> dict[str, Any]:
    """The public half as RFC 7518, section 6, and RFC 8037, section 2, write it."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        size = public.key_size // 8
        found = {"kty": "RSA", "n": _number(numbers.n, size), "e": _number(numbers.e, 3)}
    elif isinstance(public, ec.EllipticCurvePublicKey):
        point = public.public_numbers()
        names = {256: "P-256", 384: "P-384", 521: "P-521"}
        size = (public.key_size + 7) // 8
        found = {
            "kty": "EC",
            "crv": names[public.key_size],
            "x": _number(point.x, size),
            "y": _number(point.y, size),
        }
    else:
        raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
        found = {"kty": "OKP", "crv": "Ed25519", "x": x}
    return {**found, **({} if kid is None else {"kid": kid}), **fields}


class KeySetServer:
    """Serves a key set that a test may change; counts the requests.

    ``status`` other than 200 is an outage; ``gate`` holds answers back while it is not set.
    """

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.body: bytes | None = None
        self.status = 200
        self.requests = 0
        self.authorization = ""
        """The Authorization header of the last request."""
        self.gate = threading.Event()
        self.gate.set()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/keys.json"

    def answer(self) -> bytes:
        """The body of the next answer."""
        self.requests += 1
        self.gate.wait(10)
        return json.dumps({"keys": self.keys}).encode() if self.body is None else self.body


@contextmanager
def key_set_server(*keys: dict[str, Any]) -> Iterator[KeySetServer]:
    """A server with these keys for the length of a with block."""
    server = KeySetServer()
    server.keys = list(keys)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.authorization = self.headers.get("Authorization", "")
            body = server.answer()
            self.send_response(server.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", server.port), Handler)
    thread = threading.Thread(target=listening.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.gate.set()
        listening.shutdown()
        thread.join()
        listening.server_close()
