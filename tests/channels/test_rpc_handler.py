"""A cable behind RPC: both encodings, and what is no request."""

import asyncio
import json
from collections.abc import Mapping
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.channels.rpc_handler import RpcCodec, RpcHandler
from catenary.errors import ProtocolError
from catenary.messages.decisions import Decision, PresenceCommand, Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from catenary.protocols import rpc, rpc_json, rpc_pb2, rpc_protobuf
from tests.channels.chat import chat
from tests.parts.heart import in_loop

CODECS = pytest.mark.parametrize("codec", [rpc_json, rpc_protobuf], ids=["json", "protobuf"])
ROOM = Identifier('{"channel":"RoomChannel","id":1}')

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
states = st.dictionaries(text, text, max_size=3)
environments = st.builds(
    Environment,
    st.just(Sid("s1")),
    text,
    states,
    text,
    states,
    st.dictionaries(text.map(Identifier), states, max_size=3),
)
env_responses = st.none() | st.builds(rpc.EnvResponse, states, states)
responses = st.one_of(
    st.builds(
        rpc.ConnectionResponse,
        st.sampled_from([1, 2]),
        text,
        st.lists(text).map(tuple),
        text,
        env_responses,
    ),
    st.builds(
        rpc.CommandResponse,
        st.sampled_from([1, 2]),
        st.booleans(),
        st.booleans(),
        st.lists(text).map(tuple),
        st.lists(text).map(tuple),
        text,
        env_responses,
        st.lists(text).map(tuple),
        st.none() | st.builds(rpc.PresenceResponse, text, text, text),
    ),
    st.builds(rpc.DisconnectResponse, st.sampled_from([1, 2]), text),
)


@CODECS
@given(environment=environments, identifier=text.map(Identifier), data=text)
def test_requests_are_decoded_as_they_were_encoded(
    codec: ModuleType, environment: Environment, identifier: Identifier, data: str
) -> None:
    raw = codec.encode_connect(environment)
    assert codec.decode_connection_request(raw) == rpc.connection_request(environment)
    for action in rpc.ACTIONS:
        raw = codec.encode_command(environment, action, identifier, data)
        expected = rpc.command_message(environment, action, identifier, data)
        assert codec.decode_command_message(raw) == expected
    raw = codec.encode_disconnect(environment, (identifier, identifier))
    expected_end = rpc.disconnect_request(environment, (identifier, identifier))
    assert codec.decode_disconnect_request(raw) == expected_end


@CODECS
@given(response=responses)
def test_responses_are_decoded_as_they_were_encoded(
    codec: ModuleType, response: rpc.Response
) -> None:
    read = {
        rpc.ConnectionResponse: lambda raw: rpc.connection_decision(
            codec.decode_connection_response(raw)
        ),
        rpc.CommandResponse: lambda raw: rpc.command_decision(codec.decode_command_response(raw)),
        rpc.DisconnectResponse: codec.decode_disconnect_response,
    }[type(response)]
    decided = {
        rpc.ConnectionResponse: rpc.connection_decision,
        rpc.CommandResponse: rpc.command_decision,
        rpc.DisconnectResponse: lambda response: response,
    }[type(response)]
    raw = codec.encode_response(response)
    assert read(raw) == decided(response)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("command", "sent"),
    [
        (PresenceCommand("join", "7", '{"a":1}'), rpc.PresenceResponse("join", "7", '{"a":1}')),
        (PresenceCommand("leave", "7"), rpc.PresenceResponse("leave", "7", "")),
    ],
)
def test_presence_commands_are_in_responses(
    command: PresenceCommand, sent: rpc.PresenceResponse
) -> None:
    decision = Decision(presence=command)
    response = rpc.command_response(decision)
    assert response.presence == sent
    assert rpc.command_decision(response) == decision


async def call(
    codec: RpcCodec, name: str, raw: bytes, metadata: Mapping[str, str] | None = None
) -> bytes:
    return await RpcHandler(chat().application, codec).procedures[name](
        raw, metadata or {"sid": "s1"}
    )


@CODECS
def test_the_sid_is_in_the_metadata_and_state_in_both_directions(codec: ModuleType) -> None:
    @in_loop
    async def scenario() -> None:
        environment = Environment(Sid("s1"), "ws://test/cable?name=jack", {})
        raw = codec.encode_connect(environment)
        answer = codec.decode_connection_response(await call(codec, "connect", raw))
        connected = rpc.connection_decision(answer)
        assert [json.loads(each) for each in connected.transmissions] == [
            {"type": "welcome", "sid": "s1"}
        ]
        environment.identifiers = connected.identifiers
        raw = codec.encode_command(environment, "subscribe", ROOM, "")
        decision = rpc.command_decision(
            codec.decode_command_response(await call(codec, "command", raw))
        )
        assert decision.streams == ("RoomChannel:1",)
        assert decision.istate == {"$w": "RoomChannel:1", "$p": "RoomChannel:1", "count": "1"}
        assert decision.presence == PresenceCommand("join", "jack", '{"room":1}')
        environment.merge_istate(ROOM, decision.istate)
        raw = codec.encode_command(environment, "message", ROOM, '{"action":"add","word":"a"}')
        decision = rpc.command_decision(
            codec.decode_command_response(await call(codec, "command", raw))
        )
        assert decision.istate == {"words": '["a"]', "count": "2"}
        assert decision.cstate == {"calls": "1"}

    scenario()


@CODECS
def test_an_exception_in_the_application_is_status_error(codec: ModuleType) -> None:
    @in_loop
    async def scenario() -> None:
        environment = Environment(Sid("s1"), "", {}, '{"name":"jack"}')
        asked = codec.encode_command(environment, "message", ROOM, '{"action":"divide","by":0}')
        raw = await call(codec, "command", asked)
        response = codec.decode_command_response(raw)
        assert response.status in (None, rpc.Status.ERROR)
        assert response.error_msg.startswith("ZeroDivisionError: ")
        assert response.env is None

    scenario()


@CODECS
@pytest.mark.parametrize("name", ["connect", "command", "disconnect"])
def test_an_invalid_request_is_a_protocol_error(codec: ModuleType, name: str) -> None:
    with pytest.raises(ProtocolError, match="expected a "):
        asyncio.run(call(codec, name, b"\xff\xfe<html>"))


@pytest.mark.parametrize(
    ("codec", "raw"),
    [
        (rpc_json, b'{"command":"dance"}'),
        (rpc_protobuf, rpc_pb2.CommandMessage(command="dance").SerializeToString()),
    ],
)
def test_an_unknown_command_is_a_protocol_error(codec: ModuleType, raw: bytes) -> None:
    with pytest.raises(ProtocolError, match="got 'dance'"):
        asyncio.run(call(codec, "command", raw))


def test_a_rejected_subscription_has_its_message() -> None:
    @in_loop
    async def scenario() -> None:
        environment = Environment(Sid("s1"), "", {}, '{"name":"jack"}')
        nowhere = Identifier('{"channel":"RoomChannel","id":-1}')
        raw = rpc_json.encode_command(environment, "subscribe", nowhere, "")
        decision = rpc.command_decision(
            rpc_json.decode_command_response(await call(rpc_json, "command", raw))
        )
        assert decision.verdict is Verdict.FAILURE
        assert [json.loads(each) for each in decision.transmissions] == [
            {"type": "reject_subscription", "identifier": nowhere}
        ]

    scenario()
