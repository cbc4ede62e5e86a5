"""Reads entries of ``allowed_origins`` and ``cors_hosts``: a host, or a URL, which means its origin.

Source: docs/configuration.md (anycable) for hosts and ``*``; RFC 6454, section 4, for what an origin is.
Knows: text. Does not know: requests.
"""

import re
import unicodedata
from typing import Final

import msgspec

DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
"""Ports that browsers leave out of the Origin header."""

EXPECTED: Final = (
    "a host such as example.com, *.example.com or localhost:3000, or https://example.com"
)

PORT_MAX: Final = 65_535

_PAGE_SCHEMES: Final = {"ws": "http", "wss": "https"}
"""Origins of pages are http(s), but people copy the URL of the cable."""

_ENTRY: Final = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.-]*|\*)://)?"
    r"(?P<star>\*?)(?P<host>\[[0-9a-f:.]+\]|[^\s*/?#@:\[\]]*)(?::(?P<port>\d{1,5}))?(?:[/?#].*)?"
)


class AllowedOrigin(msgspec.Struct, frozen=True):
    """Pages that are allowed: of one ``scheme``, or of any if it is empty.

    ``host`` is the host, with its port unless that is the scheme's default, as browsers write it (lower case,
    ASCII); with ``is_suffix`` it is a suffix of that.
    """

    scheme: str
    host: str
    is_suffix: bool


def allowed_origin(text: str) -> AllowedOrigin:
    """Reads an entry. Raises ValueError if no page could match it."""
    found = _ENTRY.fullmatch(text.strip().lower())
    if (
        found is None
        or not (found["host"] or found["star"] or found["scheme"] == "file")
        or int(found["port"] or 0) > PORT_MAX
    ):
        raise ValueError(f"expected {EXPECTED}, got {text[:80]!r}")
    scheme = (found["scheme"] or "").removeprefix("*")
    scheme = _PAGE_SCHEMES.get(scheme, scheme)
    port = found["port"]
    is_default = port is None or port == DEFAULT_PORTS.get(scheme)
    host = _ascii(found["host"])
    return AllowedOrigin(scheme, host if is_default else f"{host}:{port}", bool(found["star"]))


def _ascii(host: str) -> str:
    """An internationalized name as browsers send it, in A-labels (RFC 5890, section 2.3.2.1)."""
    if host.isascii():
        return host
    # Maps full-width letters and dots to the plain ones (UTS #46).
    plain = unicodedata.normalize("NFKC", host).lower().replace("\N{IDEOGRAPHIC FULL STOP}", ".")
    return ".".join(
        label if label.isascii() else f"xn--{label.encode('punycode').decode()}"
        for label in plain.split(".")
    )
