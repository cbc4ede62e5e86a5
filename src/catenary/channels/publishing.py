"""Sends publications from any method, task or thread to the server in this process, or to a publisher.

Source: docs/broadcasting.md, "Publication format" (anycable/anycable).
Knows: publishers, event loops. Does not know: channels, stream names of objects.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, Protocol

import msgspec

from catenary.channels.publishers.ordered import OrderedPublisher
from catenary.channels.writing import write
from catenary.errors import BackendError
from catenary.logs.rate_limited import RateLimitedLogger

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.channels"))

ACCEPT_TIMEOUT_S: Final = 30.0
"""How long a thread waits for the server's event loop, which may be ending."""


class Publisher(Protocol):
    """Accepts publications. A node satisfies it, and so does every ``OrderedPublisher``."""

    def publish(self, raw: bytes) -> Awaitable[None] | None:
        """Publishes JSON, in the order of the calls. Returns None if it is done, else an awaitable.

        Raises :class:`catenary.errors.BackendError`, or the awaitable does.
        """
        ...


class Sent:
    """A publication under way. Awaiting it is optional, and raises if it was not accepted.

    The answer to a method's call waits until everything that the method published is accepted.
    """

    __slots__ = ("_future", "_is_known")

    def __init__(self, future: "asyncio.Future[None] | None" = None) -> None:
        self._future = future
        self._is_known = False
        """A failure was raised to the code that awaits it, or it was logged."""

    @property
    def is_done(self) -> bool:
        """Whether the outcome is known."""
        return self._future is None or self._future.done()

    async def settled(self) -> None:
        """Waits for the outcome. A failure is logged, not raised."""
        if self._future is not None:
            await asyncio.wait((self._future,))
            self.log_failure()

    def log_failure(self) -> None:
        """Logs a failure once, unless it is raised to the code that awaits the publication."""
        if self._future is None or self._future.cancelled():
            return
        error = self._future.exception()
        if error is not None and not self._is_known:
            self._is_known = True
            _limited.error("A publication was not accepted: %s", error)

    def __await__(self) -> Generator[Any, None, None]:
        self._is_known = True
        if self._future is not None:
            # Cancelling the wait does not cancel the publication.
            yield from asyncio.shield(self._future).__await__()


class _Meta(msgspec.Struct, omit_defaults=True, gc=False):
    exclude_socket: str = ""
    transient: bool = False


class _Message(msgspec.Struct, omit_defaults=True, gc=False):
    stream: str
    data: str
    meta: _Meta | None = None


class _Disconnect(msgspec.Struct, gc=False):
    identifier: str
    reconnect: bool


class _Command(msgspec.Struct, gc=False, tag_field="command", tag="disconnect"):
    payload: _Disconnect


def publication(stream: str, message: object, exclude_socket: str, *, transient: bool) -> bytes:
    """Writes one publication. Raises TypeError for a message that JSON can't carry."""
    meta = _Meta(exclude_socket, transient) if exclude_socket or transient else None
    return write(_Message(stream, write(message).decode(), meta))


def disconnection(identifiers: str, *, reconnect: bool) -> bytes:
    """Writes the remote command that ends all sessions with these identifiers."""
    return write(_Command(_Disconnect(identifiers, reconnect)))


When = Callable[[Callable[[], object]], object]
"""Gets a function and calls it at once or later, like ``transaction.on_commit``."""


class PublicationSender:
    """Sends publications; safe to call from any thread and event loop.

    Without a server in this process, ``publisher`` sends them, or the one that ``find`` returns. ``when``
    decides when each is sent; None means at once.
    """

    def __init__(
        self,
        publisher: Publisher | None,
        find: Callable[[], OrderedPublisher],
        when: When | None,
    ) -> None:
        self._own = publisher
        self._find = find
        self._found: OrderedPublisher | None = None
        self._when = when
        self._hosted: Publisher | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._under_way: dict[asyncio.Future[None], Sent] = {}
        self._batch: ContextVar[list[bytes] | None] = ContextVar("catenary_batch", default=None)

    def start(self, publisher: Publisher) -> None:
        """Binds to a server, which accepts publications in the running loop."""
        self._hosted = publisher
        self._loop = asyncio.get_running_loop()

    @property
    def is_hosted(self) -> bool:
        """Whether a server in this process accepts publications."""
        return self._hosted is not None

    def stop(self) -> None:
        """Unbinds from the server, and closes a publisher that was found."""
        self._hosted = None
        self._loop = None
        if self._found is not None:
            self._found.close()
            self._found = None

    def send(self, raw: bytes) -> Sent:
        """Publishes, or adds the publication to the open batch, or passes it to ``when``.

        In an event loop this returns at once; in a thread without one, when the publication was accepted.
        Raises :class:`BackendError`.
        """
        batch = self._batch.get()
        if batch is not None:
            batch.append(raw)
            return Sent()
        if self._when is None:
            return self._send(raw)
        sent: list[Sent] = []
        self._when(lambda: sent.append(self._send(raw)))
        return sent[0] if sent else Sent()

    def _send(self, raw: bytes) -> Sent:
        loop = _running_loop()
        if self._hosted is None or self._loop is None:
            return self._sent(self._outside_publisher().publish(raw), loop)
        if loop is self._loop:
            return self._sent(self._hosted.publish(raw), loop)
        accepted = asyncio.run_coroutine_threadsafe(_publish(self._hosted, raw), self._loop)
        if loop is None:
            try:
                accepted.result(ACCEPT_TIMEOUT_S)
            except TimeoutError as error:
                accepted.cancel()
                raise BackendError(
                    f"the server did not accept the publication within {ACCEPT_TIMEOUT_S:.0f} s"
                ) from error
            return Sent()
        return self._sent(asyncio.wrap_future(accepted), loop)

    def _outside_publisher(self) -> Publisher:
        if self._own is not None:
            return self._own
        if self._found is None:
            self._found = self._find()
        return self._found

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Sends everything that the block publishes as one publication, unless the block raises."""
        messages: list[bytes] = []
        token = self._batch.set(messages)
        try:
            yield
        finally:
            self._batch.reset(token)
        if messages:
            self.send(b"[%b]" % b",".join(messages))

    def _sent(self, work: Awaitable[None] | None, loop: asyncio.AbstractEventLoop | None) -> Sent:
        if work is None or loop is None:
            return Sent()
        future = asyncio.ensure_future(work)
        sent = self._under_way[future] = Sent(future)
        future.add_done_callback(self._finished)
        return sent

    def _finished(self, future: "asyncio.Future[None]") -> None:
        self._under_way.pop(future).log_failure()


async def _publish(publisher: Publisher, raw: bytes) -> None:
    work = publisher.publish(raw)
    if work is not None:
        await work


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
