"""The figures of one node, as plain integers.

Names are those of anycable-go (docs/instrumentation.md), so that dashboards keep working; the last
group is our own. ``_total`` only grows, the others go up and down.
Knows: numbers. Does not know: who shows them.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Every counter and gauge that the rooms move; read at any time, by anybody."""

    # Clients
    open_cables_num: int = 0
    clients_num: int = 0
    failed_auths_total: int = 0
    client_msg_total: int = 0
    failed_client_msg_total: int = 0
    server_msg_total: int = 0
    data_rcvd_total: int = 0
    data_sent_total: int = 0
    disconnected_slow_clients_total: int = 0

    # Publications
    publications_total: int = 0
    broadcast_msg_total: int = 0
    failed_broadcast_msg_total: int = 0
    remote_commands_total: int = 0

    # The application
    rpc_call_total: int = 0
    rpc_error_total: int = 0
    rpc_retries_total: int = 0
    rpc_timeout_total: int = 0
    rpc_canceled_total: int = 0
    rpc_pending_num: int = 0
    disconnect_queue_size: int = 0

    # Our own
    refused_connections_total: int = 0
    failed_handshakes_total: int = 0
    held_clients_total: int = 0
    held_publishers_total: int = 0
    abandoned_disconnects_total: int = 0
    broadcaster_reconnects_total: int = 0
