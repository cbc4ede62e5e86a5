"""The endpoint of charging stations: a WebSocket whose path ends with the id of the station.

Source: OCPP-J 1.6, section 3. Knows: paths of stations, their protocols. Does not know: sockets, messages.
"""

from typing import Final
from urllib.parse import unquote

from catenary.edge.admission import Admission
from catenary.edge.connection import ClientConnection, Stage
from catenary.edge.refusals import Refusals
from catenary.edge.request import Peer, requester_of
from catenary.errors import RequestRefused
from catenary.messages.environment import Requester
from catenary.node.encoder import Encoders
from catenary.protocols import ocpp
from catenary.transports.unspoken_websocket import UnspokenWebSocket
from catenary.transports.websocket import WebSocketServices
from catenary.transports.websocket_endpoint import WebSocketEndpoint
from catenary.wire import handshake
from catenary.wire.frames import PROTOCOL_ERROR
from catenary.wire.http1 import RequestHead


class OcppEndpoint:
    """Satisfies :class:`catenary.edge.routes.Endpoint`."""

    __slots__ = ("_admission", "_compresses", "_encoders", "_refusals", "_rules", "_services")

    def __init__(
        self,
        services: WebSocketServices,
        admission: Admission,
        rules: ocpp.Rules,
        encoders: Encoders,
        refusals: Refusals,
        *,
        compresses: bool = False,
    ) -> None:
        self._services = services
        self._admission = admission
        self._rules = rules
        self._encoders = encoders
        self._refusals = refusals
        self._compresses = compresses

    def open(self, request: RequestHead, peer: Peer, connection: ClientConnection) -> Stage:
        accept = handshake.check_upgrade(request)
        protocols = ocpp.protocols(self._rules, station_id(request.path))
        try:
            protocols.choose(handshake.offered_subprotocols(request))
        except RequestRefused as refused:
            return self._unspoken(connection, accept, refused, requester_of(request, peer))
        endpoint = WebSocketEndpoint(
            self._services,
            self._admission,
            protocols,
            self._encoders,
            compresses=self._compresses,
        )
        return endpoint.open(request, peer, connection)

    def _unspoken(
        self,
        connection: ClientConnection,
        accept: str,
        refused: RequestRefused,
        requester: Requester,
    ) -> UnspokenWebSocket:
        """Section 3.2: the handshake is completed without a subprotocol, and the connection closed."""
        self._refusals.note(refused, requester)
        return UnspokenWebSocket(
            connection.transport,
            handshake.switching(accept, None),
            PROTOCOL_ERROR,
            str(refused),
            self._services.limits,
        )


def station_id(path: str) -> str:
    """The id of a station: the last segment of its path, decoded. Raises :class:`RequestRefused` with 400."""
    segment = path.rpartition("/")[2]
    try:
        name = unquote(segment, errors="strict")
    except UnicodeDecodeError:
        name = ""
    if not name or not name.isprintable():
        raise RequestRefused(400, "expected the id of a station at the end of the path, in UTF-8")
    return name


SEGMENT: Final = "{station_id:[^/]+}"
"""The last segment of a path of the route table."""
