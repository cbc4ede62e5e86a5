"""Bytes that nodes exchange or store, as readable JSON and back, with equal times in each recording; the fields in them.

Knows: MessagePack, text. Does not know: what a value means.
"""

import re
from typing import Any

import msgspec

MS = 1_900_000_000_000
"""In place of every time in ms: in the future, so that nothing that is stored again has expired."""

NUMBER = MS // 1000 << 32
"""In place of every number of a revocation on NATS, which grows with the time."""

_TIME = re.compile(r"(?<![0-9a-f])1[78]\d{8}(\d{3})?(?![0-9a-f])")
_DATE = re.compile(r"20\d\d-\d\d-\d\dT[0-9:.]+Z")
_NUMBER = re.compile(r"(?<!\d)7\d{18}(?!\d)")
# One letter of an id, or the base64 of three
_REPEATED = re.compile(r"(.{1,4})\1{3,}[A-Za-z0-9]{0,3}")
_POSITION = re.compile(rb"(?s)([0-9a-f]* \d* )(.+)")
_encode = msgspec.msgpack.Encoder().encode


def readable(raw: bytes) -> Any:
    """Text is a string. Anything else is an object: how it begins, if it has a beginning of its own, and its MessagePack."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = "\1"
    positioned = _POSITION.fullmatch(raw)
    if positioned and _is_packed(positioned[2]):
        return {"position": positioned[1].decode(), "msgpack": _tree(positioned[2])}
    # Names of streams that are ours begin with NUL.
    if re.sub("[\\0\n]", "", text).isprintable():
        return _timeless(text)
    if raw.startswith(b"\xc1"):
        return {"cluster": _tree(raw[1:])}
    return {"msgpack": _tree(raw)} if _is_packed(raw) else {"hex": raw.hex()}


def raw(value: Any) -> bytes:
    """The bytes of a readable value."""
    if isinstance(value, str):
        return value.encode()
    if "hex" in value:
        return bytes.fromhex(value["hex"])
    if "cluster" in value:
        return b"\xc1" + _encode(_objects(value["cluster"]))
    start: str = value.get("position", "")
    return start.encode() + _encode(_objects(value["msgpack"]))


def fields(place: str, value: Any) -> set[str]:
    """Where in a value there is what type, as ``<place>.<key or index>: <type>``; JSON within text counts.

    The tag of a message and the kind of its question are parts of the place.
    """
    match value:
        case {"cluster": [str(tag), *_] as parts}:
            kind = next((each for each in parts[2:4] if isinstance(each, str)), "")
            return fields(f"{place} {tag} {kind}", parts)
        case {"msgpack": [str(tag), *_] as parts, **rest} if tag.isalpha():
            return fields(f"{place} {tag}", [*parts, *rest])
        case dict():
            return set().union(*(fields(f"{place}.{key}", each) for key, each in value.items()))
        case [{"bytes": _}, *_]:
            return set().union(*(fields(f"{place}.*", each) for each in value))
        case list():
            return set().union(
                *(fields(f"{place}.{index}", each) for index, each in enumerate(value))
            )
        case str() if value[:1] in ("{", "["):
            return fields(f"{place} JSON", msgspec.json.decode(value))
    name = "number" if type(value) in (int, float) else type(value).__name__
    return {f"{_REPEATED.sub('<id>', place)}: {name}"}


def _is_packed(raw: bytes) -> bool:
    """Whether it is MessagePack."""
    try:
        msgspec.msgpack.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _tree(packed: bytes) -> Any:
    return _plain(msgspec.msgpack.decode(packed))


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"bytes": readable(value)}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, str):
        return _timeless(value)
    for now in (MS, MS // 1000, NUMBER):
        if type(value) in (int, float) and now * 0.85 < value < now * 1.05:
            return now
    return value


def _timeless(text: str) -> str:
    text = _NUMBER.sub(str(NUMBER), _DATE.sub("2030-01-01T00:00:00.000Z", text))
    return _TIME.sub(lambda found: str(MS if found[1] else MS // 1000), text)


def _objects(value: Any) -> Any:
    if isinstance(value, dict):
        if list(value) == ["bytes"]:
            return raw(value["bytes"])
        return {key: _objects(each) for key, each in value.items()}
    return [_objects(each) for each in value] if isinstance(value, list) else value
