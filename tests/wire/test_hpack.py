"""HPACK: the examples of RFC 7541, appendix C, and the library ``hpack`` as the peer."""

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.wire.hpack import (
    BlockReader,
    BlockWriter,
    Field,
    HeaderListTooLarge,
    HpackError,
    decode_huffman,
    literal,
)

LIMIT = 65_536


def fields(text: str) -> list[Field]:
    """One field a line, its name up to ": "."""
    return [
        (name.encode(), value.encode())
        for name, _, value in (line.strip().partition(": ") for line in text.strip().splitlines())
    ]


FIRST = ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com"
SECOND = FIRST + "\ncache-control: no-cache"
THIRD = (
    ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\n"
    "custom-key: custom-value"
)
FOUND = (
    ":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\n"
    "location: https://www.example.com"
)
FOUND_ELSEWHERE = FOUND.replace("302", "307")
OK = (
    ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\n"
    "location: https://www.example.com\ncontent-encoding: gzip\n"
    "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
)
SMALL_TABLE = "3fe101"  # a size update to 256: these examples begin with such a table

EXAMPLES = {
    "C.2.1": [
        ("400a637573746f6d2d6b65790d637573746f6d2d686561646572", "custom-key: custom-header")
    ],
    "C.2.2": [("040c2f73616d706c652f70617468", ":path: /sample/path")],
    "C.2.3": [("100870617373776f726406736563726574", "password: secret")],
    "C.2.4": [("82", ":method: GET")],
    "C.3": [
        ("828684410f7777772e6578616d706c652e636f6d", FIRST),
        ("828684be58086e6f2d6361636865", SECOND),
        ("828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565", THIRD),
    ],
    "C.4": [
        ("828684418cf1e3c2e5f23a6ba0ab90f4ff", FIRST),
        ("828684be5886a8eb10649cbf", SECOND),
        ("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", THIRD),
    ],
    "C.5": [
        (
            SMALL_TABLE + "4803333032580770726976617465611d4d6f6e2c203231204f63742032303133"
            "2032303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d",
            FOUND,
        ),
        ("4803333037c1c0bf", FOUND_ELSEWHERE),
        (
            "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738"
            "666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d33"
            "3630303b2076657273696f6e3d31",
            OK,
        ),
    ],
    "C.6": [
        (
            SMALL_TABLE + "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a6"
            "2d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
            FOUND,
        ),
        ("4883640effc1c0bf", FOUND_ELSEWHERE),
        (
            "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7"
            "b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
            OK,
        ),
    ],
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_of_appendix_c(example: str) -> None:
    reader = BlockReader(LIMIT)
    for block, text in EXAMPLES[example]:
        assert reader.read(bytes.fromhex(block)) == fields(text)


@pytest.mark.parametrize(
    "block",
    [
        "80",  # index 0
        "be",  # index 62 of an empty table
        "ff80808080800f",  # an integer of more bytes than any use has
        "3fe21f",  # a table of 4,097 bytes
        "8220",  # a size update after a field
        "40",
        "4001",
        "400161",
        "40016105",
        "00018061",
        "0081ff81ff00",  # a one too many: seven bits of padding are the most
        "008179ff",
    ],
)
def test_blocks_that_can_not_be_read(block: str) -> None:
    with pytest.raises(HpackError, match="expected"):
        BlockReader(LIMIT).read(bytes.fromhex(block))


@pytest.mark.parametrize("code", ["ff", "ffff", "ffffffff", "fffffffc", "00"])
def test_huffman_code_that_is_none(code: str) -> None:
    with pytest.raises(HpackError, match="expected"):
        decode_huffman(bytes.fromhex(code))


def test_every_symbol_of_the_huffman_code() -> None:
    encoder = hpack.Encoder()
    for symbol in range(256):
        value = bytes((symbol,)) * 3
        block = encoder.encode([(b"x", value, True)], huffman=True)
        assert BlockReader(LIMIT).read(block) == [(b"x", value)]


def test_a_list_that_is_too_large_does_not_spoil_the_table() -> None:
    encoder = hpack.Encoder()
    reader = BlockReader(max_list_bytes=1_000)
    with pytest.raises(HeaderListTooLarge, match="1000"):
        reader.read(encoder.encode([(b"kept", b"x" * 500), (b"kept-too", b"y" * 500)]))
    assert reader.read(encoder.encode([(b"kept", b"x" * 500)])) == [(b"kept", b"x" * 500)]


def test_a_small_block_can_not_become_a_large_list() -> None:
    block = b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4_000 + b"\xbe" * 60_000
    with pytest.raises(HeaderListTooLarge):
        BlockReader(LIMIT).read(block)


def test_entries_for_which_there_is_no_room_are_gone() -> None:
    reader = BlockReader(LIMIT)
    entry = b"\x40\x01a\x7f\x59" + b"x" * 216  # counts 249 bytes: there is room for 16
    reader.read(entry * 20)
    assert reader.read(bytes((0x80 | 77,))) == [(b"a", b"x" * 216)]
    with pytest.raises(HpackError, match="index"):
        reader.read(bytes((0x80 | 78,)))
    reader.read(entry + b"\x40\x01a\x7f\xa1\x3e" + b"x" * 8_096)
    with pytest.raises(HpackError, match="index"):
        reader.read(bytes((0x80 | 62,)))


def test_more_fields_than_the_table_holds_are_written_all_the_same() -> None:
    writer, decoder = BlockWriter(), hpack.Decoder()
    request = tuple((b"name-%d" % number, b"x" * 200) for number in range(40))
    for _ in range(3):
        assert list(decoder.decode(writer.write(request), raw=True)) == list(request)


def test_changes_tell_when_a_block_may_mean_something_else() -> None:
    reader = BlockReader(LIMIT)
    reader.read(b"\x82" + literal(b"a", b"b"))
    assert reader.changes == 0
    reader.read(b"\x40\x01a\x01b")
    assert reader.changes == 1
    reader.read(b"\x20")
    assert reader.changes == 2


names = st.binary(min_size=1, max_size=20)
lists = st.lists(st.tuples(names, st.binary(max_size=200), st.booleans()), max_size=8)


@given(st.lists(st.tuples(lists, st.booleans()), max_size=8))
def test_reads_blocks_of_the_library(
    blocks: list[tuple[list[tuple[bytes, bytes, bool]], bool]],
) -> None:
    encoder, reader = hpack.Encoder(), BlockReader(LIMIT)
    for given_fields, huffman in blocks:
        block = encoder.encode(given_fields, huffman=huffman)
        assert reader.read(block) == [(name, value) for name, value, _ in given_fields]


@given(
    st.lists(
        st.tuples(st.lists(st.tuples(names, st.binary(max_size=900)), max_size=8), st.booleans()),
        max_size=8,
    )
)
def test_the_library_reads_the_blocks(blocks: list[tuple[list[Field], bool]]) -> None:
    writer, decoder = BlockWriter(), hpack.Decoder()
    for given_fields, shrink in blocks:
        if shrink:
            writer.limit_table(0)
        block = writer.write(tuple(given_fields)) + literal(b"more", b"y" * 300)
        read = [tuple(field) for field in decoder.decode(block, raw=True)]
        assert read == [*given_fields, (b"more", b"y" * 300)]


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_random_bytes_raise_nothing_else(blocks: list[bytes]) -> None:
    reader = BlockReader(max_list_bytes=500)
    for block in blocks:
        try:
            reader.read(block)
        except (HpackError, HeaderListTooLarge):
            pass


def test_fields_that_come_again_become_small() -> None:
    writer = BlockWriter()
    request = ((b":method", b"POST"), (b":path", b"/anycable.RPC/Connect"), (b"te", b"trailers"))
    first = writer.write(request)
    changes = writer.changes
    assert len(first) > 30
    assert len(writer.write(request)) == 3
    assert writer.changes == changes


def test_a_smaller_table_is_announced_and_not_used() -> None:
    writer = BlockWriter()
    writer.write(((b"te", b"trailers"),))
    writer.limit_table(100)
    changes = writer.changes
    assert writer.write(((b"te", b"trailers"),)) == b"\x20" + literal(b"te", b"trailers")
    assert writer.changes > changes
    assert writer.write(((b"te", b"trailers"),)) == literal(b"te", b"trailers")
