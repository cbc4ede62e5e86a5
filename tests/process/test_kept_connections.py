"""A server that is about to stop asks the clients of kept connections to send their next requests elsewhere."""

import signal

from tests.parts.raw_socket import RawSocket
from tests.parts.server import cable_server
from tests.process.test_handover import PUBLICATION

FLAGS = ("--public", "--norpc", "--broadcast_adapter=http", "--ds", "--ds_write", "--broker=memory")


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def test_responses_after_the_signal_close_their_connections() -> None:
    with cable_server(*FLAGS, "--shutdown_delay=100") as server:
        write = b"PUT /ds/s HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        requests = (
            (server.broadcast_port, PUBLICATION),
            (server.broadcast_port, PUBLICATION.replace(b"Host", b"Origin: http://x\r\nHost")),
            (server.port, get("/health")),
            (server.port, write),
            (server.port, get("/ds/s?offset=-1")),
        )
        callers = [RawSocket(port) for port, _ in requests]
        for closes in (False, True):
            if closes:
                server.process.send_signal(signal.SIGTERM)
                server.wait_for_output("SIGTERM: shutting down")
            for caller, (_, request) in zip(callers, requests, strict=True):
                caller.send(request)
                status, headers, _ = caller.answer()
                assert status < 300, (request, status)
                assert (headers.get("connection") == "close") == closes, request
        for caller in callers:
            assert caller.wait_for_end() == b""
            caller.socket.close()
        assert server.stop() == 0  # a second signal
