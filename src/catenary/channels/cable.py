"""The cable: an application of a connection class and channels, with which its author publishes, reads
and signs.

Servers call :attr:`Cable.application` (``application.py``), authors do not.
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
    PublicationSender,
    Publisher,
    Sent,
    When,
    disconnection,
    publication,
)
from catenary.channels.reading import PresentMember, Reader, StoredMessage, StreamReader
from catenary.channels.rpc_http import AsgiRpc, WsgiRpc, rpc_key
from catenary.channels.running import Around, Runner
from catenary.channels.streams import stream_name
from catenary.channels.tokens import TTL, Signer
from catenary.ports import Observer


class RemoteConnections:
    """All connections with the same identifiers, on every node: see :meth:`Cable.remote_connections`."""

    def __init__(self, publications: PublicationSender, identifiers: str) -> None:
        self._publications = publications
        self._identifiers = identifiers

    def disconnect(self, *, reconnect: bool = True) -> Sent:
        """Closes them; ``reconnect`` tells the clients whether to connect again.

        Raises :class:`catenary.errors.BackendError`, here or when the result is awaited, if the command
        was not accepted.
        """
        return self._publications.send(disconnection(self._identifiers, reconnect=reconnect))


class Cable:
    """An application: a connection class and its channels.

    ::

        cable = Cable(connection=User, channels=[ChatChannel])

    ``catenary module:cable`` serves it; the name says where the module has it. Any process may publish
    and read with it, also without a server.
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

        - ``publisher`` sends publications if no server runs the cable in this process. Without it, the
          environment variables of a server choose one (``environment_settings.py``).
        - ``threads``: how many plain (``def``) methods run at once.
        - ``slow_ms``: a method that blocks the event loop for longer is logged, in milliseconds.
        - ``restored_action``: the action that the server performs on each subscription of a resumed
          session, for ``restored`` behind RPC; by default a secret of this process.
        - ``publish_when`` gets each publication as a function without arguments, and calls it at once
          or later, like ``transaction.on_commit``.
        - ``around`` returns a context manager, which surrounds every method: plain methods in their
          thread, coroutines in the event loop.
        - ``secret`` is the secret of the server; it signs tokens and stream names. ``api_url`` is the
          URL of the server's API, which requires ``api_secret`` or a key derived from ``secret``.
          By default they are read from ``ANYCABLE_SECRET``, ``ANYCABLE_API_URL`` and
          ``ANYCABLE_API_SECRET`` when they are first needed.
        - ``observer`` is notified of the clients and publications of a server that runs the cable in its own process;
          an exception of it is logged.
        - ``clock`` measures rates, in seconds.
        """
        self.connection_class = connection
        self.channels = tuple(channels)
        self.on_error: list[OnError] = []
        """Functions for services that collect errors: called with the session's id, the name of the
        method and the exception, for every exception that nothing rescued."""
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
        self._publications = PublicationSender(publisher, self._find_publisher, publish_when)
        self._reading = StreamReader(self._find_reader)
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
        """The part that servers call."""
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
        """Publishes a message to all subscribers of a stream: ``cable.broadcast("news", {"text": "hi"})``.

        ``stream`` is its name, or an object that names it (``streams.py``); ``message`` is anything that
        JSON can carry. ``exclude_socket`` is the sid of a connection that does not get the message;
        ``to_others``, within a channel's method, excludes the method's own client. A ``transient``
        message is not stored in the history.

        The result may be awaited, but need not be. Raises TypeError for a message that JSON can't carry,
        and :class:`catenary.errors.BackendError`, here or when the result is awaited, if the publication
        was not accepted (:class:`catenary.errors.BackendRefused` if it would be refused again).
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
        """Sends everything that the block publishes as one publication, in order, at its end.

        If the block raises, nothing is sent.
        """
        return self._publications.batch()

    def remote_connections(self, **values: object) -> RemoteConnections:
        """All connections with these identifiers: ``cable.remote_connections(user_id=1).disconnect()``.

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

    async def presence(self, stream: object) -> list[PresentMember]:
        """Returns the members that are present on a stream, in the order in which they joined.

        ``stream`` is its name, or an object that names it. Raises :class:`catenary.errors.NotKept` if the
        server has no broker, and :class:`catenary.errors.BackendError` if it can't be reached.
        """
        return await self._reading.presence(stream_name(stream))

    def history(
        self,
        stream: object,
        *,
        since: float | datetime | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[StoredMessage]:
        """Yields the messages in a stream's history, the oldest first.

        By default all of them; with ``since``, those from a time on (a datetime, or seconds since the
        epoch, rounded down to whole seconds); with ``after``, those after the ``position`` of a message.
        ``limit`` bounds their number: to the newest, or after a position to the next ones. Raises like
        :meth:`presence`, and :class:`catenary.errors.LostPosition` if messages after the position are no
        longer stored.
        """
        return self._reading.history(stream_name(stream), since, after, limit)

    # Signing

    def signed_stream_name(self, *names: object, write: bool = False) -> str:
        """Returns the signed name of a stream, or of objects that name one.

        With it a client may subscribe to the stream without a channel; with ``write``, it may write the durable stream of that
        name (``--ds_write``), and nothing else. Raises
        :class:`catenary.errors.ConfigError` without a secret, like all methods that sign.
        """
        return self._signer.signed_stream_name(*names, write=write)

    def turbo_stream_from(self, *names: object) -> Html:
        """Returns the HTML element with which Turbo subscribes to a stream; names as above."""
        return turbo_stream_from(*names, secret=self._signer.turbo_secret)

    def token(self, identifiers: Mapping[str, object], *, ttl: timedelta | float = TTL) -> str:
        """Returns a JSON Web Token with which a client connects as ``identifiers``; ``connect`` does not
        run for it.

        ``ttl`` is how long the token is valid, as a timedelta or in seconds. Raises TypeError for other
        names than those of ``identified_by``.
        """
        if self.connection_class.identified_by:
            self._check_identifiers(identifiers)
        return self._signer.token(identifiers, ttl)

    # Serving

    def http_rpc(self, *, key: str | None = None, secret: str | None = None) -> AsgiRpc:
        """Returns an ASGI application that serves HTTP RPC, to be mounted under any path.

        Callers authenticate with ``key``, or with the key derived from ``secret``. Raises
        :class:`catenary.errors.ConfigError` if neither is given; ``key=""`` admits every caller.
        """
        return AsgiRpc(self.application, rpc_key(key, secret))

    def wsgi_http_rpc(self, *, key: str | None = None, secret: str | None = None) -> WsgiRpc:
        """Returns the same as a WSGI application, for Flask and Django."""
        return WsgiRpc(self.application, rpc_key(key, secret))

    async def stop(self, timeout_s: float) -> None:
        """Waits up to ``timeout_s`` for methods that must be finished, and closes the connections of
        publishers. A server that runs the cable does this itself."""
        await self.application.stop(timeout_s)

    def release(self) -> None:
        """Closes the connections of publishers, without waiting for methods: for scripts and jobs."""
        self.application.release()

    def _check_identifiers(self, values: Mapping[str, object]) -> None:
        names = self.connection_class.identified_by
        if set(values) != set(names):
            raise TypeError(f"expected the identifiers {names}, got {tuple(values)}")

    # Without a server in this process: settings of the environment

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
