"""A DNS server with the few names that a test gives it: A records, no cache, no recursion.

Source: RFC 1035, section 4.
"""

import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_A, _IN = 1, 1


@contextmanager
def dns_server(names: Mapping[str, tuple[str, ...]]) -> Iterator[int]:
    """Serves names with their IPv4 addresses; gives the UDP port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=_serve, args=(server, names))
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.sendto(b"", server.getsockname())  # the word to stop
            thread.join()


def _serve(server: socket.socket, names: Mapping[str, tuple[str, ...]]) -> None:
    while True:
        query, client = server.recvfrom(512)
        if not query:
            return
        server.sendto(_answer(query, names), client)


def _answer(query: bytes, names: Mapping[str, tuple[str, ...]]) -> bytes:
    end = query.index(b"\0", 12)
    question = query[12 : end + 5]
    kind, _ = struct.unpack("!HH", question[-4:])
    name = _name(question[:-4])
    addresses = names.get(name, ()) if kind == _A else ()
    records = b"".join(
        struct.pack("!HHHIH4s", 0xC00C, _A, _IN, 1, 4, socket.inet_aton(address))
        for address in addresses
    )
    flags = 0x8400 if name in names else 0x8403
    header = struct.pack("!2sHHHHH", query[:2], flags, 1, len(addresses), 0, 0)
    return header + question + records


def _name(labels: bytes) -> str:
    parts: list[str] = []
    while labels and labels[0]:
        length = labels[0]
        parts.append(labels[1 : length + 1].decode())
        labels = labels[length + 1 :]
    return ".".join(parts)
