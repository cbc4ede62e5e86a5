"""The protocol graphql-ws, which the library subscriptions-transport-ws speaks: the older one, of Apollo.

Source: PROTOCOL.md of apollographql/subscriptions-transport-ws; where it is silent, the behaviour of its server. A client
may start operations before the connection is acknowledged, and the same one twice: the second replaces the first.
Knows: its messages. Does not know: sessions, the channel's messages.
"""

from typing import Final

import msgspec

from catenary.messages.commands import CloseConnection, Command, DirectReply
from catenary.ports import Introduction
from catenary.protocols.graphql import (
    BAD_REQUEST,
    SEPARATOR,
    TOO_MANY,
    UNAUTHORIZED,
    GraphqlCodec,
    complete_message,
)
from catenary.protocols.graphql_messages import Message, read_message, write

SUBPROTOCOL: Final = "graphql-ws"

_ACK: Final = b'{"type":"connection_ack"}'
_KEEP_ALIVE: Final = b'{"type":"ka"}'


class GraphqlWs(GraphqlCodec):
    """Satisfies :class:`catenary.ports.IntroducedCodec`."""

    __slots__ = ()

    def introduce(self, payload: bytes) -> Introduction | tuple[DirectReply | CloseConnection, ...]:
        try:
            message = read_message(payload)
            if message.type == "connection_init":
                return self._introduction(bytes(message.payload))
        except msgspec.DecodeError as error:
            return _connection_error(str(error)), CloseConnection(BAD_REQUEST, "Invalid message")
        if message.type == "connection_terminate":
            return ()
        text = "Unauthorized"
        return _connection_error(text), CloseConnection(UNAUTHORIZED, text)

    def _read(self, payload: bytes) -> tuple[Command, ...]:
        try:
            message = read_message(payload)
        except msgspec.DecodeError as error:
            return (_connection_error(str(error)),)
        name = message.id or ""
        match message.type:
            case "start":
                return self._restart(name, message)
            case "stop":
                operation = self._operations.get(name)
                if operation is None:
                    return ()
                return self._stop(operation), DirectReply(complete_message(write(name)))
            case "connection_init":
                text = "Too many initialisation requests"
                return _connection_error(text), CloseConnection(TOO_MANY, text)
            case "connection_terminate":
                # The client closes the connection next.
                return tuple(map(self._stop, tuple(self._operations.values())))
            case _:
                return (_error(name, "Invalid message type!"),)

    def _restart(self, id: str, message: Message) -> tuple[Command, ...]:
        """A client that connects again may start an operation twice."""
        former = self._operations.get(id)
        stopped = () if former is None else (self._stop(former),)
        try:
            return (*stopped, *self._start(id, bytes(message.payload)))
        except msgspec.DecodeError as error:
            return (*stopped, _error(id, str(error)))

    def _write_welcome(self) -> bytes:
        return _ACK + SEPARATOR + _KEEP_ALIVE if self._rules.pings else _ACK

    def _write_refusal(self) -> bytes | None:
        return _connection_error("Forbidden").payload

    def _write_ping(self) -> bytes:
        return _KEEP_ALIVE

    def _write_pong(self) -> bytes | None:
        return None

    def _write_result(self, id: bytes, result: bytes) -> bytes:
        return b'{"id":%b,"type":"data","payload":%b}' % (id, result)

    def _write_errors(self, id: bytes, errors: bytes, result: bytes | None) -> bytes:
        """Errors in a response are sent as ``data``, and then ``complete``; others as one ``error``."""
        if result is not None:
            return self._write_result(id, result) + SEPARATOR + complete_message(id)
        return b'{"id":%b,"type":"error","payload":%b}' % (id, errors[1:-1])


def _connection_error(text: str) -> DirectReply:
    return DirectReply(write({"type": "connection_error", "payload": {"message": text}}))


def _error(id: str, text: str) -> DirectReply:
    return DirectReply(write({"type": "error", "id": id, "payload": {"message": text}}))
