"""The table of the REST API's operations.

Source: docs/api.md (anycable) for publications and presence; the others are additions.
Knows: operations. Does not know: how they are carried out.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.types import ASGIApp

from catenary.api.access import ApiResponse
from catenary.api.cluster_reads import (
    AllStats,
    Channels,
    ChannelsQuery,
    ClusterReads,
    Count,
    CountQuery,
    Disconnected,
    DisconnectQuery,
    Nodes,
    Sessions,
    SessionsQuery,
    Streams,
    StreamsQuery,
    Subscribed,
    Subscribing,
)
from catenary.api.live_events import EventsQuery
from catenary.api.reads import (
    HistoryQuery,
    Members,
    Messages,
    PresenceQuery,
    history_of,
    presence_of,
)
from catenary.api.rest import Operation, QueryError, RestRequest
from catenary.node.listing import SessionDetails
from catenary.node.reads import Reads
from catenary.supervision.health import CheckResult

_NO_CONNECTION = "no node has such a connection"
_NO_NODE = "not found, and some nodes did not answer"
_NO_BROKER = "the server has no broker"
_BROKER_AWAY = "Redis or NATS is away: try again"


class Disconnecting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which clients are disconnected: either all with these ``identifiers``, or the one with this ``sid``."""

    identifiers: str | None = None
    sid: str | None = None
    reconnect: Annotated[bool, Meta(description="may they connect again by themselves?")] = True


class PublicationBody(msgspec.Struct):
    """One publication; a list of them is a batch. docs/publishing.md has all fields."""

    stream: str
    data: str


class Health(msgspec.Struct):
    """The checks of the node that answers."""

    checks: list[CheckResult]


def operations(
    cluster: ClusterReads,
    reads: Reads,
    *,
    publish: ASGIApp,
    events: ASGIApp,
    disconnect: Callable[[str, bool], Awaitable[ApiResponse]],
    health: Callable[[], tuple[CheckResult, ...]],
) -> list[Operation]:
    """All operations. ``publish`` takes publications, ``events`` serves the event stream, ``disconnect`` sends a remote disconnect of identifiers to all nodes,
    ``health`` returns the checks of this node."""

    async def disconnect_either(request: RestRequest) -> ApiResponse:
        body: Disconnecting = request.body
        if body.sid is not None and body.identifiers is None:
            return await cluster.disconnect_sid(body.sid, reconnect=body.reconnect)
        if body.identifiers is None or body.sid is not None:
            raise QueryError("the body: expected either identifiers or sid")
        return await disconnect(body.identifiers, body.reconnect)

    async def show_health(request: RestRequest) -> ApiResponse:
        return ApiResponse(200, content=msgspec.json.encode(Health(list(health()))))

    return [
        Operation(
            name="publish",
            method="POST",
            path="/publish",
            summary="Publish messages",
            text="The body is one publication, or a list of them.",
            app=publish,
            body=PublicationBody | list[PublicationBody],
            status=201,
            errors={503: _BROKER_AWAY},
            refuses_methods=422,
        ),
        Operation(
            name="listConnections",
            method="GET",
            path="/connections",
            summary="Search connections",
            text="In no particular order, which does not change while clients come and go. A page may be shorter than its"
            " limit, even empty: only `next` says whether there are more.",
            handler=cluster.sessions,
            query=SessionsQuery,
            answer=Sessions,
        ),
        Operation(
            name="countConnections",
            method="GET",
            path="/connections/count",
            summary="Count connections",
            handler=cluster.count,
            query=CountQuery,
            answer=Count,
        ),
        Operation(
            name="showConnection",
            method="GET",
            path="/connections/{sid}",
            summary="Show a connection and its subscriptions",
            handler=cluster.session,
            answer=SessionDetails,
            errors={404: _NO_CONNECTION, 503: _NO_NODE},
        ),
        Operation(
            name="disconnectConnection",
            method="DELETE",
            path="/connections/{sid}",
            summary="Disconnect a client",
            handler=cluster.disconnect,
            query=DisconnectQuery,
            answer=Disconnected,
            errors={404: _NO_CONNECTION, 503: _NO_NODE},
        ),
        *(
            Operation(
                name=name,
                method=method,
                path="/connections/{sid}/subscriptions",
                summary=summary,
                text=text,
                handler=handler,
                body=Subscribing,
                answer=Subscribed,
                errors={
                    404: _NO_CONNECTION,
                    409: "the application or a limit rejected it",
                    503: "too many commands of the client wait; or: " + _NO_NODE,
                    504: "the application has not decided yet",
                },
            )
            for name, method, summary, text, handler in (
                (
                    "subscribe",
                    "POST",
                    "Subscribe a client",
                    "As if it had sent the command: the application decides, and the client gets the confirmation.",
                    cluster.subscribe,
                ),
                (
                    "unsubscribe",
                    "DELETE",
                    "Unsubscribe a client",
                    "As if it had sent the command.",
                    cluster.unsubscribe,
                ),
            )
        ),
        Operation(
            name="disconnect",
            method="POST",
            path="/disconnect",
            summary="Disconnect clients by their identifiers or by a sid",
            text="By identifiers, the answer is 202: every node disconnects its clients, and those that would resume a session.",
            handler=disconnect_either,
            body=Disconnecting,
            answer=Disconnected,
            errors={202: "", 404: _NO_CONNECTION, 503: _BROKER_AWAY},
        ),
        Operation(
            name="listStreams",
            method="GET",
            path="/streams",
            summary="List the streams that have listeners",
            text="In the order of their names. `listeners` are subscriptions.",
            handler=cluster.streams,
            query=StreamsQuery,
            answer=Streams,
        ),
        Operation(
            name="listChannels",
            method="GET",
            path="/channels",
            summary="List the channels with the most subscriptions",
            handler=cluster.channels,
            query=ChannelsQuery,
            answer=Channels,
        ),
        Operation(
            name="listMembers",
            method="GET",
            path="/presence/{stream:path}/users",
            summary="List the members of a stream",
            handler=presence_of(reads),
            query=PresenceQuery,
            answer=Members,
            errors={501: _NO_BROKER, 503: _BROKER_AWAY},
            refuses_methods=422,
        ),
        Operation(
            name="readHistory",
            method="GET",
            path="/history/{stream:path}",
            summary="Read the history of a stream",
            text="Oldest message first, or newest first with `order=newest`.",
            handler=history_of(reads),
            query=HistoryQuery,
            answer=Messages,
            errors={
                410: "a part of the history is not kept any more",
                501: _NO_BROKER,
                503: _BROKER_AWAY,
            },
            refuses_methods=422,
        ),
        Operation(
            name="listNodes",
            method="GET",
            path="/nodes",
            summary="List the nodes and workers of the cluster",
            handler=cluster.nodes,
            answer=Nodes,
        ),
        Operation(
            name="showStats",
            method="GET",
            path="/stats",
            summary="Show the figures of all nodes",
            handler=cluster.stats,
            answer=AllStats,
        ),
        Operation(
            name="followEvents",
            method="GET",
            path="/events",
            summary="Follow what happens to clients and publications, on all nodes",
            text="An event stream (`text/event-stream`) that does not end. Each message is a JSON object.",
            app=events,
            query=EventsQuery,
            errors={503: "too many clients follow the events"},
        ),
        Operation(
            name="showHealth",
            method="GET",
            path="/health",
            summary="Show what this node depends on, and whether it works",
            handler=show_health,
            answer=Health,
        ),
    ]
