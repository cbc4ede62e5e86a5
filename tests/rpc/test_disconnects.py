"""Disconnect calls while the application is away: made once each when it is back."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from tests.parts.application import Refusal, TestApplication
from tests.parts.cable_client import CableClient, identifier
from tests.parts.grpc_app import GrpcServer
from tests.parts.http_app import HttpServer
from tests.parts.ports import free_port, wait_until_listening
from tests.parts.server import CableServer, cable_server

ECHO = identifier("EchoChannel")
SILENT = identifier("EchoChannel", number=2)


class Away(Protocol):
    """An application that can be started and stopped."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


class World:
    """A server, its application, and clients that leave one after the other."""

    def __init__(self, application: TestApplication, app: Away, server: CableServer) -> None:
        self.application = application
        self.app = app
        self.server = server
        self.clients: list[CableClient] = []
        self._connected = 0

    def connect(self, number: int) -> None:
        for _ in range(number):
            sid = f"s{self._connected}"
            self._connected += 1
            client = CableClient(self.server.cable_url, headers={"X-Request-ID": sid})
            client.receive_welcome()
            client.subscribe(ECHO)
            self.clients.append(client)

    def leave(self, number: int) -> None:
        for _ in range(number):
            self.clients.pop().close()

    def wait_for_ends(self, number: int) -> None:
        """Returns when so many Disconnect calls were made and answered: one that is cut off is made twice."""
        self.application.wait_for(lambda: len(self.ended) == number)
        self.clients[0].subscribe(SILENT)  # the application answers this after them

    @property
    def ended(self) -> Counter[str]:
        return Counter(call.metadata["sid"] for call in self.application.calls_of("disconnect"))


Serve = Callable[[TestApplication], tuple[Away, str]]


def by_grpc(application: TestApplication) -> tuple[Away, str]:
    server = GrpcServer(application)
    return server, server.address


def by_http(application: TestApplication) -> tuple[Away, str]:
    server = HttpServer(application)
    return server, server.url


@contextmanager
def world(serve: Serve, *flags: str) -> Iterator[World]:
    application = TestApplication()
    app, host = serve(application)
    app.start()
    with ExitStack() as stack:
        stack.callback(app.stop)
        server = stack.enter_context(
            cable_server(
                *(f"--rpc_host={host}", "--rpc_command_timeout=1000", "--broadcast_adapter=http"),
                *flags,
            )
        )
        yield World(application, app, server)


@pytest.mark.parametrize("serve", [by_grpc, by_http])
def test_disconnect_calls_are_made_once_the_application_is_back(serve: Serve) -> None:
    with world(serve) as here:
        here.connect(60)
        here.leave(20)
        here.wait_for_ends(20)
        here.app.stop()
        here.leave(20)
        here.server.wait_for_output("Disconnect calls wait for the application")
        time.sleep(1.2)  # longer than a call is repeated for
        here.leave(20)
        here.app.start()
        here.application.wait_for(lambda: len(here.ended) == 60)
        here.server.wait_for_output("Disconnect calls continue")
        assert here.ended == {f"s{number}": 1 for number in range(60)}
        output = here.server.output()
        assert output.count("Disconnect calls wait for the application") == 1
        assert "Disconnect call failed" not in output


def test_an_application_behind_a_proxy_that_says_it_is_away(tmp_path: Path) -> None:
    with world(by_http) as here:
        here.connect(3)
        here.application.prepared.extend(Refusal(status) for status in (502, 503, 504, 429))
        here.leave(3)
        here.application.wait_for(lambda: len(here.application.calls_of("disconnect")) == 7)
        here.server.wait_for_output("Disconnect calls continue")
        assert sum(here.ended.values()) == 7
        assert len(here.ended) == 3


def test_one_that_is_refused_for_good_is_not_repeated() -> None:
    with world(by_grpc) as here:
        here.connect(3)
        statuses = ("UNIMPLEMENTED", "INVALID_ARGUMENT", "UNAUTHENTICATED")
        here.application.prepared.extend(map(Refusal, statuses))
        here.leave(3)
        here.server.wait_for_output("Disconnect call failed", times=3)
        here.connect(1)
        here.leave(1)
        here.application.wait_for(lambda: len(here.ended) == 4)
        assert set(here.ended.values()) == {1}


def test_a_server_that_ends_logs_the_disconnect_calls_that_were_not_made() -> None:
    with world(by_grpc, "--shutdown_timeout=20") as here:
        here.connect(5)
        here.app.stop()
        here.leave(5)
        here.server.wait_for_output("Disconnect calls wait for the application")
        began = time.monotonic()
        here.server.stop()
        assert time.monotonic() - began < 10
        output = here.server.output()
        assert "5 Disconnect calls were not made: the application is away" in output


def test_disconnect_calls_are_made_once_after_the_application_was_stopped(tmp_path: Path) -> None:
    """Its process is stopped for longer than a command may take; nothing is refused meanwhile."""
    port, file = free_port(), tmp_path / "ended"
    command = [sys.executable, "-m", "tests.parts.grpc_app", str(port), f"--ended={file}"]
    app = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_until_listening(port)
        with cable_server(
            f"--rpc_host=127.0.0.1:{port}", "--rpc_command_timeout=1000", "--broadcast_adapter=http"
        ) as server:
            clients = []
            for number in range(60):
                client = CableClient(server.cable_url, headers={"X-Request-ID": f"s{number}"})
                client.receive_welcome()
                clients.append(client)
            app.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, app.pid, os.WSTOPPED)
            for client in clients:
                client.close()
            time.sleep(3)
            app.send_signal(signal.SIGCONT)
            deadline = time.monotonic() + 15
            while not file.exists() or len(file.read_text().split()) < 60:
                assert time.monotonic() < deadline, file.read_text()
                time.sleep(0.02)
            assert Counter(file.read_text().split()) == {f"s{number}": 1 for number in range(60)}
            assert "Disconnect call failed" not in server.output()
    finally:
        app.send_signal(signal.SIGCONT)
        app.kill()
        app.wait()
