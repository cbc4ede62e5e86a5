"""An application behind HTTP: paths, headers, statuses, connections, TLS."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from catenary.auth.keys import RPC_PHRASE, derived_key
from catenary.errors import AppFailed, ConfigError
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from catenary.metrics.counters import Counters
from catenary.rpc.calls import AppAway, CallLimits
from catenary.rpc.http import HttpApplication
from catenary.rpc.tls import Tls
from tests.parts.application import Refusal, TestApplication
from tests.parts.certificates import Authority
from tests.parts.http_app import HttpServer, http_server

ECHO = Identifier('{"channel":"EchoChannel"}')
QUICK = CallLimits(command_timeout_s=1.0)
ENVIRONMENT = Environment(Sid("s1"), "ws://cable.test/cable", {})
OK = b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"status":1}'


def run(scenario: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await scenario

    asyncio.run(bounded())


@asynccontextmanager
async def opened(
    url: str, counters: Counters | None = None, limits: CallLimits = QUICK, **how: Any
) -> AsyncIterator[HttpApplication]:
    application = HttpApplication(url, counters=counters or Counters(), limits=limits, **how)
    await application.start()
    try:
        yield application
    finally:
        await application.close(5)


@asynccontextmanager
async def raw_server(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """A server that writes what it likes; gives the URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has what it wanted
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def read_request(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    """Start line, headers by lower-case name, body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    start, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return start, headers, await reader.readexactly(int(headers["content-length"]))


# Requests


def test_a_request_on_the_wire() -> None:
    async def scenario() -> None:
        requests = []

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                requests.append(await read_request(reader))
                writer.write(OK)

        async with raw_server(answer) as url, opened(f"{url}/_anycable/", key="k") as application:
            await application.connect(ENVIRONMENT)
            await application.subscribe(ENVIRONMENT, ECHO)
            await application.disconnect(ENVIRONMENT, (ECHO,))
        assert [start for start, _, _ in requests] == [
            "POST /_anycable/connect HTTP/1.1",
            "POST /_anycable/command HTTP/1.1",
            "POST /_anycable/disconnect HTTP/1.1",
        ]
        for _, headers, body in requests:
            assert headers == {
                "host": url.removeprefix("http://"),
                "content-type": "application/json",
                "accept-encoding": "identity",
                "authorization": "Bearer k",
                "x-anycable-meta-sid": "s1",
                "x-anycable-meta-protov": "v1",
                "content-length": str(len(body)),
            }
        assert json.loads(requests[0][2]) == {"env": {"url": "ws://cable.test/cable"}}

    run(scenario())


def test_the_parts_of_a_url() -> None:
    async def scenario() -> None:
        requests = []

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            requests.append(await read_request(reader))
            writer.write(OK)

        async with raw_server(answer) as url:
            address = url.removeprefix("http://")
            async with opened(f"http://jack:p%40ss@{address}?tenant=1") as application:
                await application.connect(ENVIRONMENT)
        ((start, headers, _),) = requests
        assert start == "POST /connect?tenant=1 HTTP/1.1"
        assert headers["authorization"] == "Basic amFjazpwQHNz"
        assert headers["host"] == address

    run(scenario())


@pytest.mark.parametrize("url", ["localhost:3000", "ftp://x/", "http://", "http://x:port/"])
def test_an_invalid_url_stops_the_start(url: str) -> None:
    with pytest.raises(ConfigError, match="rpc_host: expected"):
        HttpApplication(url, counters=Counters(), limits=QUICK)


def test_the_derived_key_opens_what_the_secret_protects() -> None:
    async def scenario() -> None:
        async with opened(server.url, key=derived_key("qwerty", RPC_PHRASE)) as application:
            assert (await application.connect(ENVIRONMENT)).verdict is Verdict.SUCCESS
        async with opened(server.url, key="wrong", limits=QUICK) as application:
            with pytest.raises(AppFailed, match=r"401.*http_rpc_secret") as raised:
                await application.connect(ENVIRONMENT)
            assert "wrong" not in str(raised.value)

    key = "57c40610d142fe7d7999be4e23dfba4f42c3c542e1f278063e8e3b6a30b0c2bd"
    with http_server(key=key) as server:
        run(scenario())


@pytest.mark.parametrize("key", ["schl\u00fcssel", "\u043a\u043b\u044e\u0447"])
def test_a_key_that_is_not_ascii_is_sent_as_utf_8(key: str) -> None:
    async def scenario() -> None:
        async with opened(server.url, key=key) as application:
            assert (await application.connect(ENVIRONMENT)).verdict is Verdict.SUCCESS

    with http_server(key=key) as server:
        run(scenario())


# Responses


@pytest.mark.parametrize("status", [400, 404, 422, 429, 500, 503, 201, 302])
def test_other_statuses_fail_and_are_not_asked_again(status: int) -> None:
    async def scenario() -> None:
        async with opened(server.url, counters) as application:
            with pytest.raises(AppFailed, match=f"HTTP {status}: refused on purpose"):
                await application.connect(ENVIRONMENT)

    counters = Counters()
    backend = TestApplication()
    backend.prepared.append(Refusal(status))
    with http_server(backend) as server:
        run(scenario())
    assert len(backend.calls) == 1
    assert (counters.rpc_error_total, counters.rpc_retries_total) == (1, 0)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("/new/connect", "/new/connect"),
        ("https://other.example/connect", "https://other.example/connect"),
        ("https://user:hush@other.example/connect?key=hush#x", "https://other.example/connect"),
        ("http://[", "no URL"),
    ],
)
def test_where_a_redirect_leads_is_said(status: int, location: str, shown: str) -> None:
    async def scenario() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            head = f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
            writer.write(head.encode())

        async with raw_server(answer) as url, opened(url) as application:
            with pytest.raises(AppFailed) as failed:
                await application.connect(ENVIRONMENT)
        assert f"HTTP {status}: redirected to {shown} (rpc_host" in str(failed.value)
        assert "hush" not in str(failed.value)

    run(scenario())


def compressed(body: bytes, coding: str = "gzip") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    ("response", "why"),
    [
        (compressed(b"...", "br"), "without Content-Encoding, got br"),
        (compressed(b"...", "gzip, gzip"), "got gzip, gzip"),
        (compressed(b'{"status":1}'), "a body in gzip"),
        (compressed(gzip.compress(b'{"status":1}')[:-4]), "a part of one"),
        (compressed(gzip.compress(bytes(20 * 2**20))), "at most"),
    ],
    ids=["br", "twice", "not at all", "cut off", "too large"],
)
def test_compressed_bodies_that_can_t_be_read(response: bytes, why: str) -> None:
    async def scenario() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(response)

        async with raw_server(answer) as url, opened(url) as application:
            with pytest.raises(AppFailed, match=why):
                await application.connect(ENVIRONMENT)

    run(scenario())


RESPONSES = {
    "in gzip, unasked": compressed(gzip.compress(b'{"status":1}')),
    "in no coding, and says so": compressed(b'{"status":1}', "identity"),
    "in chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'4\r\n{"st\r\n8\r\natus":1}\r\n0\r\n\r\n'
    ),
    "after 100 Continue": b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    "until the end": b'HTTP/1.0 200 OK\r\n\r\n{"status":1}',
    "then close": b'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 12\r\n\r\n{"status":1}',
    "with nulls": (
        b'HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n{"status":1,"transmissions":null,"env":null}'
    ),
}


@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES)
@pytest.mark.parametrize("piece_bytes", [1, 1_000])
def test_responses_in_every_form(response: bytes, piece_bytes: int) -> None:
    async def scenario() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            keep = b"1.0" not in response and b"close" not in response
            while True:
                await read_request(reader)
                for begin in range(0, len(response), piece_bytes):
                    writer.write(response[begin : begin + piece_bytes])
                    await asyncio.sleep(0)
                if not keep:
                    return

        async with raw_server(answer) as url, opened(url) as application:
            for _ in range(3):
                assert await application.connect(ENVIRONMENT) == Decision()

    run(scenario())


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", AppFailed),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{", AppAway),
        (b"HTTP/1.1 200", AppAway),
        (b"", AppAway),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", AppFailed),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"status":"1"}', AppFailed),
    ],
)
def test_invalid_responses(response: bytes, error: type[Exception]) -> None:
    async def scenario() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(response)

        limits = CallLimits(command_timeout_s=0.2)
        async with raw_server(answer) as url, opened(url, limits=limits) as application:
            with pytest.raises(error):
                await application.connect(ENVIRONMENT)

    run(scenario())


def test_a_body_without_an_end_is_cut() -> None:
    async def scenario() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                writer.write(b"x" * 2**20)
                await writer.drain()

        limits = CallLimits(command_timeout_s=3)
        async with raw_server(answer) as url, opened(url, limits=limits) as application:
            with pytest.raises(AppFailed, match="at most"):
                await application.connect(ENVIRONMENT)

    run(scenario())


# Connections


def test_connections_are_kept_and_shared() -> None:
    async def scenario() -> None:
        async with opened(server.url, limits=CallLimits(concurrency=4)) as application:
            for _ in range(20):
                await application.connect(ENVIRONMENT)
            assert server.connections == 1
            await asyncio.gather(*(application.connect(ENVIRONMENT) for _ in range(40)))
            assert server.connections <= 4

    with http_server() as server:
        run(scenario())


def test_a_connection_that_was_closed_meanwhile_is_replaced_without_a_retry() -> None:
    async def scenario() -> None:
        connections = 0

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            await read_request(reader)
            writer.write(OK)
            if connections == 1:
                # The second request is read and never answered.
                await read_request(reader)

        async with raw_server(answer) as url, opened(url, counters) as application:
            await application.connect(ENVIRONMENT)
            await application.connect(ENVIRONMENT)
        assert connections == 2

    counters = Counters()
    run(scenario())
    assert counters.rpc_retries_total == 0


def test_a_new_connection_that_breaks_counts_as_away() -> None:
    async def scenario() -> None:
        connections = 0

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            await read_request(reader)
            if connections > 1:
                writer.write(OK)

        async with raw_server(answer) as url, opened(url, counters) as application:
            await application.connect(ENVIRONMENT)
        assert connections == 2

    counters = Counters()
    run(scenario())
    assert counters.rpc_retries_total == 1


def test_a_cancelled_call_closes_its_connection() -> None:
    async def scenario() -> None:
        asked, ended = asyncio.Event(), asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            asked.set()
            try:
                await reader.read()
            finally:
                ended.set()

        async with raw_server(answer) as url, opened(url, limits=CallLimits()) as application:
            task = asyncio.ensure_future(application.connect(ENVIRONMENT))
            await asked.wait()
            task.cancel()
            await asyncio.wait_for(ended.wait(), 5)

    run(scenario())


def test_an_answer_to_a_cancelled_call_is_dropped() -> None:
    async def scenario() -> None:
        async with opened(server.url, limits=CallLimits(concurrency=1)) as application:
            slow = application.perform(ENVIRONMENT, ECHO, '{"action":"sleep","seconds":0.1}')
            task = asyncio.ensure_future(slow)
            await asyncio.to_thread(backend.wait_for, lambda: backend.under_way == 1)
            task.cancel()
            decision = await application.perform(ENVIRONMENT, ECHO, '{"action":"echo"}')
            assert json.loads(decision.transmissions[0])["message"] == {"action": "echo"}
            await asyncio.to_thread(backend.wait_for, lambda: backend.under_way == 0)
            decision = await application.perform(ENVIRONMENT, ECHO, '{"action":"echo","n":2}')
            assert json.loads(decision.transmissions[0])["message"] == {"action": "echo", "n": 2}

    backend = TestApplication()
    with http_server(backend) as server:
        run(scenario())


# TLS


@contextmanager
def https_server(tmp_path: Path, *names: str) -> Iterator[tuple[HttpServer, Authority]]:
    authority = Authority()
    context = authority.issue(*names).server_context(tmp_path)
    with http_server(tls=context) as server:
        yield server, authority


def test_a_verified_certificate(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(server.url, tls=Tls(root_ca=authority.pem.decode())) as application:
            assert (await application.connect(ENVIRONMENT)).verdict is Verdict.SUCCESS

    with https_server(tmp_path, "127.0.0.1") as (server, authority):
        run(scenario())


@pytest.mark.parametrize("case", ["another authority", "the system's", "another name"])
def test_a_certificate_that_is_not_to_be_trusted(tmp_path: Path, case: str) -> None:
    async def scenario() -> None:
        tls = {
            "another authority": Tls(root_ca=Authority("Other CA").pem.decode()),
            "the system's": None,
            "another name": Tls(root_ca=authority.pem.decode()),
        }[case]
        async with opened(server.url, counters, tls=tls) as application:
            with pytest.raises(AppFailed, match="no trust in the application's certificate"):
                await application.connect(ENVIRONMENT)

    counters = Counters()
    name = "elsewhere.test" if case == "another name" else "127.0.0.1"
    with https_server(tmp_path, name) as (server, authority):
        run(scenario())
    assert server.application.calls == []
    assert counters.rpc_retries_total == 0


def test_without_verification_any_certificate_will_do(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(server.url, tls=Tls(verify=False)) as application:
            assert (await application.connect(ENVIRONMENT)).verdict is Verdict.SUCCESS

    with https_server(tmp_path, "elsewhere.test") as (server, _):
        run(scenario())
