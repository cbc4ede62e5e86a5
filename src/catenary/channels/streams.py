"""Stream names for objects.

The first rule that applies:

- text names itself; whole numbers and UUIDs are written as text;
- the names of the parts of a list or a tuple are joined by ``:``;
- an object with a ``gid`` (an attribute or a method) has that name;
- an object with ``to_param()`` or a ``pk`` is named by its class, ``/`` and that value: ``Room/42``;
- any other object raises TypeError.

Source: broadcasting_for of Action Cable, with GlobalID's idea of naming objects across processes.
"""

from typing import Final
from uuid import UUID

_MISSING: Final = object()


def stream_name(target: object) -> str:
    """The name of the stream of an object. Raises TypeError if it has none, ValueError for an empty one."""
    name = _name(target)
    if not name:
        raise ValueError(f"expected an object that names a stream, got {target!r}")
    return name


def _name(target: object) -> str:
    if isinstance(target, str):
        return target
    if isinstance(target, int | UUID) and not isinstance(target, bool):
        return str(target)
    if isinstance(target, list | tuple):
        return ":".join(map(stream_name, target))
    gid = getattr(target, "gid", _MISSING)
    if gid is not _MISSING:
        return _text(target, "gid", gid() if callable(gid) else gid)
    to_param = getattr(target, "to_param", None)
    if callable(to_param):
        return f"{_class(target)}/{_text(target, 'to_param()', to_param())}"
    pk = getattr(target, "pk", _MISSING)
    if pk is not _MISSING:
        return f"{_class(target)}/{_text(target, 'pk', pk)}"
    raise TypeError(
        f"expected text, a number, a UUID, a list of those, or an object with gid, to_param() or pk,"
        f" got {type(target).__name__}"
    )


def _class(target: object) -> str:
    # Not type(): the user of Django's requests is a lazy proxy.
    return target.__class__.__name__


def _text(target: object, what: str, value: object) -> str:
    if value is None or value == "":
        raise ValueError(f"{_class(target)}: expected {what} to be set, got {value!r}")
    return str(value)
