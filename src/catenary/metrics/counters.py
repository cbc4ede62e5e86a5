"""The counters and gauges of one node, as plain integers, and its histograms.

The names are anycable-go's (docs/instrumentation.md), so that dashboards keep working; those of the groups from "Not in
anycable-go" on are our own. Names that end in ``_total`` only grow, the others go up and down; those of histograms end in
the unit of their values.
Knows: numbers. Does not know: how they are exported.
"""

from dataclasses import dataclass, field, fields
from functools import partial
from typing import Final

from catenary.metrics.histogram import DURATIONS_S, POWERS_OF_TEN, Histogram, LabelledHistograms

HELP: Final = "help"


def _figure(text: str) -> int:
    figure: int = field(default=0, metadata={HELP: text})
    return figure


_durations: Final = partial(Histogram, DURATIONS_S)
_sizes: Final = partial(Histogram, POWERS_OF_TEN)
_calls: Final = partial(LabelledHistograms, ("method", "status"), DURATIONS_S)


@dataclass(slots=True)
class Counters:
    """Every counter, gauge and histogram that the rooms change, and its help text; readable at any time."""

    # Clients
    draining_clients_num: int = _figure("Clients that a shutdown still has to disconnect")
    open_connections_num: int = _figure(
        "Open client connections of all transports, authenticated or not"
    )
    clients_num: int = _figure("Authenticated clients")
    sse_clients_num: int = _figure("Clients with an open event stream")
    ds_requests_total: int = _figure("Requests that read durable streams")
    ds_poll_requests_total: int = _figure("Long polls of durable streams that had to wait")
    ds_sse_requests_total: int = _figure("Requests for event streams of durable streams")
    ds_poll_clients_num: int = _figure("Long polls of durable streams that wait")
    ds_sse_clients_num: int = _figure("Open event streams of durable streams")
    long_poll_clients_num: int = _figure("Long-polling clients with a session")
    long_poll_stale_requests_total: int = _figure(
        "Long-polling requests whose session had ended or never existed"
    )
    handshake_seconds: Histogram = field(
        default_factory=_durations,
        compare=False,
        metadata={
            HELP: "Time from a client's request until its welcome: the queue, the application, or resuming"
        },
    )
    expired_tokens_total: int = _figure("Clients disconnected because their token expired")
    failed_auths_total: int = _figure("Clients rejected by authentication")
    client_msg_total: int = _figure("Messages received from clients")
    failed_client_msg_total: int = _figure("Messages from clients that could not be executed")
    server_msg_total: int = _figure("Messages sent to clients")
    data_rcvd_total: int = _figure("Bytes received from clients")
    data_sent_total: int = _figure("Bytes sent to clients")
    disconnected_slow_clients_total: int = _figure("Clients closed because they read too slowly")
    slow_consumers_total: int = _figure(
        "Times a client fell behind on a stream with a policy for slow clients"
    )
    slow_dropped_messages_total: int = _figure(
        "Messages dropped for slow clients (drop_oldest; with catch_up, whispers)"
    )
    slow_conflated_messages_total: int = _figure(
        "Messages replaced by later ones for slow clients (keep_latest)"
    )
    slow_caught_up_messages_total: int = _figure(
        "Messages that slow clients got from the history (catch_up)"
    )
    slow_lost_histories_total: int = _figure(
        "Slow clients that missed messages because the history was too short (catch_up)"
    )

    # Publications
    publications_total: int = _figure("Publications received from publishers")
    broadcast_msg_total: int = _figure(
        "Publications handled for subscribers of this node, from any node"
    )
    failed_broadcast_msg_total: int = _figure("Malformed publications")
    delivery_seconds: Histogram = field(
        default_factory=_durations,
        compare=False,
        metadata={
            HELP: "Time from the arrival of a publication at this node until its frames were handed to the sockets"
            " of all its clients"
        },
    )
    delivery_clients: Histogram = field(
        default_factory=_sizes,
        compare=False,
        metadata={HELP: "Clients of this node that a publication was sent to"},
    )
    rate_limited_publications_total: int = _figure(
        "Publications and whispers refused because their stream had used up its rate (max_rate)"
    )
    remote_commands_total: int = _figure("Remote commands received, from any node")

    # The application
    rpc_seconds: LabelledHistograms = field(
        default_factory=_calls,
        compare=False,
        metadata={
            HELP: "Duration of calls to the application, retries included, by method and status"
        },
    )
    rpc_call_total: int = _figure("Calls to the application")
    rpc_error_total: int = _figure(
        "Calls that failed: without an answer, or with an error of gRPC or HTTP"
    )
    rpc_retries_total: int = _figure("Retried call attempts")
    rpc_timeout_total: int = _figure("Calls that timed out")
    rpc_exhausted_total: int = _figure(
        "Attempts that a busy application refused: ResourceExhausted; HTTP 429 and 503 while the concurrency is adaptive"
    )
    rpc_capacity_decreases_total: int = _figure("Times the adaptive concurrency was lowered")
    rpc_canceled_total: int = _figure("Calls canceled because their client had left")
    rpc_pending_num: int = _figure("Calls waiting for a slot")
    disconnect_queue_size: int = _figure("Disconnect calls waiting in the queue")

    # The application in code workers
    app_workers_num: int = _figure("Code workers that accept calls")
    app_calls_num: int = _figure("Calls in progress in code workers")
    app_reloads_total: int = _figure("Successful reloads of application code")
    app_failed_reloads_total: int = _figure(
        "Reloads that failed because the new code could not be started"
    )
    app_worker_deaths_total: int = _figure("Code workers that died unexpectedly")

    # Not in anycable-go
    refused_connections_total: int = _figure(
        "Requests refused with 503, because of a limit or a shutdown"
    )
    limited_connections_total: int = _figure(
        "Handshakes refused with 429, because their address connects too often or has too many connections"
    )
    limited_users_total: int = _figure(
        "Clients disconnected because others with the same connection identifiers were too many"
    )
    limited_clients_total: int = _figure("Clients disconnected because they sent commands too fast")
    refused_api_requests_total: int = _figure(
        "Requests of publishers, to the APIs, the console and pages refused: without the key, with an invalid signature,"
        " malformed"
    )
    failed_handshakes_total: int = _figure(
        "Refused handshakes: malformed, of another origin, or beyond a limit (refused_connections_total)"
    )
    oversized_heads_total: int = _figure(
        "Requests refused because their head was too long or had too many headers"
    )
    malformed_forwarding_total: int = _figure(
        "Requests of trusted proxies that name a client without a valid address"
    )
    refused_proxy_headers_total: int = _figure(
        "Connections of trusted proxies closed because they did not begin with a valid PROXY protocol header"
    )
    late_handshakes_total: int = _figure("Connections closed because they were not served in time")
    pending_requests_bytes: int = _figure("Memory held by incomplete requests, in bytes")
    refused_requests_total: int = _figure(
        "Incomplete requests refused because all of them together exceeded the memory limit"
    )
    held_handshakes_total: int = _figure("Handshakes that had to wait in the queue")
    late_introductions_total: int = _figure(
        "Clients closed because they did not introduce themselves in time"
    )
    ocpp_refused_commands_total: int = _figure(
        "Commands for charging stations dropped because too many waited for an answer"
    )
    late_messages_total: int = _figure("Clients closed because a message was not completed in time")
    slowed_clients_total: int = _figure(
        "Times a client was not read because it exceeded the message rate"
    )
    long_identifiers_total: int = _figure("Subscriptions rejected because of a long identifier")
    refused_subscriptions_total: int = _figure(
        "Subscriptions rejected because a client had too many"
    )
    refused_answers_total: int = _figure(
        "Answers of the application refused because they exceeded a limit per client"
    )
    dead_connections_total: int = _figure(
        "WebSocket connections closed because TCP got no response"
    )
    held_clients_total: int = _figure(
        "Times a client was not read because its commands were waiting"
    )
    long_poll_relayed_total: int = _figure("Long-polling requests relayed to another node")
    long_poll_overflows_total: int = _figure(
        "Long-polling sessions closed because too much waited for their next request"
    )
    replay_overflows_total: int = _figure(
        "Times the buffer of a client that reads the history or the members overflowed"
    )
    console_refused_logins_total: int = _figure(
        "Logins to the console that were refused: wrong keys, and attempts before the wait after them was over"
    )
    held_publishers_total: int = _figure("Times a publisher had to wait for deliveries")
    abandoned_disconnects_total: int = _figure(
        "Disconnect calls dropped, at a shutdown or because the queue was full"
    )
    broadcaster_reconnects_total: int = _figure("Times a broadcast adapter lost its connection")
    lost_publications_total: int = _figure(
        "Publications received and lost, because they could not be sent on"
    )
    refused_publications_total: int = _figure(
        "Publications that Redis or NATS refused for good, such as a message over max_payload"
    )
    embedded_nats_restarts_total: int = _figure("Restarts of the embedded NATS server")
    redisx_lag_num: int = _figure("Publications waiting in the Redis stream")
    redisx_claimed_total: int = _figure(
        "Redis stream entries taken over from nodes that did not finish them"
    )
    redisx_retries_total: int = _figure("Redis stream entries published again after a failure")

    refused_sessions_total: int = _figure(
        "Sessions that Redis or NATS refused to store, so that they can't be resumed"
    )

    # Webhooks
    webhook_queue_size: int = _figure("Events waiting to be sent by webhooks")
    webhook_events_total: int = _figure("Events that an application received by webhooks")
    webhook_retries_total: int = _figure("Webhook requests repeated after a failure")
    webhook_lost_total: int = _figure(
        "Events lost, because a queue was full or the receiver failed for too long"
    )

    # Pusher
    pusher_refused_subscriptions_total: int = _figure(
        "Subscriptions of Pusher clients refused, because of a signature, a name or a limit"
    )
    pusher_refused_client_events_total: int = _figure(
        "Events of Pusher clients refused, because of a limit or where they are not allowed"
    )

    # Between nodes
    pubsub_reconnects_total: int = _figure("Times the pub/sub connection between nodes was lost")
    pubsub_canary_lost_total: int = _figure(
        "Messages that this node sent to itself and did not receive"
    )
    pubsub_canary_seconds: Histogram = field(
        default_factory=_durations,
        compare=False,
        metadata={
            HELP: "Time that a message of this node to itself took through Redis or NATS, every 3 s"
        },
    )
    pubsub_caught_up_total: int = _figure(
        "Times missing messages of a stream were read from its history"
    )
    pubsub_gaps_total: int = _figure("Times a message of a stream was missing for good")
    pubsub_refused_total: int = _figure("Commands refused because too many were waiting for Redis")
    cluster_questions_total: int = _figure("Questions of this node to other nodes")
    cluster_unanswered_total: int = _figure("Questions to nodes that were not answered in time")
    cluster_refused_nodes_total: int = _figure(
        "Announcements of nodes beyond the limit of the directory"
    )
    cluster_refused_questions_total: int = _figure(
        "Questions between nodes refused, because too many or too large answers were waiting"
    )

    # StatsD
    statsd_lost_lines_total: int = _figure(
        "Lines that StatsD did not get, because they were too long, refused or could not be sent"
    )
    live_events_refused_total: int = _figure(
        "Readers of live events refused, because there were too many"
    )
    live_events_dropped_total: int = _figure(
        "Live events dropped, because a reader was too slow; the reader is notified of the number"
    )

    # This process
    service_failures_total: int = _figure("Times a long-lived task failed and was restarted")
    event_loop_lag_ms: int = _figure("Worst event-loop lag over the last 5 s, in ms")
    event_loop_lag_seconds: Histogram = field(
        default_factory=_durations,
        compare=False,
        metadata={HELP: "Event-loop lag, measured four times a second: how late timers run"},
    )


def described() -> tuple[tuple[str, str], ...]:
    """The name and the help text of every figure, histograms included."""
    return tuple((each.name, each.metadata[HELP]) for each in fields(Counters))
