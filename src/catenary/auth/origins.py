"""Which web pages may connect.

Source: ``allowed_origins`` of docs/configuration.md (anycable); RFC 6454 for what an origin is.
"""

from collections.abc import Sequence
from urllib.parse import urlsplit


class Origins:
    """The hosts that pages may come from, such as ``example.com:3000`` and ``*.example.com``.

    No host means every page, and also what is no page and sends no Origin.
    """

    __slots__ = ("_exact", "_suffixes", "is_open")

    def __init__(self, hosts: Sequence[str]) -> None:
        named = [host.strip().lower() for host in hosts if host.strip()]
        self._exact = frozenset(host for host in named if not host.startswith("*"))
        self._suffixes = tuple(host[1:] for host in named if host.startswith("*"))
        self.is_open = not named
        """Is nothing restricted?"""

    def allow(self, origin: str) -> bool:
        """May a page of this origin (the header's value, empty where there is none) connect?"""
        if self.is_open:
            return True
        try:
            host = urlsplit(origin.lower()).netloc
        except ValueError:
            return False
        # A lone * is the empty suffix: it takes everything, also what sends no Origin.
        return host in self._exact or host.endswith(self._suffixes)
