"""Assembles the REST API.

Knows: options, the node, the cluster, ``api/``. Does not know: what operations do.
"""

from typing import Any

import msgspec
from starlette.routing import Route

from catenary import __version__
from catenary.api.access import Access, ApiResponse
from catenary.api.broadcast import BroadcastEndpoint, BroadcastRules
from catenary.api.cluster_answers import answer_questions
from catenary.api.cluster_reads import ClusterReads, Disconnected
from catenary.api.openapi import document
from catenary.api.operations import operations
from catenary.api.rest import METHODS, Operation, RestApi, RestRequest
from catenary.auth.keys import API_PHRASE, BearerKey
from catenary.config.effective import serves_api
from catenary.errors import BackendError, BackendRefused
from catenary.node.administration import Administration
from catenary.node.cluster import Cluster
from catenary.node.listing import Listing
from catenary.node.node import Node
from catenary.node.reads import Reads
from catenary.server import replaced_values
from catenary.server.build import ServerBuild
from catenary.server.client_endpoints import ClientEndpoints
from catenary.server.http_routes import ANY_TEXT, announce, api_address
from catenary.server.live_events import build_live_events
from catenary.server.ports import Ports


class RestServices:
    """The parts that the operations need; :meth:`routes` may be called for several paths, each with its own access."""

    __slots__ = ("_build", "_clients", "_cluster", "_live", "_node", "_reads")

    def __init__(
        self,
        build: ServerBuild,
        node: Node,
        reads: Reads,
        clients: ClientEndpoints,
        cluster: Cluster,
    ) -> None:
        """Registers what this node answers to the others. Called once."""
        self._build = build
        self._node = node
        self._reads = reads
        self._clients = clients
        self._cluster = ClusterReads(cluster)
        self._live = build_live_events(build, cluster, clients.hub)
        listing = Listing(cluster.own.id, clients.hub, clients.turns)
        answer_questions(cluster, listing, Administration(node, clients.hub), build.figures)

    def routes(self, base: str, access: Access, url: str = "") -> list[Route]:
        """The routes of all operations below ``base``, a path of the application that they are added to. ``url`` is the path
        for clients, if that is another one."""
        publish, counters = self._node.publications.publish_in_turns, self._build.counters
        broadcasts = BroadcastRules(
            publish,
            counters,
            key=access.key,
            pages=access.pages,
            is_traced=self._build.tracer is not None,
            limit=self._clients.publish_limit,
        )
        table = operations(
            self._cluster,
            self._reads,
            publish=BroadcastEndpoint(broadcasts, self._clients.memory),
            events=self._live.endpoint(access),
            disconnect=self._disconnect,
            health=self._build.health,
        )
        table.append(_described(table, url or base))
        api = RestApi(table, access, self._clients.memory, base)
        return [Route(base + path, api) for path in dict.fromkeys(map(_route, table))]

    async def _disconnect(self, identifiers: str, reconnect: bool) -> ApiResponse:
        """Sends a remote disconnect to all nodes, as a publisher may."""
        payload = {"identifier": identifiers, "reconnect": reconnect}
        command = {"command": "disconnect", "payload": payload}
        try:
            sent = self._node.publications.publish(msgspec.json.encode(command))
            if sent is not None:
                await sent
        except BackendRefused as error:
            return ApiResponse(422, str(error))
        except BackendError as error:
            return ApiResponse(503, f"not sent, try again: {error}")
        return ApiResponse(202, content=msgspec.json.encode(Disconnected(None)))


def add_api(build: ServerBuild, ports: Ports, services: RestServices) -> None:
    """Serves the API at its port, for clients with its key."""
    if not serves_api(build.options):
        return
    api = build.options.api
    announce(build, api.port, "API", "http", api.path or "/", host=api.host)
    key = BearerKey("")
    if not replaced_values.add_key(build, lambda found: found.api, API_PHRASE, key):
        build.announcements.append("The API requires no key")
    pages = None
    if api.cors_headers:
        pages = replaced_values.origins(build, lambda options: options.api.cors_hosts)
    access = Access(METHODS, key=key, pages=pages)
    ports.at(api_address(build.options)).routes += services.routes(api.path, access)


def _described(table: list[Operation], url: str) -> Operation:
    """The operation that returns the document of all, itself included."""
    written = b""

    async def show(request: RestRequest) -> ApiResponse:
        nonlocal written
        # When it is asked for: that takes 20 ms of a start.
        written = written or document([*table, described], __version__, url or "/")
        return ApiResponse(200, content=written)

    described = Operation(
        name="describe",
        method="GET",
        path="/openapi.json",
        summary="Show this document",
        handler=show,
        answer=dict[str, Any],
    )
    return described


def _route(operation: Operation) -> str:
    """The path of an operation for Starlette, which tells apart only what the API serves: the API reads the path itself."""
    segments = operation.path.split("/")
    return "/".join(
        f"{{{each.strip('{}').removesuffix(':path')}:{ANY_TEXT}}}" if each.startswith("{") else each
        for each in segments
    )
