"""The start of a server."""

import os
import subprocess
import sys
from pathlib import Path

from tests.api.test_broadcast import cpu_s
from tests.parts.raw_socket import RawSocket
from tests.parts.server import cable_server


def test_a_client_is_served_after_less_than_a_second_of_cpu() -> None:
    """CPU, not time: a busy machine must not fail this."""
    with cable_server("--public", "--norpc", "--broadcast_adapter=http") as server:
        with RawSocket(server.port) as client:
            client.open()
        assert cpu_s(server) < 1


BUSY_WITH_GRPC = """
import os, threading, grpc

channel = grpc.insecure_channel("127.0.0.1:1")
for _ in range(4):
    threading.Thread(target=lambda: [channel.unary_unary("/a/b")(b"", wait_for_ready=True)], daemon=True).start()
for _ in range(100):
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
raise SystemExit("all children have started")
"""


def test_grpc_calls_do_not_disturb_the_start_of_children(tmp_path: Path) -> None:
    (tmp_path / "busy.py").write_text(BUSY_WITH_GRPC)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GRPC")},
        "GRPC_VERBOSITY": "info",
        "PYTHONPATH": str(tmp_path),
    }
    ended = subprocess.run(
        [sys.executable, "-m", "catenary", "busy:cable"],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        timeout=30,
    )
    assert "all children have started" in ended.stderr
    assert "fork" not in ended.stderr, "gRPC's handlers of fork() ran"
