"""Charging stations of PyPI's ocpp, and the application of examples/charging_stations: in the server's process, in a code
worker, and behind gRPC."""

import asyncio
import json
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

import pytest
from ocpp.exceptions import InternalError, SecurityError
from ocpp.v16 import call as call16
from ocpp.v201 import call as call201

from tests.parts.charge_point import TIMEOUT_S, Station201, basic, end_of, station
from tests.parts.heart import in_loop
from tests.parts.ports import free_port, wait_until_listening
from tests.parts.raw_socket import masked, upgrade
from tests.parts.redis import redis_server
from tests.parts.server import OURS, CableServer, cable_server
from tests.parts.tcp_relay import tcp_relay
from tests.server.test_figures import scrape

EXAMPLE = Path(__file__).parents[2] / "examples" / "charging_stations"
FLAGS = ("--ocpp_path=/ocpp", "--broadcast_adapter=http", "--ocpp_heartbeat_interval=7")
CS1, CS2 = ("cs-1", "first-secret"), ("cs-2", "second-secret")
BOOT = call16.BootNotification(charge_point_model="M", charge_point_vendor="V")


class Central(NamedTuple):
    """A server, and what its application prints."""

    server: CableServer
    printed: Callable[[], str]

    @property
    def port(self) -> int:
        return self.server.port

    def wait_for(self, text: str, timeout_s: float = 10) -> None:
        deadline = time.monotonic() + timeout_s
        while text not in self.printed():
            assert time.monotonic() < deadline, f"no {text!r} in {self.printed()}"
            time.sleep(0.01)

    def command(self, name: str, command: str, message_id: str, **payload: object) -> None:
        """Publishes a remote command."""
        publish(self.server, name, {"command": command, "id": message_id, "payload": payload})


def publish(server: CableServer, name: str, message: object) -> None:
    body = json.dumps({"stream": f"OCPPChannel:{name}", "data": json.dumps(message)})
    urllib.request.urlopen(server.broadcast_url, body.encode(), timeout=10).close()


@contextmanager
def hosted(*flags: str) -> Iterator[Central]:
    command = (*OURS, "app:cable")
    with cable_server(*FLAGS, *flags, command=command, directory=EXAMPLE) as server:
        yield Central(server, server.output)


@contextmanager
def application(output: IO[bytes]) -> Iterator[str]:
    """The example behind gRPC; gives its address."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    process = subprocess.Popen(
        [*OURS, "rpc", "app:cable", f"--rpc_host={address}"], cwd=EXAMPLE, stdout=output
    )
    try:
        wait_until_listening(port)
        yield address
    finally:
        process.terminate()
        process.wait()


@contextmanager
def behind_grpc(*flags: str) -> Iterator[Central]:
    with (
        tempfile.NamedTemporaryFile() as output,
        application(output.file) as address,
        cable_server(*FLAGS, f"--rpc_host={address}", *flags) as server,
    ):
        yield Central(server, Path(output.name).read_text)


@pytest.fixture(scope="module", params=["in process", "code worker", "grpc"])
def central(request: pytest.FixtureRequest) -> Iterator[Central]:
    with ExitStack() as stack:
        if request.param == "grpc":
            yield stack.enter_context(behind_grpc())
        elif request.param == "in process":
            yield stack.enter_context(hosted())
        else:
            yield stack.enter_context(hosted("--app_workers=1"))


@pytest.fixture(scope="module")
def local() -> Iterator[Central]:
    with hosted(
        *("--max_message_size=4000", "--ws_max_pending_size=20000", "--ws_max_message_rate=0"),
        *("--metrics_http=/metrics", "--allowed_origins=example.com", "--enable_ws_compression"),
    ) as central:
        yield central


def now() -> str:
    return datetime.now(UTC).isoformat()


@in_loop
async def call(there: Any, request: Any) -> Any:
    return await there.call(request, suppress=False)


# A day in the life of a station


def test_a_station_charges(central: Central) -> None:
    @in_loop
    async def charge() -> None:
        async with station(central.port, *CS1) as there:

            async def call(request: Any) -> Any:
                return await there.call(request, suppress=False)

            boot = await call(BOOT)
            assert (boot.status, boot.interval) == ("Accepted", 7)
            assert (await call(call16.Heartbeat())).current_time.endswith("Z")
            await call(call16.StatusNotification(1, "NoError", "Available"))
            assert (await call(call16.Authorize("AB12"))).id_tag_info == {"status": "Accepted"}
            assert (await call(call16.Authorize("?"))).id_tag_info == {"status": "Invalid"}
            started = await call(call16.StartTransaction(1, "AB12", 0, now()))
            values = [{"timestamp": now(), "sampledValue": [{"value": "7"}]}]
            await call(call16.MeterValues(1, values, started.transaction_id))
            await call(call16.StopTransaction(9, now(), started.transaction_id))
            with pytest.raises(InternalError):
                await call(call16.DataTransfer("vendor"))  # the example has no such action

    charge()
    central.wait_for("cs-1: booted M")
    central.wait_for("cs-1: meter 7")
    central.wait_for("at 9")


def test_two_stations_get_their_own_commands(central: Central) -> None:
    @in_loop
    async def obey() -> None:
        async with station(central.port, *CS1) as first, station(central.port, *CS2) as second:
            for each in (first, second):
                await each.call(BOOT)
            for name, tag in (("cs-1", "one"), ("cs-2", "two"), ("cs-1", "three")):
                payload = {"idTag": tag}
                central.command(name, "RemoteStartTransaction", f"start-{tag}", **payload)
            assert await second.commands.next() == "two"
            assert [await first.commands.next() for _ in range(2)] == ["one", "three"]
            central.command("cs-2", "Reset", "reset-2", type="Soft")
            for text in (
                "cs-1: answered start-one Accepted",
                "cs-1: answered start-three Accepted",
                "cs-2: answered start-two Accepted",
                "cs-2: failed reset-2 NotImplemented",
            ):
                await asyncio.to_thread(central.wait_for, text)

    obey()


def test_a_station_of_2_0_1(central: Central) -> None:
    """The example's actions are those of 1.6; heartbeats and commands are the same."""

    @in_loop
    async def obey() -> None:
        async with station(central.port, *CS2, Station201) as there:
            assert (await there.call(call201.Heartbeat(), suppress=False)).current_time
            central.command(
                "cs-2", "RequestStartTransaction", "start-201",
                idToken={"idToken": "x", "type": "Central"}, remoteStartId=1,
            )  # fmt: skip
            assert await there.commands.next() == "x"
            await asyncio.to_thread(central.wait_for, "cs-2: answered start-201 Accepted")

    obey()


@pytest.mark.parametrize(
    ("name", "password"), [("cs-1", "wrong"), ("cs-1", "second-secret"), ("cs-9", "")]
)
def test_a_station_that_may_not_connect(central: Central, name: str, password: str) -> None:
    @in_loop
    async def refused() -> None:
        async with station(central.port, name, password) as there:
            assert (await there.call(BOOT, suppress=False)).status == "Rejected"
            assert await end_of(there) == (1008, "Auth Failed")
        async with station(central.port, name, password) as there:
            with pytest.raises(SecurityError):
                await there.call(call16.Heartbeat(), suppress=False)
            assert (await end_of(there))[0] == 1008

    refused()


# The unhappy ways


def test_a_station_that_is_cut_off_goes_on_without_a_boot(local: Central) -> None:
    with tcp_relay(local.port) as relay:

        @in_loop
        async def go_on() -> None:
            async with station(relay.port, *CS1) as there:
                await there.call(BOOT)
                relay.cut()
                await end_of(there)
            async with station(relay.port, *CS1) as there:
                values = [{"timestamp": now(), "sampledValue": [{"value": "88"}]}]
                await there.call(call16.MeterValues(1, values), suppress=False)
                local.command("cs-1", "RemoteStartTransaction", "again", idTag="x")
                assert await there.commands.next() == "x"
                await asyncio.to_thread(local.wait_for, "cs-1: answered again Accepted")

        go_on()
    local.wait_for("cs-1: meter 88")


@in_loop
async def test_an_application_that_is_away() -> None:
    with cable_server(
        *FLAGS, f"--rpc_host=127.0.0.1:{free_port()}", "--rpc_command_timeout=100"
    ) as server:
        async with station(server.port, *CS1) as there:
            with pytest.raises(InternalError):
                await there.call(BOOT, suppress=False)
            assert (await end_of(there))[0] == 1011


def test_bad_messages_cost_an_answer_and_not_the_connection(local: Central) -> None:
    @in_loop
    async def say() -> None:
        async with station(local.port, *CS1, Station201) as there:
            for text in ("nonsense", b"\xff", '[2,"1"]', '[9,"2"]', "[" * 3000):
                await there.socket.send(text)
            answers = [await there._response_queue.get() for _ in range(5)]
            assert [(each.unique_id, each.error_code) for each in answers] == [
                ("-1", "RpcFrameworkError"),
                ("-1", "RpcFrameworkError"),
                ("1", "FormatViolation"),
                ("2", "MessageTypeNotSupported"),
                ("-1", "RpcFrameworkError"),
            ]
            assert (await there.call(call201.Heartbeat(), suppress=False)).current_time

    say()


def test_a_message_that_is_too_large_ends_the_connection(local: Central) -> None:
    @in_loop
    async def say() -> None:
        async with station(local.port, *CS1) as there:
            await there.call(BOOT)
            await there.socket.send(json.dumps([2, "1", "DataTransfer", {"data": "x" * 5000}]))
            assert (await end_of(there))[0] == 1009

    say()


def test_a_station_that_does_not_read_is_closed(local: Central) -> None:
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.settimeout(TIMEOUT_S)
        raw.connect(("127.0.0.1", local.port))
        headers = (f"{name}: {value}" for name, value in basic(*CS1).items())
        raw.sendall(upgrade("/ocpp/cs-1", *headers, protocol="ocpp1.6"))
        heartbeats = b"".join(
            masked(json.dumps([2, f"{number:036}", "Heartbeat", {}]).encode())
            for number in range(1000)
        )
        with pytest.raises(ConnectionError):
            raw.sendall(heartbeats * 1000)
    assert scrape(local.port)["disconnected_slow_clients_total"] == 1


def test_commands_for_a_station_that_does_not_answer_wait_and_are_dropped_beyond_the_limit(
    local: Central,
) -> None:
    @in_loop
    async def ignore() -> None:
        async with station(local.port, *CS2) as there:
            await there.call(BOOT)
            there.reading.cancel()
            await asyncio.wait([there.reading])
            for number in range(40):
                local.command("cs-2", "Reset", f"unanswered-{number}", type="Soft")
            assert json.loads(await there.socket.recv())[1] == "unanswered-0"
            assert scrape(local.port)["ocpp_refused_commands_total"] == 40 - 33
            local.wait_for("A command for the station cs-2 was dropped: 32 wait for its answers")
            await there.socket.send('[3,"unanswered-0",{"status":"Accepted"}]')
            assert json.loads(await there.socket.recv())[1] == "unanswered-1"

    ignore()


def test_a_silent_station_is_closed_and_a_server_that_stops_says_so() -> None:
    @in_loop
    async def wait(central: Central) -> None:
        async with station(central.port, *CS1) as there, station(central.port, *CS2) as silent:
            await there.call(BOOT)
            assert (await end_of(silent))[0] == 1008
            stopping = asyncio.to_thread(central.server.stop)
            assert (await asyncio.gather(end_of(there), stopping))[0] == (1001, "Server restart")

    with hosted("--ocpp_heartbeat_interval=1", "--handshake_timeout=1") as stopping:
        wait(stopping)


def test_a_command_reaches_a_station_at_another_node() -> None:
    with redis_server() as redis:
        flags = ("--broker=redis", f"--redis_url={redis.url}")
        with hosted(*flags) as near, hosted(*flags) as far:
            for each in (near, far):
                each.server.wait_until_it_hears_others()

            @in_loop
            async def obey() -> None:
                async with station(far.port, *CS1) as there:
                    await there.call(BOOT)
                    near.command("cs-1", "RemoteStartTransaction", "far", idTag="from afar")
                    assert await there.commands.next() == "from afar"
                    await asyncio.to_thread(far.wait_for, "cs-1: answered far Accepted")

            obey()
