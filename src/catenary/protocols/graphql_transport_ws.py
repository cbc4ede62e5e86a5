"""The protocol graphql-transport-ws, which the library graphql-ws speaks.

Source: PROTOCOL.md of enisdenjo/graphql-ws. Knows: its messages and close codes. Does not know: sessions, the channel's messages.
"""

from typing import Final

import msgspec

from catenary.messages.commands import ClientPing, ClientPong, CloseConnection, Command, DirectReply
from catenary.ports import Introduction
from catenary.protocols.graphql import (
    BAD_REQUEST,
    EXISTS,
    TOO_MANY,
    UNAUTHORIZED,
    GraphqlCodec,
)
from catenary.protocols.graphql_messages import Message, read_message

SUBPROTOCOL: Final = "graphql-transport-ws"

_ACK: Final = b'{"type":"connection_ack"}'
_PING: Final = b'{"type":"ping"}'
_PONG: Final = b'{"type":"pong"}'


class GraphqlTransportWs(GraphqlCodec):
    """Satisfies :class:`catenary.ports.IntroducedCodec`. Closes the connection for every message that the protocol forbids."""

    __slots__ = ()

    def introduce(self, payload: bytes) -> Introduction | tuple[DirectReply | CloseConnection, ...]:
        try:
            message = read_message(payload)
            if message.type == "connection_init":
                return self._introduction(bytes(message.payload))
        except msgspec.DecodeError as error:
            return (_invalid(error),)
        if message.type == "ping":
            return (DirectReply(_PONG),)
        if message.type == "pong":
            return ()
        return (CloseConnection(UNAUTHORIZED, "Unauthorized"),)

    def _read(self, payload: bytes) -> tuple[Command, ...]:
        try:
            return (*self._commands(read_message(payload)),)
        except msgspec.DecodeError as error:
            return (_invalid(error),)

    def _commands(self, message: Message) -> tuple[Command, ...]:
        """Raises :class:`msgspec.DecodeError`."""
        match message.type:
            case "subscribe":
                return self._subscribe(_id_of(message), bytes(message.payload))
            case "complete":
                operation = self._operations.get(_id_of(message))
                return () if operation is None else (self._stop(operation),)
            case "ping":
                return (ClientPing(),)
            case "pong":
                return (ClientPong(),)
            case "connection_init":
                return (CloseConnection(TOO_MANY, "Too many initialisation requests"),)
            case _:
                raise msgspec.DecodeError(f"expected a message of a client, got {message.type!r}")

    def _subscribe(self, id: str, query: bytes) -> tuple[Command, ...]:
        if not self._is_welcome:
            return (CloseConnection(UNAUTHORIZED, "Unauthorized"),)
        if id in self._operations:
            return (CloseConnection(EXISTS, f"Subscriber for {id} already exists"),)
        return self._start(id, query)

    def _write_welcome(self) -> bytes:
        return _ACK

    def _write_refusal(self) -> bytes | None:
        return None

    def _write_ping(self) -> bytes:
        return _PING

    def _write_pong(self) -> bytes | None:
        return _PONG

    def _write_result(self, id: bytes, result: bytes) -> bytes:
        return b'{"id":%b,"type":"next","payload":%b}' % (id, result)

    def _write_errors(self, id: bytes, errors: bytes, result: bytes | None) -> bytes:
        return b'{"id":%b,"type":"error","payload":%b}' % (id, errors)


def _id_of(message: Message) -> str:
    if not message.id:
        raise msgspec.DecodeError(f"expected {message.type} with an id")
    return message.id


def _invalid(error: Exception) -> CloseConnection:
    return CloseConnection(BAD_REQUEST, f"Invalid message: {error}")
