"""Clients that do not answer TLS's close_notify do not delay the shutdown."""

import contextlib
import ssl
import time
from pathlib import Path

from tests.parts.certificates import Authority
from tests.parts.ports import wait_until_listening
from tests.parts.raw_socket import RawSocket, upgrade
from tests.parts.server import OURS, CableServer


def test_a_client_that_does_not_answer_close_notify_is_cut_off(tmp_path: Path) -> None:
    """uvicorn waited for it for two thirds of the shutdown timeout."""
    authority = Authority()
    issued = authority.issue("localhost")
    (tmp_path / "tls").write_bytes(issued.certificate + issued.key)
    context = ssl.create_default_context(cadata=authority.pem.decode())
    flags = ("--public", "--norpc", "--broadcast_adapter=http", "--shutdown_timeout=60")
    files = (f"--ssl_cert={tmp_path / 'tls'}", f"--ssl_key={tmp_path / 'tls'}")
    with contextlib.closing(CableServer(OURS, (*flags, *files), {})) as server:
        wait_until_listening(server.port)
        with (
            RawSocket(server.port, tls=context) as client,
            RawSocket(server.port, tls=context) as idle,
        ):
            client.send(upgrade())
            client.opened()
            idle.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert idle.answer()[0] == 200
            began = time.monotonic()
            assert server.stop(40) == 0
            assert time.monotonic() - began < 20
        assert "ERROR" not in server.output()
