"""The bodies of requests to Pusher's HTTP API, and the rules for names.

Source: "HTTP API" (pusher.com/docs/channels/library_auth_reference/rest-api); lengths and characters as the official
server libraries check them.
Knows: JSON, names. Does not know: signatures, who receives an event.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from catenary.errors import RequestRefused
from catenary.messages.lenient_json import reader
from catenary.protocols.pusher_events import (
    MAX_EVENT_NAME,
    MAX_USER_ID,
    RESERVED,
    is_channel,
    user_channel,
)

MAX_CHANNELS: Final = 100
"""Limit of the channels of one event."""

MAX_BATCH: Final = 10
"""Limit of the events of one batch."""

USER_COUNT: Final = "user_count"
SUBSCRIPTION_COUNT: Final = "subscription_count"
CACHE: Final = "cache"

_USER_PREFIX: Final = user_channel("")

_SOCKET_ID: Final = re.compile(r"\d+\.\d+", re.ASCII)
_SHOWN: Final = 40


class Event(msgspec.Struct, frozen=True, gc=False):
    """An event for some channels, except for the client with the ``socket_id``. ``info`` are attributes of the channels
    that the answer has."""

    name: str
    data: str
    channels: tuple[str, ...]
    socket_id: str | None = None
    info: frozenset[str] = frozenset()


class _Event(msgspec.Struct, gc=False):
    name: str
    data: str
    channel: str | None = None
    channels: list[str] | None = None
    socket_id: str | None = None
    info: str | None = None


class _Batch(msgspec.Struct, gc=False):
    batch: list[_Event]


_read_event: Final = reader(_Event)
_read_batch: Final = reader(_Batch)
_read_object: Final = reader(dict[str, msgspec.Raw])


def read_event(body: bytes, max_data_bytes: int) -> Event:
    """Reads the body of ``POST events``. Raises :class:`RequestRefused`: 400, or 413 for too much data."""
    try:
        event = _read_event(body)
    except msgspec.DecodeError as error:
        raise _refused(f"expected {{name, data, channels}} in JSON: {error}") from error
    return _checked(event, max_data_bytes)


def read_batch(body: bytes, max_data_bytes: int) -> tuple[Event, ...]:
    """Reads the body of ``POST batch_events``, whose events have one channel each. All are valid, or it raises as
    :func:`read_event`."""
    try:
        batch = _read_batch(body).batch
    except msgspec.DecodeError as error:
        raise _refused(f"expected {{batch: [{{name, data, channel}}]}} in JSON: {error}") from error
    if len(batch) > MAX_BATCH:
        raise _refused(f"expected up to {MAX_BATCH} events in a batch, got {len(batch)}")
    events = []
    for number, event in enumerate(batch, 1):
        try:
            if event.channel is None or event.channels is not None:
                raise _refused("expected one channel")
            events.append(_checked(event, max_data_bytes))
        except RequestRefused as error:
            raise RequestRefused(error.status, f"event {number} of the batch: {error}") from None
    return tuple(events)


def read_user_event(body: bytes, user_id: str, max_data_bytes: int) -> Event:
    """Reads the body of ``POST users/{id}/events``; raises as :func:`read_event`."""
    try:
        event = _read_event(body)
    except msgspec.DecodeError as error:
        raise _refused(f"expected {{name, data}} in JSON: {error}") from error
    event.channel, event.channels = user_channel(user_id), None
    return _checked(event, max_data_bytes)


def check_object(body: bytes) -> None:
    """Checks a body that has no fields of interest: an object or nothing. Raises :class:`RequestRefused`."""
    if not body:
        return
    try:
        _read_object(body)
    except msgspec.DecodeError as error:
        raise _refused(f"expected an object in JSON: {error}") from error


def read_info(text: str | None) -> frozenset[str]:
    """Reads a list ``a,b`` of the attributes that the answer must have. Raises :class:`RequestRefused` for an unknown one."""
    names = frozenset(filter(None, map(str.strip, (text or "").split(","))))
    unknown = sorted(names - {USER_COUNT, SUBSCRIPTION_COUNT, CACHE})
    if unknown:
        raise _refused(
            f"info: expected {USER_COUNT}, {SUBSCRIPTION_COUNT} or {CACHE}, got {unknown[0][:_SHOWN]!r}"
        )
    return names


def check_channel(name: str) -> None:
    """Checks the name of a channel; one that carries the events of a user is valid, too. Raises
    :class:`RequestRefused`."""
    if name.startswith(_USER_PREFIX):
        check_user_id(name.removeprefix(_USER_PREFIX))
    elif not is_channel(name):
        raise _refused(
            f"Invalid channel name {name[:_SHOWN]!r}: expected up to 200 letters, digits and _-=@,.;"
        )


def check_user_id(user_id: str) -> None:
    """Checks the id of a user. Raises :class:`RequestRefused`."""
    if not 0 < len(user_id) <= MAX_USER_ID:
        raise _refused(f"expected a user id of 1 to {MAX_USER_ID} characters, got {len(user_id)}")


def _checked(event: _Event, max_data_bytes: int) -> Event:
    if not event.name or len(event.name) > MAX_EVENT_NAME:
        raise _refused(
            f"expected an event name of 1 to {MAX_EVENT_NAME} characters, got {len(event.name)}"
        )
    if event.name.startswith(RESERVED):
        raise _refused(f"expected an event name that does not begin with {' or '.join(RESERVED)}")
    channels = _channels(event)
    for channel in channels:
        check_channel(channel)
    if event.socket_id and _SOCKET_ID.fullmatch(event.socket_id) is None:
        raise _refused(f"Invalid socket id {event.socket_id[:_SHOWN]!r}: expected NUMBER.NUMBER")
    _check_size(event.data, max_data_bytes)
    return Event(event.name, event.data, channels, event.socket_id or None, read_info(event.info))


def _channels(event: _Event) -> tuple[str, ...]:
    if event.channel is not None and event.channels is not None:
        raise _refused("expected channel or channels, got both")
    names: Sequence[str] = () if event.channels is None else event.channels
    if event.channel is not None:
        names = (event.channel,)
    if not names:
        raise _refused("expected a channel, got none")
    if len(names) > MAX_CHANNELS:
        raise _refused(f"expected up to {MAX_CHANNELS} channels, got {len(names)}")
    return tuple(dict.fromkeys(names))


def _check_size(data: str, max_bytes: int) -> None:
    size = len(data.encode(errors="surrogatepass"))
    if size > max_bytes:
        raise RequestRefused(
            413,
            f"The data content of this event exceeds the allowed maximum ({max_bytes} bytes), got {size}",
        )


def _refused(why: str) -> RequestRefused:
    return RequestRefused(400, why)


# Answers


class Attributes(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The attributes of a channel; UNSET for those that were not requested, or that it can't have."""

    occupied: bool | msgspec.UnsetType = msgspec.UNSET
    user_count: int | msgspec.UnsetType = msgspec.UNSET
    subscription_count: int | msgspec.UnsetType = msgspec.UNSET
    cache: Mapping[str, object] | msgspec.UnsetType | None = msgspec.UNSET


def events_answer(channels: Mapping[str, Attributes]) -> bytes:
    """The answer to ``POST events``: the attributes that were asked for, by channel."""
    return msgspec.json.encode({"channels": channels} if channels else {})


def batch_answer(attributes: Collection[Attributes]) -> bytes:
    """The answer to ``POST batch_events``: attributes of the channel of each event, in order."""
    return msgspec.json.encode({"batch": attributes} if attributes else {})
