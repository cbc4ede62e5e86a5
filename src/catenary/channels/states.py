"""Attributes that survive between calls: the server stores them with the session, as JSON.

Those of a channel are in ``istate``, those of a connection in ``cstate``, also over gRPC and HTTP.
Source: ``state_attr_accessor``, docs/rails/channels_state.md of docs.anycable.io.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from catenary.messages.lenient_json import read_any, value_reader

_write: Final = msgspec.json.encode


class State:
    """One such attribute: a data descriptor, so its value can be in the instance's own dict."""

    def __init__(self, default: object, default_factory: Callable[[], object] | None) -> None:
        """Raises TypeError for a mutable default, which all clients would share."""
        if isinstance(default, list | dict | set):
            kind = type(default).__name__
            raise TypeError(f"expected default_factory={kind} for a {kind}, which can be changed")
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
        """Checks stored values against this type from now on. Raises TypeError for a type that can't be."""
        self._decode = value_reader(hint)

    def change(self, instance: Any, stored: Mapping[str, str]) -> str | None:
        """The JSON to store now, "" to remove it; None if nothing changed.

        Raises TypeError for a value that JSON can't carry.
        """
        if self.name not in instance.__dict__:
            return None
        text = _write(instance.__dict__[self.name]).decode()
        if text == stored.get(self.name):
            return None
        if text == _write(self._initial()).decode():
            return "" if self.name in stored else None
        return text

    def _initial(self) -> object:
        return self._default if self._factory is None else self._factory()

    def _load(self, instance: Any) -> object:
        stored = instance.stored_state().get(self.name)
        if not stored:
            return self._initial()
        try:
            return self._decode(stored)
        except msgspec.DecodeError as error:
            what = f"{type(instance).__name__}.{self.name}"
            raise TypeError(f"{what}: the stored value has another type: {error}") from error


def changes(states: tuple[State, ...], instance: Any, stored: Mapping[str, str]) -> dict[str, str]:
    """The state to store after a call: names → JSON."""
    found = {}
    for state in states:
        change = state.change(instance, stored)
        if change is not None:
            found[state.name] = change
    return found
