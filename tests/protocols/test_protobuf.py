"""The own encoder and decoder, compared with the library."""

from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from catenary.errors import AppFailed
from catenary.protocols import rpc, rpc_pb2, rpc_protobuf
from catenary.protocols.protobuf import block, key, text, texts, varint

TEXTS = st.text(st.characters(codec="utf-8"), max_size=200)


@given(TEXTS, st.dictionaries(TEXTS, TEXTS, max_size=4))
@example("x" * 127, {"": ""})
@example("x" * 128, {"k": "é" * 20_000})
def test_fields_are_as_the_library_writes_them(url: str, headers: dict[str, str]) -> None:
    raw = text(key(1), url) + texts(key(2), headers)
    assert rpc_pb2.Env.FromString(raw) == rpc_pb2.Env(url=url, headers=headers)
    request = block(key(3), raw)
    assert rpc_pb2.ConnectionRequest.FromString(request).env.url == url


@given(st.integers(0, 2**35))
@example(0x7F)
@example(0x80)
def test_numbers_of_any_size(number: int) -> None:
    raw = b"\x08" + varint(number & 0x7FFFFFFF)
    message = rpc_pb2.PresenceResponse.FromString(b"\x20" + raw[1:])
    assert message.ttl == number & 0x7FFFFFFF


ANSWERS = st.builds(
    rpc_pb2.CommandResponse,
    status=st.sampled_from(["ERROR", "SUCCESS", "FAILURE"]),
    disconnect=st.booleans(),
    streams=st.lists(TEXTS, max_size=3),
    transmissions=st.lists(TEXTS, max_size=3),
    stopped_streams=st.lists(TEXTS, max_size=1),
    error_msg=st.sampled_from(["", "broken"]),
)


@given(ANSWERS)
@example(rpc_pb2.CommandResponse(status="SUCCESS", transmissions=["x" * 127, "y" * 128]))
@example(rpc_pb2.CommandResponse(status="SUCCESS", transmissions=["x" * 20_000]))
def test_an_answer_means_the_same_whoever_reads_it(message: rpc_pb2.CommandResponse) -> None:
    read = rpc_protobuf.decode_command_response(message.SerializeToString())
    assert read == rpc.CommandResponse(
        status=int(message.status),
        disconnect=message.disconnect,
        streams=tuple(message.streams),
        transmissions=tuple(message.transmissions),
        stopped_streams=tuple(message.stopped_streams),
        error_msg=message.error_msg,
    )


@given(
    st.one_of(
        st.binary(max_size=40),
        st.tuples(ANSWERS, st.integers(0, 60), st.binary(max_size=3)).map(
            lambda damage: damage[0].SerializeToString()[: damage[1]] + damage[2]
        ),
    )
)
@example(b"\x08\x01\x2a\x05abc")
@example(b"\x08\x01\x2a\x02\xff\xfe")
@example(b"\x08\x80\x01")
@example(b"\x2a")
@example(b"\x2a\x80")
def test_invalid_messages_are_refused_as_by_the_library(raw: bytes) -> None:
    message = rpc_pb2.CommandResponse()
    try:
        message.ParseFromString(raw)
    except DecodeError:
        refused = True
    else:
        refused = False
    try:
        read = rpc_protobuf.decode_command_response(raw)
    except AppFailed:
        assert refused
    else:
        assert not refused
        assert (read.status, read.transmissions) == (message.status, tuple(message.transmissions))
