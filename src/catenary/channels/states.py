"""Attributes that survive between calls: kept as JSON with the client, by the server.

A channel's are kept in ``istate``, a connection's in ``cstate``, whichever way the application is
called: in the server's process, over gRPC, over HTTP.
Source: ``state_attr_accessor``, docs/rails/channels_state.md of docs.anycable.io.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from catenary.messages.lenient_json import read_any, value_reader

_write: Final = msgspec.json.encode


class State:
    """One such attribute: a data descriptor, so its value may stand in the instance's own dict."""

    def __init__(self, default: object, default_factory: Callable[[], object] | None) -> None:
        """Raises TypeError for a default that all clients would share and could change."""
        if isinstance(default, list | dict | set):
            kind = type(default).__name__
            raise TypeError(f"expected default_factory={kind} for a {kind} that may change")
        self._default = default
        self._factory = default_factory
        self._decode: Callable[[str], Any] = read_any
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        values = instance.__dict__
        if self.name not in values:
            values[self.name] = self._load(instance)
        return values[self.name]

    def __set__(self, instance: Any, value: object) -> None:
        instance.__dict__[self.name] = value

    def declare(self, hint: Any) -> None:
        """From now on what is kept is checked against this type. Raises TypeError for one that
        can't be."""
        self._decode = value_reader(hint)

    def change(self, instance: Any, kept: Mapping[str, str]) -> str | None:
        """What is to be kept now, "" for nothing; None where nothing changed.

        Raises TypeError for a value that JSON can't carry.
        """
        if self.name not in instance.__dict__:
            return None
        text = _write(instance.__dict__[self.name]).decode()
        if text == kept.get(self.name):
            return None
        if text == _write(self._initial()).decode():
            return "" if self.name in kept else None
        return text

    def _initial(self) -> object:
        return self._default if self._factory is None else self._factory()

    def _load(self, instance: Any) -> object:
        kept = instance.kept_state().get(self.name)
        if not kept:
            return self._initial()
        try:
            return self._decode(kept)
        except msgspec.DecodeError as error:
            what = f"{type(instance).__name__}.{self.name}"
            raise TypeError(f"{what}: what is kept is of another type: {error}") from error


def changes(states: tuple[State, ...], instance: Any, kept: Mapping[str, str]) -> dict[str, str]:
    """What is to be kept anew after a call."""
    found = {}
    for state in states:
        change = state.change(instance, kept)
        if change is not None:
            found[state.name] = change
    return found
