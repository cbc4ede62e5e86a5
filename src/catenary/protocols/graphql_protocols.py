"""The protocols of a GraphQL endpoint.

Knows: both protocols, and how a client that offers neither is refused. Does not know: options.
"""

from functools import partial
from typing import Final

from catenary.messages.commands import CloseConnection, DirectReply
from catenary.messages.reasons import Reason
from catenary.ports import Goodbye, Introduction
from catenary.protocols import graphql_transport_ws, graphql_ws
from catenary.protocols.graphql import NOT_ACCEPTABLE, SEPARATOR, GraphqlRules
from catenary.protocols.graphql_transport_ws import GraphqlTransportWs
from catenary.protocols.graphql_ws import GraphqlWs
from catenary.protocols.table import ClientProtocol, ProtocolSet

_NOT_ACCEPTABLE_TEXT: Final = "Subprotocol not acceptable"


class GraphqlUnsupported(GraphqlTransportWs):
    """For clients that offer neither protocol: closes the connection with 4406 at the first message, or when none arrives
    in time. Their handshake succeeds only so that they can receive this close code."""

    __slots__ = ()

    def introduce(self, payload: bytes) -> Introduction | tuple[DirectReply | CloseConnection, ...]:
        return (CloseConnection(NOT_ACCEPTABLE, _NOT_ACCEPTABLE_TEXT),)

    def goodbye(self, reason: Reason) -> Goodbye:
        if reason is Reason.IDLE_TIMEOUT:
            return Goodbye(reason, NOT_ACCEPTABLE, _NOT_ACCEPTABLE_TEXT)
        return super().goodbye(reason)


def graphql_protocols(rules: GraphqlRules) -> ProtocolSet:
    """Both protocols, the preferred one first; a client that offers neither gets 4406."""
    newer = ClientProtocol(
        name=graphql_transport_ws.SUBPROTOCOL,
        subprotocols=(graphql_transport_ws.SUBPROTOCOL,),
        codec=partial(GraphqlTransportWs, rules),
        has_state=True,
        answers_pings=True,
        separator=SEPARATOR,
    )
    older = ClientProtocol(
        name=graphql_ws.SUBPROTOCOL,
        subprotocols=(graphql_ws.SUBPROTOCOL,),
        codec=partial(GraphqlWs, rules),
        has_state=True,
        separator=SEPARATOR,
    )
    neither = ClientProtocol(
        name="graphql",
        subprotocols=(),
        codec=partial(GraphqlUnsupported, rules),
        has_state=True,
    )
    return ProtocolSet((newer, older), fallback=neither)
