"""The protocols of a GraphQL endpoint.

Knows: both protocols, and what a client gets that offers neither. Does not know: options.
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
    """Closes the connection when the client sends something, and when it sends nothing: its handshake succeeds only for this
    close code."""

    __slots__ = ()

    def introduce(self, payload: bytes) -> Introduction | tuple[DirectReply | CloseConnection, ...]:
        return (CloseConnection(NOT_ACCEPTABLE, _NOT_ACCEPTABLE_TEXT),)

    def goodbye(self, reason: Reason) -> Goodbye:
        if reason is Reason.IDLE_TIMEOUT:
            return Goodbye(reason, NOT_ACCEPTABLE, _NOT_ACCEPTABLE_TEXT)
        return super().goodbye(reason)


def graphql_protocols(rules: GraphqlRules) -> ProtocolSet:
    """Of a client that offers both, the newer one."""
    newer = ClientProtocol(
        subprotocols=(graphql_transport_ws.SUBPROTOCOL,),
        codec=partial(GraphqlTransportWs, rules),
        has_state=True,
        answers_pings=True,
        separator=SEPARATOR,
    )
    older = ClientProtocol(
        subprotocols=(graphql_ws.SUBPROTOCOL,),
        codec=partial(GraphqlWs, rules),
        has_state=True,
        separator=SEPARATOR,
    )
    neither = ClientProtocol(
        subprotocols=(), codec=partial(GraphqlUnsupported, rules), has_state=True
    )
    return ProtocolSet((newer, older), fallback=neither)
