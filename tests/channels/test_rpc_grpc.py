"""The gRPC server: what it answers besides the calls of the contract suite."""

import subprocess
import sys

import grpc
import grpc.aio
import pytest

from catenary.channels.rpc_grpc import HEALTH, GrpcRpcServer, ServerTls
from catenary.errors import ConfigError, install_command
from tests.channels.chat import chat
from tests.parts.certificates import Authority
from tests.parts.heart import in_loop


async def call(channel: grpc.aio.Channel, method: str, raw: bytes) -> bytes:
    answer: bytes = await channel.unary_unary(method, bytes, bytes)(raw, timeout=5)
    return answer


@in_loop
async def test_health_checks_and_invalid_requests() -> None:
    server = GrpcRpcServer(chat(), "127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        assert await call(channel, f"/{HEALTH}/Check", b"") == b"\x08\x01"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(channel, "/anycable.RPC/Command", b"\xff\xff")
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await call(channel, "/anycable.RPC/Dance", b"")
        assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED
    await server.stop(1)


@in_loop
async def test_an_address_in_use_is_a_configuration_error() -> None:
    first = GrpcRpcServer(chat(), "127.0.0.1:0")
    await first.start()
    second = GrpcRpcServer(chat(), f"127.0.0.1:{first.port}")
    with pytest.raises(ConfigError, match="rpc_host: can't listen on 127"):
        await second.start()
    await second.stop(1)
    await first.stop(1)


@in_loop
async def test_it_serves_over_tls() -> None:
    authority = Authority()
    issued = authority.issue("localhost")
    server = GrpcRpcServer(
        chat(), "localhost:0", tls=ServerTls(issued.certificate, issued.key), concurrency=10
    )
    await server.start()
    trust = grpc.ssl_channel_credentials(authority.pem)
    async with grpc.aio.secure_channel(f"localhost:{server.port}", trust) as channel:
        assert await call(channel, f"/{HEALTH}/Check", b"") == b"\x08\x01"
    await server.stop(1)


def test_a_missing_library_is_named() -> None:
    code = "import sys; sys.modules['grpc'] = None; import catenary.channels.rpc_grpc"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    line = f"catenary.errors.MissingExtra: rpc needs an optional library: {install_command('rpc')}"
    assert done.stderr.splitlines()[-1] == line
