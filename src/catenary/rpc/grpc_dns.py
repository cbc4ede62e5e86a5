"""Asks one name server for the addresses of a name, for targets like dns://server/name:port.

Source: RFC 1035, section 4; RFC 3596 for AAAA. Each query is a datagram, sent a second time if no answer comes.
Knows: queries and answers. Does not know: caches, search domains.
"""

import asyncio
import ipaddress
import secrets
import socket
import struct
from typing import Final, cast

_A: Final = 1
_AAAA: Final = 28
_IN: Final = 1
_TRIES: Final = 2
_TIMEOUT_S: Final = 2.0
_RECURSION_DESIRED: Final = 0x0100
_ADDRESS_BYTES: Final = {_A: 4, _AAAA: 16}
_header = struct.Struct(">HHHHHH")
_record = struct.Struct(">HHLH")


async def lookup(name: str, server_ip: str, server_port: int) -> tuple[str, ...]:
    """Returns the IPv4 addresses, then the IPv6 addresses. Raises OSError where there are none."""
    found = await _ask(name, _A, server_ip, server_port)
    try:
        found += await _ask(name, _AAAA, server_ip, server_port)
    except OSError:
        if not found:
            raise
    if not found:
        raise OSError(socket.EAI_NONAME, f"{name} has no addresses")
    return tuple(dict.fromkeys(found))


async def _ask(name: str, kind: int, server_ip: str, server_port: int) -> tuple[str, ...]:
    query = encode_query(name, kind, secrets.randbelow(2**16))
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[tuple[str, ...]] = loop.create_future()
    exchange = _Exchange(query, answer)
    try:
        await loop.create_datagram_endpoint(lambda: exchange, remote_addr=(server_ip, server_port))
        for _ in range(_TRIES):
            exchange.send()
            await asyncio.wait((answer,), timeout=_TIMEOUT_S)
            if answer.done():
                return answer.result()
        raise TimeoutError(f"no answer from the name server {server_ip}")
    finally:
        exchange.close()


class _Exchange(asyncio.DatagramProtocol):
    """Waits for the answer to one query; ignores every other datagram."""

    def __init__(self, query: bytes, answer: asyncio.Future[tuple[str, ...]]) -> None:
        self._query = query
        self._answer = answer
        self._transport: asyncio.DatagramTransport | None = None
        self._is_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not a subclass.
        transport = self._transport = cast("asyncio.DatagramTransport", transport)
        if self._is_closed:
            transport.close()

    def send(self) -> None:
        """Sends the query."""
        if self._transport is not None:
            self._transport.sendto(self._query)

    def close(self) -> None:
        """Closes the socket, also one that is being opened: if that is cancelled, uvloop forgets the socket without closing
        it, and a loop with an open socket can't be closed."""
        self._is_closed = True
        if self._transport is not None:
            self._transport.close()

    def datagram_received(self, data: bytes, addr: object) -> None:
        found = addresses(self._query, data)
        if found is not None and not self._answer.done():
            self._answer.set_result(found)

    def error_received(self, exc: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(exc)


def encode_query(name: str, kind: int, number: int) -> bytes:
    """Encodes a query. Raises OSError for an invalid name."""
    try:
        labels = [label.encode("idna") for label in name.removesuffix(".").split(".")]
    except UnicodeError:
        labels = []
    if not all(labels) or not labels:
        raise OSError(socket.EAI_NONAME, f"expected a host name, got {name!r}")
    packed = b"".join(bytes((len(label),)) + label for label in labels)
    head = _header.pack(number, _RECURSION_DESIRED, 1, 0, 0, 0)
    return head + packed + b"\0" + struct.pack(">HH", kind, _IN)


def addresses(query: bytes, data: bytes) -> tuple[str, ...] | None:
    """Reads the addresses in an answer; None if it does not answer this query, or can't be read.

    Aliases are skipped: the records that they lead to are in the same answer.
    """
    try:
        _, _, queries, records, _, _ = _header.unpack_from(data)
        if data[:2] != query[:2] or not data[2] & 0x80:
            return None
        kind = int.from_bytes(query[-4:-2], "big")
        at = _header.size
        for _ in range(queries):
            at = _after_name(data, at) + 4
        found = []
        for _ in range(records):
            at = _after_name(data, at)
            record_kind, _, _, size = _record.unpack_from(data, at)
            at += _record.size
            if record_kind == kind and size == _ADDRESS_BYTES[kind]:
                found.append(str(ipaddress.ip_address(data[at : at + size])))
            at += size
    except (struct.error, IndexError, ValueError):
        return None
    return tuple(found)


def _after_name(data: bytes, at: int) -> int:
    """Returns the end of a name: after an empty label, or after a pointer to the rest (section 4.1.4)."""
    while data[at]:
        if data[at] & 0xC0:
            return at + 2
        at += data[at] + 1
    return at + 1
