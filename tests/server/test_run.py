"""The start of a server."""

from tests.api.test_broadcast import cpu_s
from tests.parts.raw_socket import RawSocket
from tests.parts.server import cable_server


def test_a_client_is_served_after_less_than_a_second_of_cpu() -> None:
    """CPU, not time: a busy machine must not fail this."""
    with cable_server("--public", "--norpc", "--broadcast_adapter=http") as server:
        with RawSocket(server.port) as client:
            client.open()
        assert cpu_s(server) < 1
