"""Messages between nodes, on Redis and NATS: what is packed can be unpacked, everything else raises ValueError."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from catenary.adapters import packing
from catenary.adapters.nats import payload as nats
from catenary.adapters.redis import payload as redis
from catenary.messages.names import Sid, Stream
from catenary.messages.publications import Position, Publication, RemoteDisconnect

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
epochs = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)
publications = st.builds(
    Publication,
    text.map(Stream),
    text,
    st.none() | text.map(Sid),
    text,
    st.booleans(),
    st.none() | st.builds(Position, epochs, st.integers(0, 2**53)),
)
DEEP = b"\x99\xaadisconnect\xa4jack\xc3" + b"\x91" * 3000


@given(publications)
def test_a_publication_over_redis(publication: Publication) -> None:
    position = publication.position
    front = redis.NOWHERE if position is None else f"{position.epoch} {position.offset} ".encode()
    assert redis.unpack(publication.stream, front + redis.pack(publication)) == publication


@given(publications)
def test_a_publication_over_nats(publication: Publication) -> None:
    assert nats.unpack(nats.pack(publication), publication.position) == publication


@given(identifiers=text, reconnect=st.booleans(), number=st.integers(0, 2**63 - 1))
def test_a_command(identifiers: str, reconnect: bool, number: int) -> None:
    command = RemoteDisconnect(identifiers, reconnect)
    packed = packing.pack_command(command, number)
    assert packing.unpack_command(packed) == packing.NumberedCommand(command, number)


def test_a_command_of_a_node_that_numbers_none() -> None:
    """As Catenary sent it before sessions were ended by remote disconnects."""
    packed = msgspec.msgpack.encode(["disconnect", "i", True])
    expected = packing.NumberedCommand(RemoteDisconnect("i", True), 0)
    assert packing.unpack_command(packed) == expected


def test_a_command_of_anycable_go() -> None:
    raw = b'{"command":"disconnect","payload":{"identifier":"i","reconnect":true}}'
    expected = packing.NumberedCommand(RemoteDisconnect("i", True), 0)
    assert packing.unpack_command(raw) == expected


@given(
    st.binary()
    | st.binary().map(b"{".__add__)
    | st.just(b"{" * 9999)
    | st.just(DEEP)
    | st.just(b"  " + DEEP)
)
def test_anything_is_read_or_a_value_error(raw: bytes) -> None:
    for read in (
        packing.unpack_command,
        lambda raw: redis.unpack(Stream("s"), raw),
        lambda raw: nats.unpack(raw, None),
    ):
        try:
            read(raw)
        except ValueError:
            pass
