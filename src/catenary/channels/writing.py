"""What applications send, as JSON. Markup that a template has marked as safe is text."""

from typing import Final

import msgspec


def _as_known(value: object) -> object:
    if isinstance(value, str):
        # Not str(value): of what Django marks as safe that is the same object once more.
        return str.__str__(value)
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")


write: Final = msgspec.json.Encoder(enc_hook=_as_known).encode
"""Raises TypeError for what JSON can't carry."""
