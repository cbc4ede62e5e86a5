"""Origins of web pages that may connect.

Source: ``allowed_origins`` of docs/configuration.md (anycable); RFC 6454 for what an origin is.
"""

from collections.abc import Sequence
from urllib.parse import urlsplit

from catenary.config.origins import DEFAULT_PORTS, allowed_origin


class Origins:
    """Allowed origins: hosts such as ``example.com:3000`` and ``*.example.com``, or whole origins such as
    ``https://example.com``.

    Without an entry, every client is allowed, also without an Origin. With ``allows_missing``, a client without an Origin
    always is: for endpoints whose clients are not browsers.
    """

    __slots__ = ("_allows_missing", "_exact", "_suffixes", "is_open")

    def __init__(self, allowed: Sequence[str], *, allows_missing: bool = False) -> None:
        """Raises ValueError for an entry that no origin can match."""
        self._allows_missing = allows_missing
        self.replace(allowed)

    def replace(self, allowed: Sequence[str]) -> None:
        """Allows these instead of the earlier ones. Raises ValueError for an entry that no origin can match."""
        entries = [allowed_origin(text) for text in allowed if text.strip()]
        self._exact = frozenset((each.scheme, each.host) for each in entries if not each.is_suffix)
        self._suffixes = tuple((each.scheme, each.host) for each in entries if each.is_suffix)
        self.is_open = not entries
        """Whether every origin is allowed."""

    def allow(self, origin: str) -> bool:
        """Whether a page of this origin may connect: the value of the header, empty if there is none."""
        if self.is_open or (self._allows_missing and not origin):
            return True
        try:
            url = urlsplit(origin.lower())
        except ValueError:
            return False
        # An entry without a scheme may name the default port, which browsers leave out.
        port = DEFAULT_PORTS.get(url.scheme, "")
        host = url.netloc.removesuffix(f":{port}")
        with_port = host if host.rpartition("]")[2].count(":") else f"{host}:{port}"
        if not self._exact.isdisjoint(((url.scheme, host), ("", host), ("", with_port))):
            return True
        # A lone * is the empty suffix: it matches everything, also a missing Origin.
        return any(
            (scheme in ("", url.scheme) and host.endswith(suffix))
            or (not scheme and ":" in suffix and with_port.endswith(suffix))
            for scheme, suffix in self._suffixes
        )
