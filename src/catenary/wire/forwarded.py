"""The headers in which proxies name the client: ``X-Forwarded-For`` with its companions, and ``Forwarded`` (RFC 7239).

Each proxy appends its own peer to the list, so it is read from the right. A client can send such a header, too: only the
part that trusted proxies have written counts, and nothing to the left of it can make it unreadable.
Knows: the grammar of the headers. Does not know: which proxies are trusted, what an address is.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

MAX_HOPS: Final = 32
"""Hops to the left of so many are not read. Longer chains are loops or attacks."""

# RFC 7239, section 6, which X-Forwarded-For has taken over in practice: IPv6 with a port is in brackets.
_NODE = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]{2,45})\]|(?P<v4>[0-9.]{7,15}))(?::(?:[0-9]{1,5}|_[\w.-]{1,64}))?\Z|"
    r"(?P<bare>[0-9A-Fa-f:.]{2,45})\Z",
    re.ASCII,
)
_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


class Hop(NamedTuple):
    """One element of ``Forwarded``: the address, scheme and host that the client of a proxy used; empty if unknown."""

    address: str
    scheme: str = ""
    host: str = ""


def x_forwarded_hops(value: str) -> Iterator[Hop]:
    """The elements of ``X-Forwarded-For``, the last one first."""
    for text in _from_the_right(value):
        yield Hop(_address(text))


def forwarded_hops(value: str) -> Iterator[Hop]:
    """The elements of ``Forwarded``, the last one first."""
    for text in _from_the_right(value):
        yield _hop(text)


def last(value: str) -> str:
    """The last element of a list, such as that of ``X-Forwarded-Host``: the nearest proxy has written it."""
    return value.rpartition(",")[2].strip(" \t")


def scheme_of(text: str) -> str:
    """``http`` or ``https`` for the value of ``X-Forwarded-Proto``; empty for any other value."""
    return _SCHEMES.get(text.lower(), "")


def _from_the_right(value: str) -> Iterator[str]:
    end = len(value)
    for _ in range(MAX_HOPS):
        start = value.rfind(",", 0, end)
        yield value[start + 1 : end].strip(" \t")
        if start == -1:
            return
        end = start


def _address(node: str) -> str:
    """The address of a node without its port; empty for ``unknown``, obfuscated names and anything malformed."""
    match = _NODE.match(node)
    return "" if match is None else match["v6"] or match["v4"] or match["bare"]


def _hop(element: str) -> Hop:
    """An element with a parameter twice, or without the form of RFC 7239, section 4, has no address."""
    found: dict[str, str] = {}
    for pair in element.split(";"):
        name, equals, value = pair.strip(" \t").partition("=")
        name = name.lower()
        if not pair.strip(" \t"):
            continue
        if not equals or name in found:
            return Hop("")
        if value.startswith('"'):
            if len(value) < 2 or not value.endswith('"') or '"' in value[1:-1]:
                return Hop("")
            value = value[1:-1]
        found[name] = value
    return Hop(
        _address(found.get("for", "")), scheme_of(found.get("proto", "")), found.get("host", "")
    )
