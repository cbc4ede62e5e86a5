"""The endpoint of WebSockets: checks an upgrade, negotiates the protocol and compression.

Knows: RFC 6455 handshakes, protocols, admission. Does not know: sockets, frames.
"""

from catenary.edge.admission import Admission
from catenary.edge.connection import ClientConnection
from catenary.edge.request import Peer
from catenary.node.encoder import Encoders
from catenary.protocols.table import ProtocolSet
from catenary.transports.websocket import Acceptance, WebSocketConnection, WebSocketServices
from catenary.wire import deflate, handshake
from catenary.wire.framing import websocket_framing
from catenary.wire.http1 import RequestHead


class WebSocketEndpoint:
    """Satisfies :class:`catenary.edge.routes.Endpoint`."""

    __slots__ = ("_admission", "_compresses", "_encoders", "_protocols", "_services")

    def __init__(
        self,
        services: WebSocketServices,
        admission: Admission,
        protocols: ProtocolSet,
        encoders: Encoders,
        *,
        compresses: bool = False,
    ) -> None:
        self._services = services
        self._admission = admission
        self._protocols = protocols
        self._encoders = encoders
        self._compresses = compresses

    def open(
        self, request: RequestHead, peer: Peer, connection: ClientConnection
    ) -> WebSocketConnection:
        acceptance = self.accept(request, peer)
        return WebSocketConnection(self._services, connection.transport, acceptance)

    def accept(self, request: RequestHead, peer: Peer) -> Acceptance:
        """Checks a handshake and prepares the response. Raises :class:`catenary.errors.RequestRefused`."""
        accept = handshake.check_upgrade(request)
        protocol, subprotocol = self._protocols.choose(handshake.offered_subprotocols(request))
        admitted = self._admission.admit(request, peer, protocol)
        agreed = deflate.agree(handshake.offered_extensions(request)) if self._compresses else None
        framing = websocket_framing(
            is_binary=protocol.is_binary, window_bits=0 if agreed is None else agreed.window_bits
        )
        extensions = () if agreed is None else (("Sec-WebSocket-Extensions", agreed.header),)
        return Acceptance(
            admitted.environment,
            self._encoders.encoder(protocol, framing),
            admitted.traits,
            handshake.switching(accept, subprotocol, extensions),
            None if agreed is None else deflate.inflated,
        )
