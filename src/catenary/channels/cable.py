"""The cable: what the author of an application declares, and publishes, reads and signs with.

A server calls its :attr:`Cable.application`; authors need not know that.
Knows: connection classes and channels, publishers, readers, keys. Does not know: servers, clients.
"""

import contextlib
import functools
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any

from catenary.channels.application import CableApplication
from catenary.channels.call import current
from catenary.channels.channel import Channel
from catenary.channels.connection import Connection, identifiers
from catenary.channels.environment_settings import EnvironmentSettings
from catenary.channels.failures import Failures, OnError
from catenary.channels.html import Html, turbo_stream_from
from catenary.channels.observer import GuardedObserver
from catenary.channels.publishers.ordered import OrderedPublisher
from catenary.channels.publishing import (
    Publications,
    Publisher,
    Sent,
    When,
    disconnection,
    publication,
)
from catenary.channels.reading import Kept, Present, Reader, Reading
from catenary.channels.rpc_http import AsgiRpc, WsgiRpc, rpc_key
from catenary.channels.running import Around, Runner
from catenary.channels.streams import stream_name
from catenary.channels.tokens import TTL, Signer
from catenary.ports import Observer


class RemoteConnections:
    """All connections with the same identifiers, on every node."""

    def __init__(self, publications: Publications, identifiers: str) -> None:
        self._publications = publications
        self._identifiers = identifiers

    def disconnect(self, *, reconnect: bool = True) -> Sent:
        """Closes them; ``reconnect`` tells the clients whether they may connect again."""
        return self._publications.send(disconnection(self._identifiers, reconnect=reconnect))


class Cable:
    """An application: a connection class and its channels. Complete when it is built.

    Satisfies :class:`catenary.channels.call.Broadcaster`.
    """

    def __init__(
        self,
        *,
        connection: type[Connection] = Connection,
        channels: Sequence[type[Channel[Any]]],
        publisher: Publisher | None = None,
        threads: int = 10,
        slow_ms: int = 100,
        restored_action: str | None = None,
        publish_when: When | None = None,
        around: Around = contextlib.nullcontext,
        secret: str | None = None,
        api_url: str | None = None,
        api_secret: str | None = None,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Reads the classes. Raises :class:`DeclarationError` for those that can't be served.

        - ``publisher`` takes publications where no server runs the cable in this process; without it
          the server's environment variables choose one (``environment_settings.py``).
        - ``threads``: how many plain (``def``) methods run at once.
        - ``slow_ms``: a method that holds the event loop for longer is logged.
        - ``restored_action``: the action that the server performs on each subscription of a resumed
          session; a secret of this process unless it is given.
        - ``publish_when`` is called with each publication as a function without arguments, and calls
          that at once or later, like ``transaction.on_commit``.
        - ``around`` is a context manager entered for every method: by plain methods in their thread,
          by coroutines in the event loop.
        - ``secret`` is the server's; it signs tokens and names of streams. ``api_url`` is the
          address of the server's API, which wants ``api_secret`` or a key derived from ``secret``.
          Those not given are read from ``ANYCABLE_SECRET``, ``ANYCABLE_API_URL`` and
          ``ANYCABLE_API_SECRET`` when they are first needed.
        - ``observer`` is notified of the clients and publications of a server that runs the cable in its own process;
          an exception of it is logged.
        - ``clock`` measures rates, in seconds.
        """
        self.connection_class = connection
        self.channels = tuple(channels)
        self.on_error: list[OnError] = []
        """Functions that are called with each failure that is logged, for services that collect
        errors."""
        self.observer: Observer | None = None if observer is None else GuardedObserver(observer)
        """For the node of a server."""
        self._given = {
            name: value
            for name, value in (
                ("ANYCABLE_SECRET", secret),
                ("ANYCABLE_API_URL", api_url),
                ("ANYCABLE_API_SECRET", api_secret),
            )
            if value is not None
        }
        self._publications = Publications(publisher, self._find_publisher, publish_when)
        self._reading = Reading(self._find_reader)
        self.application = CableApplication(
            connection,
            self.channels,
            broadcaster=self,
            publications=self._publications,
            reading=self._reading,
            runner=Runner(threads=threads, slow_s=slow_ms / 1000, around=around),
            failures=Failures(self.on_error),
            restored_action=restored_action or f"$restored:{secrets.token_hex(8)}",
            clock=clock,
        )
        """What a server calls."""
        for each in self.channels:
            each.broadcaster = self

    # Publishing

    def broadcast(
        self,
        stream: object,
        message: object,
        *,
        exclude_socket: str | None = None,
        to_others: bool = False,
        transient: bool = False,
    ) -> Sent:
        """Publishes to a stream: its name, or an object that names it.

        ``exclude_socket`` is the sid of a connection that does not get the message; ``to_others``,
        within a channel's method, excludes the method's own client. A ``transient`` message is not
        kept in the history. Raises TypeError for a message that JSON can't carry. Raises
        :class:`catenary.errors.BackendError`, here or when the result is awaited, if the publication
        was not accepted.
        """
        exclude = exclude_socket or ""
        call = current.get()
        if to_others:
            if call is None:
                raise TypeError("to_others: expected to be within a channel's method")
            exclude = call.environment.sid
        raw = publication(stream_name(stream), message, exclude, transient=transient)
        sent = self._publications.send(raw)
        if call is not None and not sent.is_done:
            call.sent.append(sent)
        return sent

    def batch(self) -> AbstractContextManager[None]:
        """Sends everything published within the block as one, in order, unless the block raises."""
        return self._publications.batch()

    def remote_connections(self, **values: object) -> RemoteConnections:
        """All connections with these identifiers.

        Raises TypeError unless exactly the names of ``identified_by`` are given.
        """
        self._check_identifiers(values)
        names = self.connection_class.identified_by
        if not names:
            raise TypeError("expected a connection class with identified_by, got one without")
        return RemoteConnections(
            self._publications, identifiers({name: values[name] for name in names})
        )

    # Reading

    async def presence(self, stream: object) -> list[Present]:
        """Returns the members that are present on a stream: its name, or an object that names it.

        Raises :class:`catenary.errors.NotKept` where the server has no broker, and
        :class:`catenary.errors.BackendError` where it can't be asked.
        """
        return await self._reading.presence(stream_name(stream))

    def history(
        self,
        stream: object,
        *,
        since: float | datetime | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Kept]:
        """Yields the messages in a stream's history, the oldest first: all of them, those ``since`` a
        moment (seconds since the epoch, in whole seconds), or those ``after`` the ``position`` of a
        message.

        With ``limit``, yields the newest so many; after a position, the next so many. Raises as
        :meth:`presence` does, and :class:`catenary.errors.LostPosition` where messages after the
        position are no longer kept.
        """
        return self._reading.history(stream_name(stream), since, after, limit)

    # Signing

    def signed_stream_name(self, *names: object) -> str:
        """Signs the name of a stream, or of objects that name one: clients may subscribe to it
        without a channel."""
        return self._signer.signed_stream_name(*names)

    def turbo_stream_from(self, *names: object) -> Html:
        """Returns the HTML element with which Turbo subscribes to such a stream."""
        return turbo_stream_from(*names, secret=self._signer.turbo_secret)

    def token(self, identifiers: Mapping[str, object], *, ttl: timedelta | float = TTL) -> str:
        """Returns a JSON Web Token with which a client connects as these identifiers, without a call
        of ``connect``. ``ttl`` is a timedelta or seconds.

        Raises TypeError for other names than those of ``identified_by``.
        """
        if self.connection_class.identified_by:
            self._check_identifiers(identifiers)
        return self._signer.token(identifiers, ttl)

    # Serving

    def http_rpc(self, *, key: str | None = None, secret: str | None = None) -> AsgiRpc:
        """Returns an ASGI application that answers HTTP RPC, to be mounted anywhere.

        Callers must show the ``key``, or the one derived from ``secret``. Raises
        :class:`catenary.errors.ConfigError` where neither is given.
        """
        return AsgiRpc(self.application, rpc_key(key, secret))

    def wsgi_http_rpc(self, *, key: str | None = None, secret: str | None = None) -> WsgiRpc:
        """Returns the same as a WSGI application."""
        return WsgiRpc(self.application, rpc_key(key, secret))

    async def stop(self, timeout_s: float) -> None:
        """Waits for methods that must be finished, and closes the connections of publishers.

        A server that runs the cable does this itself.
        """
        await self.application.stop(timeout_s)

    def release(self) -> None:
        """Closes the connections of publishers, without waiting for methods: for scripts and jobs."""
        self.application.release()

    # What the environment says where no server runs the cable

    def _check_identifiers(self, values: Mapping[str, object]) -> None:
        names = self.connection_class.identified_by
        if set(values) != set(names):
            raise TypeError(f"expected the identifiers {names}, got {tuple(values)}")

    def _find_publisher(self) -> OrderedPublisher:
        return self._settings.publisher()

    def _find_reader(self) -> Reader:
        return self._settings.reader()

    @functools.cached_property
    def _settings(self) -> EnvironmentSettings:
        return EnvironmentSettings({**os.environ, **self._given})

    @functools.cached_property
    def _signer(self) -> Signer:
        found = self._settings
        return Signer(found.keys, found.options.jwt, time.time)
