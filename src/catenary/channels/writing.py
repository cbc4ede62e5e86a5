"""Encodes the messages of applications as JSON. Markup that a template marked as safe is text."""

from typing import Final

import msgspec


def _as_known(value: object) -> object:
    if isinstance(value, str):
        # Not str(value): Django's safe strings return themselves.
        return str.__str__(value)
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")


write: Final = msgspec.json.Encoder(enc_hook=_as_known).encode
"""Encodes a value. Raises TypeError for one that JSON can't carry."""
