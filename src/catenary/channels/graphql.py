"""A channel that executes GraphQL operations, with the library that its subclass calls.

It serves the clients of ``graphql_path``, and those of Action Cable (ActionCableLink of graphql-ruby). The values of a subscription
come from an asynchronous iterator, which a task of this process reads, and are published on a stream of this one subscription:
so they also arrive from a process behind RPC.
Source: GraphqlChannel of graphql-ruby's documentation, for the messages. Knows: operations and results. Does not know: any
library of GraphQL.
"""

import functools
import hashlib
import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from catenary.channels import subscription_tasks
from catenary.channels.call import current
from catenary.channels.channel import C, Channel
from catenary.channels.declaration import action
from catenary.channels.errors import NotHosted
from catenary.channels.subscription_key import SubscriptionKey
from catenary.errors import CatenaryError
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.names import Identifier, Sid

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.channels"))

Result = Mapping[str, Any]
"""The response to an operation: ``data``, ``errors``, ``extensions`` (GraphQL, section 7.1)."""

_FAILED: Final = {"errors": [{"message": "The operation failed"}]}

_ENDED: Final = {"errors": [{"message": "The server restarts; subscribe again"}]}

Publish = Callable[[object], Awaitable[None]]


class Operation(msgspec.Struct, frozen=True):
    """An operation as the client sent it. ``query`` is empty if the client sent only a hash of it in ``extensions``."""

    query: str
    variables: dict[str, Any] | None = None
    operation_name: str | None = None
    extensions: dict[str, Any] | None = None


class OperationChannel(Channel[C]):
    """Executes one operation for each subscription to it. Subclass it, and implement :meth:`run`.

    ::

        class GraphqlChannel(OperationChannel):
            async def run(self, operation: Operation) -> Result | AsyncIterable[Result]:
                ...

    Clients name the channel ``GraphqlChannel`` and the action ``execute``, unless the server has other options. A subscription
    is ended in the process that executes it, so that has to be one process: not several code workers, not several RPC servers.
    """

    async def run(self, operation: Operation) -> Result | AsyncIterable[Result]:
        """Executes an operation. Returns the result of a query, of a mutation or of an operation that is invalid; for a
        subscription an iterator over its results, which is closed when the client has unsubscribed or left."""
        raise NotImplementedError

    async def subscribed(self) -> None:
        """Starts the stream of this subscription before the operation arrives, so that no result is published too early."""
        self.stream_from(self._stream)

    @action
    async def execute(
        self,
        query: str = "",
        variables: dict[str, Any] | None = None,
        operationName: str | None = None,  # noqa: N803  (the client's name)
        extensions: dict[str, Any] | None = None,
    ) -> None:
        """Executes the operation of this subscription, and transmits its result."""
        answer = await self.run(Operation(query, variables, operationName, extensions))
        if isinstance(answer, AsyncIterable):
            self._start(answer)
            self.transmit({"more": True})
        else:
            self.transmit({"result": answer, "more": False})

    async def unsubscribed(self) -> None:
        """Ends the iterator of this subscription."""
        await subscription_tasks.end(self._key)

    @property
    def _key(self) -> SubscriptionKey:
        return SubscriptionKey(Sid(self.connection.sid), Identifier(self.identifier))

    @property
    def _stream(self) -> str:
        """Contains the sid, which only this client knows: no other client can name this stream."""
        digest = hashlib.blake2b(self.identifier.encode(), digest_size=16).hexdigest()
        return f"graphql:{self.connection.sid}:{digest}"

    def _start(self, results: AsyncIterable[Result]) -> None:
        broadcaster = self._call.broadcaster or type(self).broadcaster
        if broadcaster is None:
            raise NotHosted(f"expected a cable that serves {type(self).__name__}, got none")
        publish = functools.partial(broadcaster.broadcast, self._stream, transient=True)
        subscription_tasks.start(
            self._key,
            broadcaster,
            _publish_all(results, publish),
            functools.partial(_publish_last, publish, {"result": _ENDED, "more": False}),
        )


async def _publish_all(results: AsyncIterable[Result], publish: Publish) -> None:
    # Only in the context of this task, which goes on after the call that started it.
    current.set(None)
    last: dict[str, object] = {"more": False}
    try:
        async for result in results:
            await publish({"result": result, "more": True})
    except Exception:  # noqa: BLE001  (of the application, and outages)
        _limited.exception("A GraphQL subscription failed")
        last = {"result": _FAILED, "more": False}
    finally:
        await _close(results)
    await _publish_last(publish, last)


async def _close(results: AsyncIterable[Result]) -> None:
    close = getattr(results, "aclose", None)
    if close is not None:
        try:
            await close()
        except Exception:  # noqa: BLE001  (of the application)
            _limited.exception("The iterator of a GraphQL subscription could not be closed")


async def _publish_last(publish: Publish, message: object) -> None:
    try:
        await publish(message)
    except CatenaryError as error:
        _limited.error("The end of a GraphQL subscription was not published: %s", error)
