"""The values of options as people may see them, in the console and in the log: secrets are masked.

Knows: options. Does not know: where a value is shown.
"""

import re
from typing import Final

from catenary.config.options import OptionRow, Value

MASK: Final = "•••"

_ADDRESSES: Final = frozenset({"redis.url", "nats.servers"})
"""Secret options that are shown without their passwords: an address is the first thing that one looks for."""
_USER: Final = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)?.*@", re.DOTALL)
_QUERY: Final = re.compile(r"\?.*", re.DOTALL)


def masked(row: OptionRow, value: Value) -> str:
    """The value of an option as text, lists with commas; of a secret, only whether it is set."""
    if isinstance(value, bool | int):
        return str(value).lower()
    items = value if isinstance(value, tuple) else (value,)
    if row.option.secret and row.place not in _ADDRESSES:
        items = (MASK,) if any(items) else ()
    return ", ".join(map(_without_secrets, items))


def _without_secrets(text: str) -> str:
    """A value without the user, the password and the query, if it is an address."""
    if "://" in text or "@" in text:
        text = _QUERY.sub(f"?{MASK}", text)
    return _USER.sub(rf"\1{MASK}@", text)
