"""An application behind gRPC: targets, balancing, TLS, status codes, sizes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import uvloop

from catenary.errors import AppFailed, AppUnavailable
from catenary.messages.decisions import Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from catenary.metrics.counters import Counters
from catenary.rpc.calls import AppAway, AppLate, CallLimits
from catenary.rpc.grpc import GrpcApplication, MessageSizes
from catenary.rpc.grpc_connection import GrpcTimeouts
from catenary.rpc.tls import Tls
from tests.parts.application import Refusal, TestApplication
from tests.parts.certificates import Authority
from tests.parts.dns import dns_server
from tests.parts.grpc_app import GrpcServer, grpc_server
from tests.parts.ports import free_port

ECHO = Identifier('{"channel":"EchoChannel"}')
if TYPE_CHECKING:
    _GenericRpcHandler = grpc.GenericRpcHandler[Any, Any]
else:
    _GenericRpcHandler = grpc.GenericRpcHandler

QUICK = CallLimits(command_timeout_s=1.0)
ENVIRONMENT = Environment(Sid("s1"), "ws://cable.test/cable", {})


def run(scenario: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await scenario

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())


@asynccontextmanager
async def opened(
    host: str, counters: Counters | None = None, limits: CallLimits = QUICK, **how: Any
) -> AsyncIterator[GrpcApplication]:
    application = GrpcApplication(host, counters=counters or Counters(), limits=limits, **how)
    await application.start()
    try:
        yield application
    finally:
        await application.close(5)


def test_a_call_before_the_start_is_refused() -> None:
    application = GrpcApplication("127.0.0.1:1", counters=Counters(), limits=QUICK)

    async def scenario() -> None:
        with pytest.raises(AppUnavailable, match="start"):
            await application.connect(ENVIRONMENT)

    asyncio.run(scenario())


# Balancing


async def calls_until_both_are_asked(
    application: GrpcApplication, servers: tuple[GrpcServer, GrpcServer]
) -> None:
    """A channel uses the servers that it has reached: the first calls may all go to one."""
    while not all(server.application.calls for server in servers):
        await application.connect(ENVIRONMENT)
    for server in servers:
        server.application.calls.clear()


def test_a_list_is_balanced_and_one_that_is_away_is_passed_over() -> None:
    async def scenario() -> None:
        hosts = f"grpc-list://{one.address},localhost:{two.port}"
        async with opened(hosts, counters) as application:
            await calls_until_both_are_asked(application, (one, two))
            for _ in range(20):
                await application.connect(ENVIRONMENT)
            assert (len(one.application.calls), len(two.application.calls)) == (10, 10)
            await asyncio.to_thread(one.stop)
            for _ in range(20):
                await application.connect(ENVIRONMENT)
            assert len(two.application.calls) == 30
            assert counters.rpc_retries_total <= 2  # until it is known to be away
            await asyncio.to_thread(one.start)
            await calls_until_both_are_asked(application, (one, two))

    counters = Counters()
    with grpc_server() as one, grpc_server() as two:
        run(scenario())
    assert counters.rpc_error_total == 0


def test_the_addresses_of_a_name_are_balanced() -> None:
    async def scenario() -> None:
        host = f"dns://127.0.0.1:{dns_port}/rpc.test:{one.port}"
        async with opened(host, limits=CallLimits()) as application:
            await calls_until_both_are_asked(application, (one, two))
            for _ in range(20):
                await application.connect(ENVIRONMENT)
            assert (len(one.application.calls), len(two.application.calls)) == (10, 10)

    with ExitStack() as stack:
        dns_port = stack.enter_context(dns_server({"rpc.test": ("127.0.0.1", "127.0.0.2")}))
        one = stack.enter_context(grpc_server())
        two = stack.enter_context(grpc_server(port=one.port, host="127.0.0.2"))
        run(scenario())


def test_a_name_that_gets_another_address_is_followed() -> None:
    async def scenario() -> None:
        host = f"dns://127.0.0.1:{dns_port}/rpc.test:{one.port}"
        timeouts = GrpcTimeouts(least_between_lookups_s=0.05, most_between_lookups_s=0.1)
        async with opened(host, counters, CallLimits(), timeouts=timeouts) as application:
            await application.connect(ENVIRONMENT)
            names["rpc.test"] = ("127.0.0.1", "127.0.0.2")
            await calls_until_both_are_asked(application, (one, two))
            names["rpc.test"] = ("127.0.0.2",)
            while one.application.calls:
                one.application.calls.clear()
                for _ in range(10):
                    await application.connect(ENVIRONMENT)
                await asyncio.sleep(0.02)
            await asyncio.to_thread(one.stop)
            for _ in range(10):
                await application.connect(ENVIRONMENT)

    counters = Counters()
    names: dict[str, tuple[str, ...]] = {"rpc.test": ("127.0.0.1",)}
    with ExitStack() as stack:
        dns_port = stack.enter_context(dns_server(names))
        one = stack.enter_context(grpc_server())
        two = stack.enter_context(grpc_server(port=one.port, host="127.0.0.2"))
        run(scenario())
    assert counters.rpc_retries_total == 0


def test_an_unreachable_server_is_resolved_again() -> None:
    async def scenario() -> None:
        host = f"dns://127.0.0.1:{dns_port}/rpc.test:{one.port}"
        timeouts = GrpcTimeouts(least_between_lookups_s=0.05, most_between_lookups_s=60)
        async with opened(host, counters, CallLimits(), timeouts=timeouts) as application:
            await application.connect(ENVIRONMENT)
            names["rpc.test"] = ("127.0.0.2",)
            await asyncio.to_thread(one.stop)
            assert (await application.connect(ENVIRONMENT)).verdict is Verdict.SUCCESS

    counters = Counters()
    names: dict[str, tuple[str, ...]] = {"rpc.test": ("127.0.0.1",)}
    with ExitStack() as stack:
        dns_port = stack.enter_context(dns_server(names))
        one = stack.enter_context(grpc_server())
        stack.enter_context(grpc_server(port=one.port, host="127.0.0.2"))
        run(scenario())
    assert counters.rpc_error_total == 0


def test_a_name_that_is_known_later_is_found() -> None:
    async def scenario() -> None:
        host = f"dns://127.0.0.1:{dns_port}/rpc.test:{server.port}"
        async with opened(host, counters, CallLimits()) as application:
            call = asyncio.ensure_future(application.connect(ENVIRONMENT))
            while not counters.rpc_retries_total:  # noqa: ASYNC110  (a plain number)
                await asyncio.sleep(0.01)
            names["rpc.test"] = ("127.0.0.1",)
            assert (await call).verdict is Verdict.SUCCESS

    counters = Counters()
    names: dict[str, tuple[str, ...]] = {}
    with dns_server(names) as dns_port, grpc_server() as server:
        run(scenario())


def test_an_unknown_name() -> None:
    async def scenario() -> None:
        async with opened(f"dns://127.0.0.1:{dns_port}/rpc.test:1") as application:
            with pytest.raises(AppAway, match=r"no address of rpc\.test"):
                await application.connect(ENVIRONMENT)

    with dns_server({}) as dns_port:
        run(scenario())


def test_dns_with_the_system_s_resolver() -> None:
    async def scenario() -> None:
        async with opened(f"dns:///localhost:{server.port}") as application:
            assert (await application.connect(ENVIRONMENT)).verdict is Verdict.SUCCESS

    with grpc_server() as server:
        run(scenario())


# Status codes


def test_a_server_that_is_busy_or_stopping_is_asked_again() -> None:
    async def scenario() -> None:
        async with opened(server.address, counters) as application:
            assert (await application.connect(ENVIRONMENT)).verdict is Verdict.SUCCESS

    counters = Counters()
    backend = TestApplication()
    codes = ("RESOURCE_EXHAUSTED", "UNAVAILABLE", "CANCELLED")
    backend.prepared.extend(Refusal(code) for code in codes)
    with grpc_server(backend) as server:
        run(scenario())
    assert len(backend.calls) == 4
    assert counters.rpc_retries_total == 3


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("UNKNOWN", AppFailed),
        ("UNIMPLEMENTED", AppFailed),
        ("UNAUTHENTICATED", AppFailed),
        ("DEADLINE_EXCEEDED", AppLate),
    ],
)
def test_other_codes_end_the_call(status: str, error: type[Exception]) -> None:
    async def scenario() -> None:
        async with opened(server.address) as application:
            with pytest.raises(error, match=f"gRPC {status}: refused on purpose"):
                await application.connect(ENVIRONMENT)

    backend = TestApplication()
    backend.prepared.append(Refusal(status))
    with grpc_server(backend) as server:
        run(scenario())
    assert len(backend.calls) == 1


def test_a_handler_that_breaks_is_a_failure_with_short_text() -> None:
    async def scenario() -> None:
        async with opened(server.address) as application:
            with pytest.raises(AppFailed) as raised:
                await application.connect(ENVIRONMENT)
            assert len(str(raised.value)) < 300

    backend = TestApplication()
    backend.prepared.append(Refusal("UNKNOWN", "x" * 5_000))
    with grpc_server(backend) as server:
        run(scenario())


def test_bytes_that_are_no_answer_are_a_failure() -> None:
    async def scenario(port: int) -> None:
        async with opened(f"127.0.0.1:{port}") as application:
            with pytest.raises(AppFailed, match="expected a ConnectionResponse"):
                await application.connect(ENVIRONMENT)

    class Garbage(_GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> Any:
            return grpc.unary_unary_rpc_method_handler(lambda request, context: b"\xff\xff")

    server = grpc.server(ThreadPoolExecutor(1), handlers=[Garbage()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        run(scenario(port))
    finally:
        server.stop(None).wait()


# Sizes


def test_a_message_over_the_limit_is_not_asked_for_again() -> None:
    async def scenario() -> None:
        sizes = MessageSizes(receive_bytes=1_000, send_bytes=1_000)
        async with opened(server.address, counters, sizes=sizes) as application:
            with pytest.raises(AppFailed, match="RESOURCE_EXHAUSTED"):
                await application.perform(
                    ENVIRONMENT, ECHO, '{"action":"sleep","seconds":0,"x":"' + "x" * 2_000 + '"}'
                )
            assert backend.calls == []
            backend.prepared.append({"status": 1, "transmissions": ["x" * 2_000]})
            with pytest.raises(AppFailed, match="RESOURCE_EXHAUSTED"):
                await application.connect(ENVIRONMENT)
            assert len(backend.calls) == 1

    counters = Counters()
    backend = TestApplication()
    with grpc_server(backend) as server:
        run(scenario())
    assert counters.rpc_retries_total == 0


def test_larger_messages_than_grpc_s_own_limit_can_be_allowed() -> None:
    async def scenario() -> None:
        big = {"status": 1, "transmissions": ["x" * 5 * 2**20]}
        backend.prepared.extend([big, big])
        async with opened(server.address, limits=CallLimits()) as application:
            with pytest.raises(AppFailed, match="larger than max"):
                await application.connect(ENVIRONMENT)
        sizes = MessageSizes(receive_bytes=8 * 2**20)
        async with opened(server.address, limits=CallLimits(), sizes=sizes) as application:
            decision = await application.connect(ENVIRONMENT)
            assert len(decision.transmissions[0]) == 5 * 2**20

    backend = TestApplication()
    with grpc_server(backend) as server:
        run(scenario())


# TLS


def test_a_verified_certificate(tmp_path: Path) -> None:
    authority = Authority()
    path = tmp_path / "ca.pem"
    path.write_bytes(authority.pem)

    async def scenario(root_ca: str) -> None:
        async with opened(f"localhost:{server.port}", tls=Tls(root_ca=root_ca)) as application:
            assert (await application.connect(ENVIRONMENT)).verdict is Verdict.SUCCESS

    with grpc_server(tls=authority.issue("localhost")) as server:
        run(scenario(str(path)))
        run(scenario(authority.pem.decode()))
    # As simple tools issue them: Python 3.13 would not take it.
    with grpc_server(tls=authority.issue("localhost", names_key=False)) as server:
        run(scenario(str(path)))


@pytest.mark.parametrize("case", ["another authority", "the system's", "another name", "expired"])
def test_a_certificate_that_is_not_to_be_trusted(case: str) -> None:
    authority = Authority()
    certificate = authority.issue(
        "elsewhere.test" if case == "another name" else "127.0.0.1", expired=case == "expired"
    )
    trusted = {"another authority": Authority("Other CA").pem.decode(), "the system's": ""}

    async def scenario() -> None:
        tls = Tls(root_ca=trusted.get(case, authority.pem.decode()))
        async with opened(server.address, tls=tls) as application:
            with pytest.raises(AppAway, match=r"(?i)handshake|verification"):
                await application.connect(ENVIRONMENT)

    with grpc_server(tls=certificate) as server:
        run(scenario())
    assert server.application.calls == []


@pytest.mark.parametrize("expired", [False, True])
def test_without_verification_any_certificate_will_do(expired: bool) -> None:
    certificate = Authority().issue("elsewhere.test", expired=expired)

    async def scenario() -> None:
        counters = Counters()
        async with opened(server.address, counters, tls=Tls(verify=False)) as application:
            for _ in range(3):
                assert (await application.connect(ENVIRONMENT)).verdict is Verdict.SUCCESS
            await asyncio.to_thread(server.stop)
            call = asyncio.ensure_future(application.connect(ENVIRONMENT))
            while not counters.rpc_retries_total:  # noqa: ASYNC110  (a plain number)
                await asyncio.sleep(0.01)
            await asyncio.to_thread(server.start)
            assert (await call).verdict is Verdict.SUCCESS

    with grpc_server(tls=certificate) as server:
        run(scenario())


def test_without_verification_it_is_tls_all_the_same() -> None:
    async def scenario() -> None:
        async with opened(server.address, tls=Tls(verify=False)) as application:
            with pytest.raises(AppUnavailable):
                await application.connect(ENVIRONMENT)

    with grpc_server() as server:
        run(scenario())
    assert server.application.calls == []


def test_without_verification_a_list_is_balanced() -> None:
    authority = Authority()

    async def scenario() -> None:
        hosts = f"grpc-list://{one.address},{two.address}"
        async with opened(hosts, tls=Tls(verify=False)) as application:
            await calls_until_both_are_asked(application, (one, two))

    with (
        grpc_server(tls=authority.issue("one.test")) as one,
        grpc_server(tls=Authority().issue("two.test")) as two,
    ):
        run(scenario())


def test_tls_over_a_unix_socket(tmp_path: Path) -> None:
    authority = Authority()
    path = tmp_path / "rpc.sock"

    async def scenario() -> None:
        tls = Tls(root_ca=authority.pem.decode())
        async with opened(f"unix:{path}", tls=tls) as application:
            assert (await application.connect(ENVIRONMENT)).verdict is Verdict.SUCCESS

    certificate = authority.issue("localhost")
    with grpc_server(tls=certificate, address=f"unix:{path}"):
        run(scenario())


def test_a_unix_socket(tmp_path: Path) -> None:
    async def scenario(host: str) -> None:
        async with opened(host) as application:
            assert (await application.connect(ENVIRONMENT)).verdict is Verdict.SUCCESS

    path = tmp_path / "rpc.sock"
    with grpc_server(address=f"unix:{path}"):
        run(scenario(f"unix:{path}"))
        run(scenario(f"unix://{path}"))


def test_a_server_without_http2_in_tls_is_not_called(tmp_path: Path) -> None:
    async def scenario() -> None:
        context = Authority().issue("localhost").server_context(tmp_path)  # no ALPN
        server = await asyncio.start_server(_read_all, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        async with server, opened(f"127.0.0.1:{port}", tls=Tls(verify=False)) as application:
            with pytest.raises(AppAway, match="ALPN"):
                await application.connect(ENVIRONMENT)

    run(scenario())


def test_a_handshake_that_never_ends_is_given_up() -> None:
    async def scenario() -> None:
        server = await asyncio.start_server(_read_all, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        timeouts = GrpcTimeouts(connect_s=0.1)
        async with (
            server,
            opened(f"127.0.0.1:{port}", tls=Tls(verify=False), timeouts=timeouts) as application,
        ):
            with pytest.raises(AppAway, match=r"none within 0\.1 s"):
                await application.connect(ENVIRONMENT)

    run(scenario())


async def _read_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await reader.read()
    except OSError:
        pass
    finally:
        writer.close()


# Being away


def test_a_server_that_is_replaced_under_load_loses_no_call() -> None:
    async def scenario() -> None:
        async with opened(server.address, counters, CallLimits()) as application:
            stop = asyncio.Event()
            verdicts: Counter[Verdict] = Counter()

            async def client() -> None:
                while not stop.is_set():
                    verdicts[(await application.connect(ENVIRONMENT)).verdict] += 1

            async with asyncio.TaskGroup() as clients:
                for _ in range(8):
                    clients.create_task(client())
                for _ in range(3):
                    seen = verdicts[Verdict.SUCCESS]
                    while verdicts[Verdict.SUCCESS] < seen + 50:  # noqa: ASYNC110  (a plain number)
                        await asyncio.sleep(0.01)
                    await asyncio.to_thread(server.stop)
                    await asyncio.to_thread(server.start)
                stop.set()

    counters = Counters()
    with grpc_server() as server:
        run(scenario())
    assert counters.rpc_error_total == 0


def test_an_application_that_never_starts() -> None:
    async def scenario() -> None:
        async with opened(f"127.0.0.1:{free_port()}") as application:
            with pytest.raises(AppAway, match="gRPC UNAVAILABLE"):
                await application.connect(ENVIRONMENT)

    run(scenario())
