"""Validity and order of the certificates of a PEM file, without a library for certificates.

Source: RFC 5280, section 4.1; ITU-T X.690 (DER). Knows: bytes. Does not know: files, trust.
"""

import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import msgspec

_BLOCK: Final = re.compile(
    r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL | re.ASCII
)
_UTC_TIME: Final = 0x17
_VERSION: Final = 0xA0


class Certificate(msgspec.Struct, frozen=True):
    """``issuer`` and ``subject`` are encoded names: only their equality means something."""

    issuer: bytes
    subject: bytes
    not_before: datetime
    not_after: datetime


def certificates(pem: str) -> list[Certificate]:
    """All certificates of a file, in order. Raises ValueError if one can't be read."""
    found = []
    for block in _BLOCK.findall(pem):
        try:
            found.append(_read(ssl.PEM_cert_to_DER_cert(block)))
        except (IndexError, StopIteration, ValueError) as error:
            raise ValueError(f"certificate {len(found) + 1} can't be read") from error
    return found


def _read(der: bytes) -> Certificate:
    whole = next(_values(der))[1]
    fields = _values(next(_values(whole))[1])
    tag, _ = next(fields)
    if tag == _VERSION:
        next(fields)  # the serial number
    next(fields)  # the algorithm
    _, issuer = next(fields)
    _, validity = next(fields)
    _, subject = next(fields)
    not_before, not_after = (_time(*each) for each in _values(validity))
    return Certificate(issuer, subject, not_before, not_after)


def _values(der: bytes) -> Iterator[tuple[int, bytes]]:
    """The tag and the content of each value."""
    at = 0
    while at < len(der):
        tag, length = der[at], der[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(der[at : at + size], "big")
            at += size
        yield tag, der[at : at + length]
        at += length


def _time(tag: int, content: bytes) -> datetime:
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
