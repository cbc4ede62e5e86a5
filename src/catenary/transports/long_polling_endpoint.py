"""The endpoint of long polling in HTTP/1.1: reads the body of a request, and sends its response when there is one.

A connection serves one request after the other. A response counts as delivered when the client closes the connection in
order after it, or sends the next request on it; or, if the connection serves no more requests, when TCP has acknowledged it.
Knows: HTTP/1.1, connections. Does not know: the meaning of messages.
"""

import asyncio
import fcntl
import socket
import termios
from typing import Final

import msgspec

from catenary.edge.connection import ClientConnection, Stage
from catenary.edge.deadlines import Deadlines
from catenary.edge.refusals import Refusals, unavailable
from catenary.edge.request import Peer
from catenary.errors import RequestRefused
from catenary.transports.brief_response import BriefResponseStage
from catenary.transports.http_responses import BriefResponse, response_head, with_headers
from catenary.transports.long_polling_relay import PollRelay
from catenary.transports.long_polling_requests import AcceptedPoll, PollRequests, headers_of
from catenary.transports.long_polling_sessions import PollSessions
from catenary.transports.next_request import keeps_connection
from catenary.transports.polls import Poll, PollHolder, PollResponse
from catenary.transports.request_body import BodyReading, RequestBody
from catenary.wire.http1 import RequestHead, refusal
from catenary.wire.request_bodies import BodyReader, body_of

RECHECK_S: Final = 0.01
"""Interval of the checks whether a response has arrived, after which its connection is closed."""

_TCP_CLOSE: Final = 7
"""The state of a connection that was reset: TCP_CLOSE of linux/tcp_states.h, the first byte of TCP_INFO."""


class PollServices(msgspec.Struct, frozen=True, eq=False):
    """Shared by all long-polling requests of one server. ``relay`` leads to the sessions of other nodes, if there are any;
    ``connections`` closes those without a further request."""

    sessions: PollSessions
    relay: PollRelay | None
    requests: PollRequests
    bodies: BodyReading
    refusals: Refusals
    connections: Deadlines

    def begin(self, accepted: AcceptedPoll, poll: Poll, body: bytes) -> PollHolder | None:
        """Passes a complete request to its session, here or at another node; None if it is answered. Raises
        :class:`RequestRefused`."""
        if accepted.admitted is not None:
            self.requests.check_capacity()
            return self.sessions.open(accepted.admitted, poll, body)
        poll_id, received = accepted.poll_id, accepted.received
        if self.relay is not None and self.relay.is_elsewhere(poll_id):
            return self.relay.poll(poll_id, poll, received, body)
        return self.sessions.poll(poll_id, poll, received, body)


class LongPollingEndpoint:
    """Satisfies :class:`catenary.edge.routes.Endpoint`."""

    __slots__ = ("_services",)

    def __init__(self, services: PollServices) -> None:
        self._services = services

    def open(
        self, request: RequestHead, peer: Peer, connection: ClientConnection
    ) -> "PollStage | BriefResponseStage":
        services = self._services
        accepted = services.requests.accept(request, peer)
        if isinstance(accepted, BriefResponse):
            return BriefResponseStage(connection.transport, accepted)
        try:
            body = body_of(request, services.bodies.max_bytes)
        except RequestRefused as refused:
            raise with_headers(refused, accepted.cors) from refused
        keeps = keeps_connection(request)
        return PollStage(services, accepted, connection, body, keeps_connection=keeps)


class PollStage:
    """Satisfies :class:`catenary.edge.connection.Stage` and :class:`catenary.transports.polls.Poll`.

    First it reads the body of the request; then it waits for the response; then for the next request, which it leaves to
    the stage before it, the sniffer.
    """

    __slots__ = (
        "_accepted",
        "_body",
        "_connection",
        "_is_answered",
        "_is_unread",
        "_keeps_connection",
        "_reader",
        "_services",
        "_session",
        "_sniffer",
    )

    def __init__(
        self,
        services: PollServices,
        accepted: AcceptedPoll,
        connection: ClientConnection,
        reader: BodyReader,
        *,
        keeps_connection: bool,
    ) -> None:
        self._services = services
        self._accepted: AcceptedPoll | None = accepted
        self._connection = connection
        self._sniffer: Stage | None = connection.stage
        self._reader = reader
        self._keeps_connection = keeps_connection
        self._body: RequestBody | None = None
        self._session: PollHolder | None = None
        self._is_answered = False
        self._is_unread = False

    @property
    def is_client(self) -> bool:
        return not self._is_answered

    # Stage

    def begin(self, rest: bytes) -> None:
        services = self._services
        if self._reader.is_complete:
            self._begin(rest, b"")
            return
        self._body = RequestBody(
            services.bodies, self._reader, lambda body: self._begin(b"", body), self._refuse
        )
        self.receive(rest)

    def _begin(self, rest: bytes, body: bytes) -> None:
        """The request is complete."""
        accepted, self._body = self._accepted, None
        assert accepted is not None
        try:
            session = self._services.begin(accepted, self, body)
        except RequestRefused as refused:
            self._refuse(refused)
            return
        self._session = session
        if rest:
            self.receive(rest)

    def receive(self, data: bytes) -> None:
        """Reads the body, or the beginning of the next request after the response."""
        if self._body is not None:
            data = self._body.receive(data)
        if not data or self._sniffer is None:
            return
        if not self._is_answered:
            # A client that does not wait for its response: the connection is closed after it.
            self._keeps_connection = False
            return
        if not self._keeps_connection:
            return
        if self._session is not None:
            self._session.delivered(self)
        sniffer, connection = self._sniffer, self._connection
        if not connection.transport.is_closing():
            self._forget()
            connection.enter(sniffer, data)

    def eof(self) -> bool:
        """The client closes the connection."""
        self._is_unread = self.is_unread()
        return False

    def pause_writing(self) -> None:
        """Does nothing: at most one response is written."""

    def resume_writing(self) -> None:
        """See :meth:`pause_writing`."""

    def lost(self, exc: Exception | None) -> None:
        session = self._session
        is_delivered = self._is_answered and exc is None and not self._is_unread
        if self._body is not None:
            self._body.close()
        self._forget()
        if session is not None and is_delivered:
            session.delivered(self)
        elif session is not None:
            session.lost(self)

    def shutdown(self) -> None:
        self._keeps_connection = False
        if self._is_answered:
            self._close_after_arrival()
        elif self._session is not None:
            self._session.shutdown()
        else:
            self._refuse(unavailable("the server is shutting down"))

    # Responses

    def answer(self, response: PollResponse) -> None:
        transport, accepted = self._connection.transport, self._accepted
        if accepted is None or transport.is_closing():
            return  # ``lost`` follows
        headers = headers_of(response, accepted.cors)
        self._keeps_connection &= self._connection.is_kept
        if not self._keeps_connection:
            headers = (*headers, ("Connection", "close"))
        self._is_answered = True
        transport.write(response_head(response.status, headers) + response.messages)
        self._services.connections.watch(self)
        if not self._keeps_connection:
            self._close_after_arrival()

    def _close_after_arrival(self) -> None:
        """Closes the connection when its response has arrived: a closed connection does not report that any more."""
        transport = self._connection.transport
        if transport.is_closing():
            return
        if self.is_unread():
            asyncio.get_running_loop().call_later(RECHECK_S, self._close_after_arrival)
        else:
            transport.close()

    def _refuse(self, refused: RequestRefused) -> None:
        """Refuses a request that no session has taken."""
        accepted, transport = self._accepted, self._connection.transport
        if accepted is None or self._is_answered or transport.is_closing():
            return
        self._services.refusals.note(refused, accepted.requester)
        if self._body is not None:
            self._body.close()
            self._body = None
        self._is_answered = True
        transport.write(refusal(with_headers(refused, accepted.cors)))
        transport.close()

    def time_out(self) -> None:
        """No further request has come; if the response was not read, it is lost."""
        self._is_unread = self.is_unread()
        if self._is_unread:
            self._connection.transport.abort()
        else:
            self._connection.transport.close()

    def is_unread(self) -> bool:
        transport = self._connection.transport
        return (
            not self._is_answered
            or transport.get_write_buffer_size() > 0
            or _has_unacknowledged(transport)
        )

    def _forget(self) -> None:
        """Leaves the connection; breaks the reference cycles."""
        self._services.connections.forget(self)
        self._body = self._session = self._sniffer = self._accepted = None


def _has_unacknowledged(transport: asyncio.BaseTransport) -> bool:
    """Whether TCP has not delivered everything to the peer's machine (tcp(7), SIOCOUTQ): a client that closes the connection
    before its response arrives never acknowledges it. A reset connection has forgotten what was not acknowledged, so all
    counts as lost, also if asyncio has only seen the end before the reset. False where the system does not say."""
    connection = transport.get_extra_info("socket")
    if connection is None:
        return False
    try:
        if connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE:
            return True
        return any(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))
    except (OSError, AttributeError):
        return False
