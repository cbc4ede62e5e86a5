"""The forms of rpc_host, and the answers of name servers."""

import asyncio
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.errors import ConfigError
from catenary.rpc.grpc_dns import addresses, encode_query, lookup
from catenary.rpc.grpc_targets import Address, GrpcTarget, resolve, targets
from tests.parts.dns import dns_server
from tests.parts.ports import free_port


def named(host: str, port: int, server: Address | None = None) -> GrpcTarget:
    return GrpcTarget(f"{host}:{port}", host, port, (), server)


def fixed(host: str, *where: Address) -> GrpcTarget:
    port = where[0].port
    return GrpcTarget(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", host, port, where)


LOCAL = GrpcTarget("localhost", "localhost", addresses=(Address(path="/run/rpc.sock"),))


@pytest.mark.parametrize(
    ("rpc_host", "found"),
    [
        ("localhost:50051", [named("localhost", 50051)]),
        ("rpc.test", [named("rpc.test", 443)]),
        ("dns:rpc.test:50051", [named("rpc.test", 50051)]),
        ("dns:///rpc.test:50051", [named("rpc.test", 50051)]),
        ("dns://10.0.0.1/rpc.test:1", [named("rpc.test", 1, Address("10.0.0.1", 53))]),
        ("dns://[::1]:5353/rpc.test:1", [named("rpc.test", 1, Address("::1", 5353))]),
        ("passthrough:///rpc.test:1", [named("rpc.test", 1)]),
        ("127.0.0.1:50051", [fixed("127.0.0.1", Address("127.0.0.1", 50051))]),
        ("[::1]:50051", [fixed("::1", Address("::1", 50051))]),
        ("::1", [fixed("::1", Address("::1", 443))]),
        (
            "ipv4:10.0.0.1:1,10.0.0.2:2",
            [fixed("10.0.0.1", Address("10.0.0.1", 1), Address("10.0.0.2", 2))],
        ),
        ("ipv6:[::1]:1", [fixed("::1", Address("::1", 1))]),
        ("unix:/run/rpc.sock", [LOCAL]),
        ("unix:///run/rpc.sock", [LOCAL]),
        ("grpc-list://a:1", [named("a", 1)]),
        ("grpc-list://a:1, dns:///b:2,", [named("a", 1), named("b", 2)]),
    ],
)
def test_targets(rpc_host: str, found: list[GrpcTarget]) -> None:
    assert list(targets(rpc_host)) == found


@pytest.mark.parametrize(
    "rpc_host",
    [
        "",
        "grpc-list://",
        "grpc-list:// ,",
        "localhost:x",
        "localhost:0",
        "localhost:65536",
        ":50051",
        "http://localhost:50051",
        "ipv4:rpc.test:1",
        "dns://ns.test/rpc.test:1",
        "dns:///",
        "unix:",
        "unix-abstract:rpc",
        "unix://relative",
        "a b:1",
        ".test:1",
    ],
)
def test_an_invalid_target_stops_the_start(rpc_host: str) -> None:
    with pytest.raises(ConfigError, match="rpc_host: expected"):
        targets(rpc_host)


def test_a_password_in_a_url_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as raised:
        targets("https://jack:hunter2@rpc.test/rpc")
    assert "hunter2" not in str(raised.value)


def test_names_are_resolved_by_the_system_and_each_address_is_named_once() -> None:
    found = asyncio.run(resolve(targets("localhost:50051")[0]))
    assert Address("127.0.0.1", 50051) in found
    assert len(set(found)) == len(found)


def test_a_name_server_is_asked() -> None:
    with dns_server({"rpc.test": ("127.0.0.1", "127.0.0.2")}) as port:
        (target,) = targets(f"dns://127.0.0.1:{port}/rpc.test:7")
        assert asyncio.run(resolve(target)) == (Address("127.0.0.1", 7), Address("127.0.0.2", 7))
        with pytest.raises(OSError, match="no addresses"):
            asyncio.run(lookup("other.test", "127.0.0.1", port))


def test_a_name_server_that_is_not_there() -> None:
    with pytest.raises(OSError, match=r"refused|no answer"):
        asyncio.run(lookup("rpc.test", "127.0.0.1", free_port()))


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".test", ""])
def test_an_invalid_name_is_not_resolved(name: str) -> None:
    with pytest.raises(OSError, match="host name"):
        encode_query(name, 1, 7)


def answer(query: bytes, *records: tuple[bytes, int, bytes]) -> bytes:
    head = query[:2] + struct.pack(">HHHHH", 0x8180, 1, len(records), 0, 0)
    packed = b"".join(
        name + struct.pack(">HHLH", kind, 1, 60, len(data)) + data for name, kind, data in records
    )
    return head + query[12:] + packed


def test_aliases_are_passed_over_and_both_families_read() -> None:
    pointer = b"\xc0\x0c"
    query = encode_query("rpc.test", 28, 7)
    loop = bytes(15) + b"\1"
    records = [
        (pointer, 5, b"\3app\xc0\x10"),
        (b"\3app\xc0\x10", 28, loop),
        (b"\3app\4test\0", 1, bytes(4)),
    ]
    assert addresses(query, answer(query, *records)) == ("::1",)


def test_an_answer_to_another_question_is_none() -> None:
    query = encode_query("rpc.test", 1, 7)
    data = answer(query, (b"\xc0\x0c", 1, b"\x7f\0\0\1"))
    assert addresses(query, data) == ("127.0.0.1",)
    assert addresses(query, b"\0\x08" + data[2:]) is None
    assert addresses(query, query) is None


@given(st.binary(max_size=80), st.integers(0, 100))
def test_any_bytes_of_a_name_server_are_an_answer_or_none(noise: bytes, cut: int) -> None:
    query = encode_query("rpc.test", 1, 7)
    whole = answer(query, (b"\xc0\x0c", 1, b"\x7f\0\0\1"))
    for data in (noise, whole[:cut] + noise, query[:2] + b"\x80" + noise):
        found = addresses(query, data)
        assert found is None or all(isinstance(each, str) for each in found)
