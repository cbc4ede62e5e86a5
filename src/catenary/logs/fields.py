"""The fields of log lines: names and values beside the message, for people to read and for programs to filter.

Knows: log records, clients, requests. Does not know: how lines are written.
"""

import logging
from typing import Final, TypedDict

from catenary.messages.environment import Environment, Requester

Value = str | int | float | bool | None
"""A value of a field. None and "" are left out."""

_EVENT: Final = "event"
_FIELDS: Final = "fields"


def fields(event: str, **values: Value) -> dict[str, object]:
    """``extra`` of a call of a logger: the name of the event, and its fields."""
    return {_EVENT: event, _FIELDS: values}


def event_of(record: logging.LogRecord) -> str:
    """The name of a record's event; of a plain line, the name of its logger."""
    event: str = record.__dict__.get(_EVENT, "")
    return event or record.name.removeprefix("catenary.")


def fields_of(record: logging.LogRecord) -> dict[str, Value]:
    """The fields of a record, without the empty ones."""
    values: dict[str, Value] = record.__dict__.get(_FIELDS, {})
    return {name: value for name, value in values.items() if value is not None and value != ""}


class ClientFields(TypedDict):
    """See :func:`client_fields`."""

    sid: str
    remote: str
    path: str
    origin: str


class RequesterFields(TypedDict):
    """See :func:`requester_fields`."""

    remote: str
    method: str
    path: str
    origin: str
    request_id: str


def client_fields(environment: Environment) -> ClientFields:
    """The fields that identify a client: its session, address, path and origin. No query, header or cookie."""
    return {
        "sid": environment.sid,
        "remote": environment.address,
        "path": environment.path,
        "origin": environment.ingress.origin,
    }


def requester_fields(requester: Requester) -> RequesterFields:
    """The fields that identify the sender of a request."""
    return {
        "remote": requester.address,
        "method": requester.method,
        "path": requester.path,
        "origin": requester.origin,
        "request_id": requester.request_id,
    }
