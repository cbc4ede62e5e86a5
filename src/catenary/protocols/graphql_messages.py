"""The messages of GraphQL clients and of the GraphQL channel, read.

The messages of the channel are those of GraphQL Ruby: ``{"result": {"data": …, "errors": …}, "more": true}``, whether they are
transmitted or published; the last one has ``more`` false, or lacks it.
Sources: ActionCableSubscriptions and ActionCableLink of graphql-ruby; graphql-anycable. Knows: JSON. Does not know: operations,
which of the protocols of GraphQL a client speaks.
"""

from functools import lru_cache
from typing import Final

import msgspec

from catenary.messages.lenient_json import reader


class Message(msgspec.Struct, gc=False):
    """A client's message."""

    type: str
    id: str | None = None
    payload: msgspec.Raw = msgspec.Raw(b"null")


class Query(msgspec.Struct, gc=False, omit_defaults=True):
    """The payload of an operation, which is passed to the action. Other fields are not passed on."""

    query: str | None = None
    variables: dict[str, msgspec.Raw] | None = None
    operationName: str | None = None  # noqa: N815  (the protocol's name)
    operationId: str | int | None = None  # noqa: N815
    extensions: dict[str, msgspec.Raw] | None = None


class _Written(msgspec.Struct, gc=False):
    """A message of the channel."""

    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    more: bool | msgspec.UnsetType | None = msgspec.UNSET


class _Answer(msgspec.Struct, gc=False):
    """The response to an operation (GraphQL, section 7.1)."""

    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    errors: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class ChannelMessage(msgspec.Struct, frozen=True):
    """A message of the channel, read: a ``result`` for the client, or ``errors`` that prevented the execution, both in JSON;
    ``is_last``: the operation is over."""

    result: bytes | None = None
    errors: bytes | None = None
    is_last: bool = False


read_message: Final = reader(Message)
read_query: Final = reader(Query)
read_params: Final = reader(dict[str, msgspec.Raw])
read_text: Final = reader(str)
_read_written: Final = reader(_Written)
_read_answer: Final = reader(_Answer)
write: Final = msgspec.json.Encoder().encode

NULL: Final = b"null"


def errors_of(text: str) -> bytes:
    """A list of one error, in JSON."""
    return write([{"message": text}])


_INVALID: Final = ChannelMessage(
    errors=errors_of("The application sent no result of the operation"), is_last=True
)


@lru_cache(maxsize=1)
def read_channel_message(message: bytes) -> ChannelMessage:
    """Reads a message of the channel; one that was published to many clients is read once.

    A result that is only ``{"data": null}`` says that a subscription has begun: the client gets no message for it.
    """
    try:
        written = _read_written(message)
        if written.result is msgspec.UNSET and written.more is msgspec.UNSET:
            return _INVALID
        is_last = written.more is not True
        result = NULL if written.result is msgspec.UNSET else bytes(written.result)
        if result == NULL:
            return ChannelMessage(is_last=is_last)
        answer = _read_answer(result)
    except msgspec.DecodeError:
        return _INVALID
    if answer.errors is msgspec.UNSET or not bytes(answer.errors).startswith(b"["):
        has_begun = not is_last and answer.data is not msgspec.UNSET and bytes(answer.data) == NULL
        return ChannelMessage(None if has_begun else result, is_last=is_last)
    if answer.data is msgspec.UNSET:
        return ChannelMessage(result, bytes(answer.errors), is_last=True)
    return ChannelMessage(result, is_last=is_last)
