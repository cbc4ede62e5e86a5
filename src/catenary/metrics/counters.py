"""The figures of one node, as plain integers.

Names are those of anycable-go (docs/instrumentation.md), so that dashboards keep working; the last
group is our own. ``_total`` only grows, the others go up and down.
Knows: numbers. Does not know: who shows them.
"""

from dataclasses import dataclass, field, fields
from typing import Final

HELP: Final = "help"


def _figure(text: str) -> int:
    figure: int = field(default=0, metadata={HELP: text})
    return figure


@dataclass(slots=True)
class Counters:
    """Every counter and gauge that the rooms move; read at any time, by anybody."""

    # Clients
    open_connections_num: int = _figure("Client connections of every transport, let in or not")
    clients_num: int = _figure("Clients that were let in")
    sse_clients_num: int = _figure("Clients with an open event stream")
    failed_auths_total: int = _figure("Clients that were not let in")
    client_msg_total: int = _figure("Messages from clients")
    failed_client_msg_total: int = _figure("Messages from clients that could not be carried out")
    server_msg_total: int = _figure("Messages to clients")
    data_rcvd_total: int = _figure("Bytes from clients")
    data_sent_total: int = _figure("Bytes to clients")
    disconnected_slow_clients_total: int = _figure(
        "Clients that were closed because they read too slowly"
    )

    # Publications
    publications_total: int = _figure("Publications from the application")
    broadcast_msg_total: int = _figure("Publications for clients of this node, from whichever node")
    failed_broadcast_msg_total: int = _figure("What publishers sent and could not be read")
    remote_commands_total: int = _figure("Remote commands, from whichever node")

    # The application
    rpc_call_total: int = _figure("Calls to the application")
    rpc_error_total: int = _figure("Calls that ended without an answer")
    rpc_retries_total: int = _figure("Attempts of calls beyond the first")
    rpc_timeout_total: int = _figure("Calls that took too long")
    rpc_canceled_total: int = _figure("Calls whose client had left")
    rpc_pending_num: int = _figure("Calls that wait for their turn")
    disconnect_queue_size: int = _figure("Disconnect calls that wait")

    # The application in processes beside this one
    app_workers_num: int = _figure("Code workers that take calls")
    app_calls_num: int = _figure("Calls under way in code workers")
    app_reloads_total: int = _figure("Times new code took over")
    app_failed_reloads_total: int = _figure("Times new code could not be started")
    app_worker_deaths_total: int = _figure("Code workers that died by themselves")

    # Our own
    refused_connections_total: int = _figure(
        "Requests refused with 503: beyond a limit, or at a shutdown"
    )
    failed_handshakes_total: int = _figure(
        "Connections that asked for nothing that could be understood"
    )
    oversized_heads_total: int = _figure("Requests whose head was too long or had too many headers")
    late_handshakes_total: int = _figure("Connections that were not served in time")
    pending_requests_bytes: int = _figure(
        "Bytes that requests which are not complete hold in memory"
    )
    refused_requests_total: int = _figure(
        "Incomplete requests refused because all of them together held too much memory"
    )
    held_handshakes_total: int = _figure("Handshakes that had to wait for their turn")
    late_messages_total: int = _figure("Clients that were closed in the middle of a message")
    slowed_clients_total: int = _figure("Times a client was not read because it said too much")
    long_identifiers_total: int = _figure("Subscriptions refused because of a long identifier")
    refused_subscriptions_total: int = _figure("Subscriptions beyond what a client may have")
    refused_answers_total: int = _figure(
        "Answers of the application that held more than a client may have"
    )
    dead_connections_total: int = _figure("WebSocket connections that TCP found dead")
    held_clients_total: int = _figure("Times a client was not read because its commands waited")
    replay_overflows_total: int = _figure(
        "Times more was published than is buffered for a client that reads the history"
    )
    held_publishers_total: int = _figure("Times a publisher had to wait for deliveries")
    abandoned_disconnects_total: int = _figure(
        "Disconnect calls given up: at a shutdown, or because too many waited"
    )
    broadcaster_reconnects_total: int = _figure("Times a broadcast adapter lost its connection")
    lost_publications_total: int = _figure(
        "Publications that were heard and could not be handed on"
    )
    refused_publications_total: int = _figure(
        "What publishers sent and Redis or NATS refused for good, such as a message over max_payload"
    )
    embedded_nats_restarts_total: int = _figure("Times the embedded NATS server was started again")
    redisx_lag_num: int = _figure("Publications that wait in the Redis stream")
    redisx_claimed_total: int = _figure(
        "Publications taken over from nodes that did not finish them"
    )
    redisx_retries_total: int = _figure("Publications from the Redis stream tried again")

    refused_sessions_total: int = _figure(
        "Sessions that Redis or NATS refused for good, so that nobody can resume them"
    )

    # Between nodes
    pubsub_reconnects_total: int = _figure("Times the way between nodes was lost")
    pubsub_canary_lost_total: int = _figure("Messages to itself that did not come back")
    pubsub_caught_up_total: int = _figure("Times a stream was caught up from its history")
    pubsub_gaps_total: int = _figure("Times something was missing on a stream for good")
    pubsub_refused_total: int = _figure("Calls refused because too many waited for Redis")

    # This process, as of a moment ago
    service_failures_total: int = _figure(
        "Times a task that lives as long as the server has failed and was restarted"
    )
    event_loop_lag_ms: int = _figure(
        "The latest that the event loop was in the last seconds, in ms"
    )


def described() -> tuple[tuple[str, str], ...]:
    """The name of every figure, and what it says."""
    return tuple((each.name, each.metadata[HELP]) for each in fields(Counters))
