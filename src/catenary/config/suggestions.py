"""The end of an error that suggests the known name which is nearest to an unknown one."""

import difflib
from collections.abc import Iterable, Mapping


def did_you_mean(name: str, known: Mapping[str, str] | Iterable[str]) -> str:
    """Returns ``; did you mean NAME?``, or empty text if no known name is near.

    A mapping gives the spelling that is shown for each known name.
    """
    found = difflib.get_close_matches(name, list(known), n=1)
    if not found:
        return ""
    shown = known[found[0]] if isinstance(known, Mapping) else found[0]
    return f"; did you mean {shown}?"
