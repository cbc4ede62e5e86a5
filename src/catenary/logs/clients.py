"""Observers that write the life of clients to the log: their refusals (INFO), and everything (DEBUG).

Each kind of line has a rate limit of its own. Data and messages are shortened; queries, headers and cookies are not logged.
Knows: the port of observers, loggers. Does not know: what reports to them.
"""

import logging
from typing import Final

from catenary.logs.fields import client_fields, requester_fields
from catenary.logs.rate_limited import RateLimitedLogger
from catenary.messages.commands import (
    Checkpoint,
    CloseConnection,
    Command,
    DirectReply,
    Identify,
    Perform,
    Whisper,
)
from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment, Requester
from catenary.messages.names import Identifier, Stream
from catenary.messages.presence import PresenceChange
from catenary.messages.publications import Publication, Publishable
from catenary.messages.reasons import Reason
from catenary.messages.replies import Reply
from catenary.silent_observer import SilentObserver

_limited: Final = RateLimitedLogger(logging.getLogger("catenary.client"))

DATA_CHARS: Final = 200
"""Data and messages are cut to this length."""

_OWN: Final = (Checkpoint, CloseConnection, DirectReply, Identify)
"""Commands that a codec has added."""

FEW_PUBLICATIONS: Final = 10
"""Publications of one batch that are written; of a larger batch, its size is."""


class RefusalLog(SilentObserver):
    """Writes each refusal, at INFO."""

    __slots__ = ()

    def request_refused(self, requester: Requester, status: int, why: str) -> None:
        _limited.info(
            "Request refused",
            event="request_refused",
            # Requests for paths that do not exist must not suppress the line about a wrong key.
            kind=f" {status}",
            status=status,
            reason=why,
            **requester_fields(requester),
        )

    def rejected(self, environment: Environment, reason: Reason, why: str) -> None:
        if reason is not Reason.AUTH_ERROR:  # that is a failure, which is logged with its cause
            _limited.info(
                "Connection rejected",
                event="connection_rejected",
                reason=why or reason.description,
                **client_fields(environment),
            )

    def subscription_rejected(
        self, environment: Environment, identifier: Identifier, why: str
    ) -> None:
        _limited.info(
            "Subscription rejected",
            event="subscription_rejected",
            identifier=identifier,
            reason=why or "the application refused it",
            **client_fields(environment),
        )

    def refused(self, environment: Environment, why: str) -> None:
        _limited.info(
            "Message refused",
            event="message_refused",
            reason=why,
            **client_fields(environment),
        )


class LifeLog(SilentObserver):
    """Writes everything else that happens to clients and publications, at DEBUG."""

    __slots__ = ()

    def opened(self, environment: Environment) -> None:
        ingress = environment.ingress
        _limited.debug(
            "Connection opened",
            event="opened",
            transport=ingress.transport,
            protocol=ingress.protocol,
            **client_fields(environment),
        )

    def connected(self, environment: Environment, *, is_resumed: bool) -> None:
        text = "Session resumed" if is_resumed else "Connected"
        event = "resumed" if is_resumed else "connected"
        _limited.debug(text, event=event, sid=environment.sid, identifiers=environment.identifiers)

    def received(self, environment: Environment, command: Command) -> None:
        if isinstance(command, _OWN):
            return
        data = command.data[:DATA_CHARS] if isinstance(command, Perform | Whisper) else ""
        _limited.debug(
            "Received",
            event="received",
            sid=environment.sid,
            command=type(command).__name__,
            identifier=getattr(command, "identifier", ""),
            data=data,
        )

    def subscribed(self, environment: Environment, identifier: Identifier) -> None:
        _limited.debug("Subscribed", event="subscribed", sid=environment.sid, identifier=identifier)

    def unsubscribed(self, environment: Environment, identifier: Identifier) -> None:
        _limited.debug(
            "Unsubscribed", event="unsubscribed", sid=environment.sid, identifier=identifier
        )

    def performed(
        self, environment: Environment, identifier: Identifier, decision: Decision
    ) -> None:
        _limited.debug(
            "Performed",
            event="performed",
            sid=environment.sid,
            identifier=identifier,
            status=decision.verdict.value,
            reason=decision.error,
        )

    def transmitted(self, environment: Environment, message: Reply | str) -> None:
        if isinstance(message, str):
            _limited.debug(
                "Transmitted",
                event="transmitted",
                sid=environment.sid,
                data=message[:DATA_CHARS],
            )
            return
        reason = getattr(message, "reason", "")
        _limited.debug(
            "Transmitted",
            event="transmitted",
            sid=environment.sid,
            message=type(message).__name__,
            identifier=getattr(message, "identifier", ""),
            reason=reason.description if isinstance(reason, Reason) else reason,
        )

    def closed(self, environment: Environment, reason: Reason | None, how: str) -> None:
        _limited.debug(
            "Connection closed",
            event="closed",
            by="client" if reason is None else "server",
            reason=how if reason is None else reason.description,
            **client_fields(environment),
        )

    def published(self, publications: tuple[Publishable, ...]) -> None:
        for each in publications[:FEW_PUBLICATIONS]:
            if isinstance(each, Publication):
                _limited.debug(
                    "Published", event="published", stream=each.stream, data=each.data[:DATA_CHARS]
                )
            else:
                _limited.debug(
                    "Remote disconnect", event="disconnect", identifiers=each.identifiers
                )
        if len(publications) > FEW_PUBLICATIONS:
            _limited.debug("Published as one batch", event="published", total=len(publications))

    def whispered(self, environment: Environment, publication: Publication) -> None:
        _limited.debug(
            "Whispered",
            event="whispered",
            sid=environment.sid,
            stream=publication.stream,
            data=publication.data[:DATA_CHARS],
        )

    def found_no_history(self, environment: Environment, stream: Stream) -> None:
        _limited.debug("No history", event="no_history", sid=environment.sid, stream=stream)

    def presence_changed(self, change: PresenceChange) -> None:
        _limited.debug(
            "Presence changed",
            event="presence",
            change=change.kind,
            stream=change.stream,
            member=change.id,
        )

    def delivered(self, stream: Stream, messages: int, clients: int) -> None:
        _limited.debug(
            "Delivered", event="delivered", stream=stream, messages=messages, clients=clients
        )
