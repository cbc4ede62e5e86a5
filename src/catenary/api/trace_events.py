"""The events of clients and publications of one node, as a live trace shows them.

Data are shortened, and secrets in them are hidden; queries, headers and cookies are left out.
Knows: the port of observers, JSON. Does not know: who reads the events.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from catenary.logs.escaping import shortened
from catenary.logs.redaction import redacted
from catenary.messages.commands import ClientPing, ClientPong, Command, Perform, Whisper
from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment, Requester
from catenary.messages.lenient_json import without_surrogates
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.presence import PresenceChange
from catenary.messages.publications import Publication, Publishable
from catenary.messages.reasons import Reason
from catenary.messages.replies import Reply
from catenary.silent_observer import SilentObserver

DATA_CHARS: Final = 200
"""Longest data of an event."""

TEXT_CHARS: Final = 500
"""Longest text of every other field."""

FEW_PUBLICATIONS: Final = 10
"""Publications of one batch that are shown; of a larger batch, the size is, too."""

EVENTS: Final = (
    *("request_refused", "opened", "connected", "resumed", "rejected", "received", "refused"),
    *("subscribed", "subscription_rejected", "unsubscribed", "performed", "failed", "transmitted"),
    *("disconnected", "closed", "published", "disconnect", "publication_refused", "whispered"),
    *("no_history", "presence", "delivered"),
)
"""The names of all events of clients and publications."""


class TraceFilter(msgspec.Struct, frozen=True):
    """The events that a reader wants: those that meet all conditions; an empty one is met by every event.

    With a ``sid`` or a ``stream``, the deliveries of the client's streams, and the events of the stream's clients, belong to
    them. ``event`` has names of events, with commas between them.
    """

    sid: Annotated[str, Meta(description="the id of a session")] = ""
    stream: Annotated[str, Meta(description="a stream, and the clients that listen to it")] = ""
    identifiers: Annotated[
        str, Meta(description="the connection identifiers, as they are shown")
    ] = ""
    address: Annotated[str, Meta(description="the IP address of the client")] = ""
    event: Annotated[str, Meta(description="names of events, with commas between them")] = ""


class TraceEvent(msgspec.Struct, omit_defaults=True, gc=False):
    """An event; what it does not have is left out.

    ``ts`` is ISO 8601 in UTC, ``node`` the id of the node, ``worker`` the number of its worker process. ``remote`` is the IP address
    of the client, ``path`` has no query, ``data`` is the beginning of JSON text. ``messages`` of a stream were sent to each of
    ``clients`` of the node.
    """

    ts: str
    node: str
    event: str
    worker: int = 0
    sid: str = ""
    remote: str = ""
    path: str = ""
    origin: str = ""
    request_id: str = ""
    method: str = ""
    status: int = 0
    transport: str = ""
    protocol: str = ""
    identifiers: str = ""
    identifier: str = ""
    stream: str = ""
    command: str = ""
    message: str = ""
    data: str = ""
    verdict: str = ""
    member: str = ""
    change: str = ""
    by: str = ""
    reason: str = ""
    messages: int = 0
    clients: int = 0
    total: int = 0


Listens = Callable[[Sid, Stream], bool]
"""Whether a session of this node listens to a stream."""


class TraceObserver(SilentObserver):
    """Passes the events that meet a filter to ``emit``, encoded as JSON."""

    __slots__ = ("_emit", "_events", "_filter", "_listens", "_node", "_worker")

    def __init__(
        self,
        node: str,
        worker: int,
        wanted: TraceFilter,
        listens: Listens,
        emit: Callable[[bytes], None],
    ) -> None:
        self._node = node
        self._worker = worker
        self._filter = wanted
        self._events = frozenset(filter(None, wanted.event.split(",")))
        self._listens = listens
        self._emit = emit

    # Requests

    def request_refused(self, requester: Requester, status: int, why: str) -> None:
        wanted = self._filter
        if wanted.sid or wanted.identifiers or wanted.stream:
            return
        if not wanted.address or requester.address == wanted.address:
            self._write(
                "request_refused",
                remote=requester.address,
                method=requester.method,
                path=requester.path,
                origin=requester.origin,
                request_id=requester.request_id,
                status=status,
                reason=why,
            )

    # Clients

    def opened(self, environment: Environment) -> None:
        if self._wants(environment):
            ingress = environment.ingress
            self._write_client(
                "opened",
                environment,
                path=environment.path,
                origin=ingress.origin,
                transport=ingress.transport,
                protocol=ingress.protocol,
            )

    def connected(self, environment: Environment, *, is_resumed: bool) -> None:
        if self._wants(environment):
            self._write_client("resumed" if is_resumed else "connected", environment)

    def rejected(self, environment: Environment, reason: Reason, why: str) -> None:
        if self._wants(environment):
            self._write_client("rejected", environment, reason=why or reason.description)

    def received(self, environment: Environment, command: Command) -> None:
        # Pings are not shown, so neither are their answers.
        if not isinstance(command, ClientPing | ClientPong) and self._wants(environment):
            self._write_client(
                "received",
                environment,
                command=type(command).__name__,
                identifier=getattr(command, "identifier", ""),
                data=command.data if isinstance(command, Perform | Whisper) else "",
            )

    def refused(self, environment: Environment, why: str) -> None:
        if self._wants(environment):
            self._write_client("refused", environment, reason=why)

    def subscribed(self, environment: Environment, identifier: Identifier) -> None:
        if self._wants(environment):
            self._write_client("subscribed", environment, identifier=identifier)

    def subscription_rejected(
        self, environment: Environment, identifier: Identifier, why: str
    ) -> None:
        if self._wants(environment):
            self._write_client(
                "subscription_rejected",
                environment,
                identifier=identifier,
                reason=why or "the application refused it",
            )

    def unsubscribed(self, environment: Environment, identifier: Identifier) -> None:
        if self._wants(environment):
            self._write_client("unsubscribed", environment, identifier=identifier)

    def performed(
        self, environment: Environment, identifier: Identifier, decision: Decision
    ) -> None:
        if self._wants(environment):
            self._write_client(
                "performed",
                environment,
                identifier=identifier,
                verdict=decision.verdict.value,
                reason=decision.error,
            )

    def failed(self, environment: Environment, identifier: Identifier | None, why: str) -> None:
        if self._wants(environment):
            self._write_client("failed", environment, identifier=identifier or "", reason=why)

    def transmitted(self, environment: Environment, message: Reply | str) -> None:
        if not self._wants(environment):
            return
        if isinstance(message, str):
            self._write_client("transmitted", environment, data=message)
            return
        reason = getattr(message, "reason", "")
        self._write_client(
            "transmitted",
            environment,
            message=type(message).__name__,
            identifier=getattr(message, "identifier", ""),
            reason=reason.description if isinstance(reason, Reason) else reason,
        )

    def disconnected(self, environment: Environment, reason: Reason | None) -> None:
        if self._wants(environment):
            self._write_client("disconnected", environment, **_ended(reason, ""))

    def closed(self, environment: Environment, reason: Reason | None, how: str) -> None:
        if self._wants(environment):
            self._write_client("closed", environment, **_ended(reason, how))

    def whispered(self, environment: Environment, publication: Publication) -> None:
        if self._wants(environment, publication.stream):
            self._write_client(
                "whispered", environment, stream=publication.stream, data=publication.data
            )

    def found_no_history(self, environment: Environment, stream: Stream) -> None:
        if self._wants(environment, stream):
            self._write_client("no_history", environment, stream=stream)

    # Streams

    def published(self, publications: tuple[Publishable, ...]) -> None:
        size = len(publications)
        total = size if size > FEW_PUBLICATIONS else 0
        for each in publications[:FEW_PUBLICATIONS]:
            if isinstance(each, Publication):
                if self._wants_stream(each.stream):
                    self._write("published", stream=each.stream, data=each.data, total=total)
            elif self._wants_identifiers(each.identifiers):
                self._write("disconnect", identifiers=each.identifiers)

    def publication_refused(self, raw: bytes | str, why: str) -> None:
        if self._wants_stream(Stream("")):
            self._write("publication_refused", reason=why, total=len(raw))

    def presence_changed(self, change: PresenceChange) -> None:
        if self._wants_stream(change.stream):
            self._write("presence", stream=change.stream, member=change.id, change=change.kind)

    def delivered(self, stream: Stream, messages: int, clients: int) -> None:
        if self._wants_stream(stream):
            self._write("delivered", stream=stream, messages=messages, clients=clients)

    # The filter

    def _wants(self, environment: Environment, stream: str = "") -> bool:
        """Whether an event of a client, perhaps on a stream, meets the filter."""
        wanted = self._filter
        return (
            (not wanted.sid or wanted.sid == environment.sid)
            and (not wanted.identifiers or wanted.identifiers == environment.identifiers)
            and (not wanted.address or wanted.address == environment.address)
            and (
                not wanted.stream
                or wanted.stream == stream
                or self._listens(environment.sid, Stream(wanted.stream))
            )
        )

    def _wants_stream(self, stream: Stream) -> bool:
        """Whether an event of a stream, not of one client, meets the filter."""
        wanted = self._filter
        if wanted.identifiers or wanted.address or wanted.stream not in ("", stream):
            return False
        return not wanted.sid or self._listens(Sid(wanted.sid), stream)

    def _wants_identifiers(self, identifiers: str) -> bool:
        wanted = self._filter
        if wanted.sid or wanted.address or wanted.stream:
            return False
        return wanted.identifiers in ("", identifiers)

    # Writing

    def _write_client(self, event: str, environment: Environment, **values: str) -> None:
        self._write(
            event,
            sid=environment.sid,
            remote=environment.address,
            identifiers=environment.identifiers,
            **values,
        )

    def _write(self, event: str, **values: str | int) -> None:
        if not self._events or event in self._events:
            shown = {
                name: _shown(value, DATA_CHARS if name == "data" else TEXT_CHARS)
                if isinstance(value, str)
                else value
                for name, value in values.items()
            }
            found = TraceEvent(now(), self._node, event, self._worker, **shown)  # type: ignore[arg-type]
            self._emit(encode(found))


def now() -> str:
    """The time, as log lines have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _shown(text: str, limit: int) -> str:
    """The beginning of a text, without secrets, with the length of the whole if it is longer."""
    # Secrets are looked for in what may be shown, as in log lines: that takes up to 2 µs for each character.
    return shortened(_without_secrets(text[: 2 * limit]), limit, len(text))


@lru_cache(maxsize=256)
def _without_secrets(text: str) -> str:
    """Many readers are shown the same texts, one after the other."""
    return without_surrogates(redacted(text))


def _ended(reason: Reason | None, how: str) -> dict[str, str]:
    """The side that ended a connection, and the reason."""
    if reason is None:
        return {"by": "client", "reason": how}
    return {"by": "server", "reason": reason.description}


encode: Final = msgspec.json.Encoder().encode
