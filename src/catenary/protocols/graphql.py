"""GraphQL over WebSockets, as subscriptions to one channel: what both of its protocols have in common.

An operation is a subscription to the GraphQL channel, whose action gets the query once the subscription is confirmed. The messages
of the channel (``graphql_messages.py``), transmitted or published, are results.
Sources: docs/apollo.md (anycable); ActionCableLink of graphql-ruby.
Knows: JSON. Does not know: sessions, sockets, what a query means.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import partial
from typing import Final

import msgspec

from catenary.messages.commands import (
    Checkpoint,
    CloseConnection,
    Command,
    DirectReply,
    Perform,
    Subscribe,
    Unsubscribe,
)
from catenary.messages.names import Identifier
from catenary.messages.reasons import Reason
from catenary.messages.replies import (
    Delivery,
    Disconnected,
    Failed,
    Ping,
    Pong,
    PresenceState,
    Rejected,
    Reply,
    Welcome,
)
from catenary.ports import Goodbye, Introduction
from catenary.protocols.actioncable_transmissions import read_reply
from catenary.protocols.graphql_messages import (
    NULL,
    errors_of,
    read_channel_message,
    read_params,
    read_query,
    read_text,
    write,
)

SEPARATOR: Final = b"\x1e"
"""Divides messages that are written at once (:class:`catenary.protocols.table.ClientProtocol`). JSON never contains it: RFC
7464, section 2.1."""

PARAMS_HEADER: Final = "x-apollo-connection"
"""The header with the params of the connection, in JSON."""

BAD_REQUEST: Final = 4400
UNAUTHORIZED: Final = 4401
FORBIDDEN: Final = 4403
NOT_ACCEPTABLE: Final = 4406
LATE: Final = 4408
EXISTS: Final = 4409
TOO_MANY: Final = 4429
_TRY_AGAIN: Final = 1013

GOODBYES: Final = {
    reason: Goodbye(reason, code, text)
    for reason, code, text in (
        (Reason.AUTH_FAILED, FORBIDDEN, "Forbidden"),
        # graphql-ws does not connect again after 4500, nor after 1011.
        (Reason.AUTH_ERROR, _TRY_AGAIN, "Try again later"),
        (Reason.COMMAND_FAILED, _TRY_AGAIN, "Command Failed"),
        (Reason.SERVER_RESTART, 1001, "Server restart"),
        (Reason.REMOTE, 1012, "Closed remotely"),
        (Reason.SLOW_CLIENT, _TRY_AGAIN, "Slow client"),
        (Reason.RESUMED, 1000, "Resumed by another connection"),
        (Reason.IDLE_TIMEOUT, LATE, "Connection initialisation timeout"),
        (Reason.NO_PONG, 1001, "No Pong"),
        (Reason.UNAUTHORIZED, UNAUTHORIZED, "Unauthorized"),
        (Reason.TOKEN_EXPIRED, FORBIDDEN, "Token expired"),
        # graphql-ws does not connect again after 4429.
        (Reason.TOO_MANY_CONNECTIONS, _TRY_AGAIN, "Too many connections"),
        (Reason.TOO_MANY_COMMANDS, _TRY_AGAIN, "Too many messages"),
        (Reason.INVALID_MESSAGE, BAD_REQUEST, "Invalid message"),
    )
}

_CLOSED_FOR_GOOD: Final = Goodbye(Reason.REMOTE, UNAUTHORIZED, "Closed remotely")
"""For a remote disconnect without ``reconnect``: graphql-ws does not connect again after this code."""


_REFUSALS: Final = (Reason.AUTH_FAILED, Reason.AUTH_ERROR)
"""Reasons of the node that refuse a client. A ``disconnect`` that the application sent before them has no message here."""


class GraphqlRules(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a server that its codecs need.

    ``action`` of ``channel`` gets the queries. ``token_param`` is the connection param that carries a token, and
    ``token_header`` the header in which the application expects it, empty if there are no tokens. ``pings`` says that
    clients are pinged.
    """

    channel: str = "GraphqlChannel"
    action: str = "execute"
    token_param: str = "jid"  # noqa: S105  (a name)
    token_header: str = ""
    pings: bool = True


class Operation:
    """One operation of a client: the subscription ``identifier``.

    ``is_over``: the client gets nothing more. ``is_subscribed``: the node may have the subscription.
    """

    __slots__ = ("id", "identifier", "is_over", "is_subscribed")

    def __init__(self, id: str, identifier: Identifier) -> None:
        self.id = id
        self.identifier = identifier
        self.is_over = False
        self.is_subscribed = True


class GraphqlCodec(ABC):
    """Satisfies :class:`catenary.ports.IntroducedCodec`. Belongs to one session.

    An operation that the channel has ended is unsubscribed by the server: after its query was answered, or with the next
    message of the client.
    """

    __slots__ = (
        "_by_identifier",
        "_ended",
        "_is_welcome",
        "_may_return",
        "_operations",
        "_rules",
        "_serial",
    )

    def __init__(self, rules: GraphqlRules) -> None:
        self._rules = rules
        self._is_welcome = False
        self._may_return = True
        # Operations whose results the client expects, by id
        self._operations: dict[str, Operation] = {}
        # Operations that the node may still have, including ended ones
        self._by_identifier: dict[Identifier, Operation] = {}
        # Operations that the channel has ended, but that the node still has
        self._ended: list[Operation] = []
        self._serial = 0

    # The messages of each protocol

    @abstractmethod
    def introduce(self, payload: bytes) -> Introduction | tuple[DirectReply | CloseConnection, ...]:
        """See :meth:`catenary.ports.IntroducedCodec.introduce`."""

    @abstractmethod
    def _read(self, payload: bytes) -> tuple[Command, ...]:
        """The commands of a message after the introduction."""

    @abstractmethod
    def _write_welcome(self) -> bytes: ...

    @abstractmethod
    def _write_refusal(self) -> bytes | None:
        """The message to a client that is not admitted, before the close frame."""

    @abstractmethod
    def _write_ping(self) -> bytes: ...

    @abstractmethod
    def _write_pong(self) -> bytes | None: ...

    @abstractmethod
    def _write_result(self, id: bytes, result: bytes) -> bytes:
        """A result; ``id`` is in JSON, too."""

    @abstractmethod
    def _write_errors(self, id: bytes, errors: bytes, result: bytes | None) -> bytes:
        """The end of an operation that was not executed; ``errors`` is a list, ``result`` the response that has it."""

    # Introductions

    def _introduction(self, params: bytes) -> Introduction:
        """Raises :class:`msgspec.DecodeError` unless the params are an object or null."""
        if params == NULL:
            return Introduction()
        read = read_params(params)
        try:
            text = params.decode()
        except UnicodeDecodeError as error:
            raise msgspec.DecodeError(str(error)) from error
        # Outside of its strings, JSON may have line breaks, which a header may not.
        headers = {PARAMS_HEADER: text.replace("\n", " ").replace("\r", " ")}
        token = read.get(self._rules.token_param)
        if self._rules.token_header and token is not None and bytes(token).startswith(b'"'):
            headers[self._rules.token_header] = read_text(bytes(token))
        return Introduction(headers)

    # Operations

    def decode(self, payload: bytes) -> tuple[Command, ...]:
        """Reads one message."""
        commands = self._read(payload)
        if self._ended:
            return (Checkpoint(self._unsubscribe_ended), *commands)
        return commands

    def _start(self, id: str, query: bytes) -> tuple[Command, ...]:
        """Starts an operation whose id is free. Raises :class:`msgspec.DecodeError` for a payload that is no query."""
        asked = msgspec.structs.asdict(read_query(query))
        data = {name: value for name, value in asked.items() if value is not None}
        if not data:
            raise msgspec.DecodeError("expected a query in the payload")
        operation = Operation(id, self._identifier(id))
        self._operations[id] = self._by_identifier[operation.identifier] = operation
        text = write({"action": self._rules.action, **data}).decode()
        return (
            Subscribe(operation.identifier),
            Checkpoint(partial(self._perform, operation, text)),
        )

    def _identifier(self, id: str) -> Identifier:
        """Contains the id of the operation, and a number if an earlier operation of the same id is not unsubscribed yet."""
        name = id
        while True:
            params = {"channel": self._rules.channel, "channelId": name}
            identifier = Identifier(write(params).decode())
            if identifier not in self._by_identifier:
                return identifier
            self._serial += 1
            name = f"{id}#{self._serial}"

    def _perform(self, operation: Operation, data: str) -> tuple[Command, ...] | None:
        """Called when the application has decided about the subscription."""
        if operation.is_over:
            return None
        return Perform(operation.identifier, data), Checkpoint(self._unsubscribe_ended)

    def _stop(self, operation: Operation) -> Command:
        """The client wants no more results."""
        self._end(operation)
        return Checkpoint(partial(self._unsubscribe, operation))

    def _end(self, operation: Operation) -> None:
        operation.is_over = True
        del self._operations[operation.id]

    def _unsubscribe(self, operation: Operation) -> tuple[Command, ...]:
        """Called when the application has decided about the subscription."""
        if not operation.is_subscribed:
            return ()
        operation.is_subscribed = False
        forget = partial(self._forget, operation)
        return Unsubscribe(operation.identifier), Checkpoint(forget)

    def _unsubscribe_ended(self) -> tuple[Command, ...]:
        ended, self._ended = self._ended, []
        return tuple(command for each in ended for command in self._unsubscribe(each))

    def _forget(self, operation: Operation) -> None:
        del self._by_identifier[operation.identifier]

    # Replies

    def encode(self, reply: Reply) -> bytes | None:
        """Writes one reply: one message, several, or None."""
        match reply:
            case Delivery():
                return self.encode_delivery(reply)
            case Ping():
                return self._write_ping()
            case Pong():
                return self._write_pong()
            case Welcome():
                self._is_welcome = True
                return self._write_welcome()
            case Rejected(identifier):
                return self._refuse(identifier, "The subscription was rejected")
            case Failed(command):
                return self._fail(command)
            case Disconnected():
                self._may_return = reply.reconnect
                return self._write_refusal() if reply.reason in _REFUSALS else None
            case _:
                return None

    def encode_pieces(self, reply: PresenceState) -> Iterator[bytes]:
        """No piece: clients do not ask for presence."""
        return iter(())

    def encode_transmission(self, text: str) -> bytes | None:
        """Writes a message that the application wrote in Action Cable's JSON; None for other text."""
        reply = read_reply(text)
        return None if reply is None else self.encode(reply)

    def encode_delivery(self, delivery: Delivery) -> bytes | None:
        """Writes what the channel has transmitted or published; None for an operation that is over."""
        operation = self._by_identifier.get(delivery.identifier)
        if operation is None or operation.is_over or delivery.kind:
            return None
        message = read_channel_message(delivery.message)
        name = write(operation.id)
        if message.is_last:
            self._end(operation)
            self._ended.append(operation)
        if message.errors is not None:
            return self._write_errors(name, message.errors, message.result)
        result = None if message.result is None else self._write_result(name, message.result)
        if not message.is_last:
            return result
        complete = complete_message(name)
        return complete if result is None else result + SEPARATOR + complete

    def _refuse(self, identifier: Identifier, why: str) -> bytes | None:
        """The node does not have the subscription."""
        operation = self._by_identifier.pop(identifier, None)
        if operation is None:
            return None
        operation.is_subscribed = False
        if operation.is_over:
            return None
        self._end(operation)
        return self._write_errors(write(operation.id), errors_of(why), None)

    def _fail(self, command: Subscribe | Unsubscribe | Perform) -> bytes | None:
        why = "The application could not execute the operation"
        if type(command) is Subscribe:
            return self._refuse(command.identifier, why)
        operation = self._by_identifier.get(command.identifier)
        if operation is None or operation.is_over:
            return None
        self._end(operation)
        self._ended.append(operation)
        return self._write_errors(write(operation.id), errors_of(why), None)

    def goodbye(self, reason: Reason) -> Goodbye:
        """With codes after which graphql-ws connects again where the client may return."""
        if reason is Reason.REMOTE and not self._may_return:
            return _CLOSED_FOR_GOOD
        return GOODBYES[reason]


def complete_message(id: bytes) -> bytes:
    """The end of an operation, whose id is in JSON: the same in both protocols."""
    return b'{"id":%b,"type":"complete"}' % id
