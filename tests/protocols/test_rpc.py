"""Environments → requests, responses → decisions, in both encodings and both ways."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.errors import AppFailed
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid, Stream
from catenary.protocols import rpc, rpc_json, rpc_pb2, rpc_protobuf
from catenary.rpc.remote import RpcClientCodec

CHAT = Identifier('{"channel":"ChatChannel"}')
CODECS = pytest.mark.parametrize("codec", [rpc_json, rpc_protobuf], ids=["json", "protobuf"])

# Names, numbers and kinds as the facts about AnyCable's RPC have them: the wire is made of these.
FIELDS = {
    "Env": {"url": 1, "headers": 2, "cstate": 3, "istate": 4},
    "EnvResponse": {"cstate": 1, "istate": 2},
    "PresenceResponse": {"type": 1, "id": 2, "info": 3, "ttl": 4},
    "ConnectionRequest": {"env": 3},
    "ConnectionResponse": {
        "status": 1,
        "identifiers": 2,
        "transmissions": 3,
        "error_msg": 4,
        "env": 5,
    },
    "CommandMessage": {
        "command": 1,
        "identifier": 2,
        "connection_identifiers": 3,
        "data": 4,
        "env": 5,
    },
    "CommandResponse": {
        "status": 1,
        "disconnect": 2,
        "stop_streams": 3,
        "streams": 4,
        "transmissions": 5,
        "error_msg": 6,
        "env": 7,
        "stopped_streams": 8,
        "presence": 9,
    },
    "DisconnectRequest": {"identifiers": 1, "subscriptions": 2, "env": 5},
    "DisconnectResponse": {"status": 1, "error_msg": 2},
}

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
states = st.dictionaries(text, text.filter(bool), max_size=3)
environments = st.builds(
    Environment,
    sid=st.just(Sid("s1")),
    url=text,
    headers=st.dictionaries(text, text, max_size=3),
    identifiers=text,
    cstate=states.map(lambda state: state or None),
    istate=st.dictionaries(text.map(Identifier), states.filter(bool), max_size=3).map(
        lambda state: state or None
    ),
)
decisions = st.builds(
    Decision,
    verdict=st.sampled_from([Verdict.SUCCESS, Verdict.FAILURE]),
    transmissions=st.lists(text, max_size=3).map(tuple),
    streams=st.lists(text.map(Stream), max_size=3).map(tuple),
    stopped_streams=st.lists(text.map(Stream), max_size=3).map(tuple),
    stop_all_streams=st.booleans(),
    disconnect=st.booleans(),
    cstate=st.dictionaries(text, text, max_size=3).map(lambda state: state or None),
    istate=st.dictionaries(text, text, max_size=3).map(lambda state: state or None),
)


def environment() -> Environment:
    return Environment(
        sid=Sid("s1"),
        url="ws://cable.test/cable",
        headers={"cookie": "a=1"},
        identifiers="jack",
        cstate={"c": "1"},
        istate={CHAT: {"i": "2"}, Identifier("other"): {"j": "3"}},
    )


# The wire


def test_the_service_is_the_one_that_applications_serve() -> None:
    service = rpc_pb2.DESCRIPTOR.services_by_name["RPC"]
    assert service.full_name == rpc_protobuf.SERVICE == "anycable.RPC"
    assert {
        method.name: (method.input_type.name, method.output_type.name) for method in service.methods
    } == {
        "Connect": ("ConnectionRequest", "ConnectionResponse"),
        "Command": ("CommandMessage", "CommandResponse"),
        "Disconnect": ("DisconnectRequest", "DisconnectResponse"),
    }


def test_names_and_numbers_are_the_wire_s() -> None:
    messages = rpc_pb2.DESCRIPTOR.message_types_by_name
    assert {
        name: {field.name: field.number for field in message.fields}
        for name, message in messages.items()
    } == FIELDS
    assert dict(rpc_pb2.Status.items()) == {"ERROR": 0, "SUCCESS": 1, "FAILURE": 2}
    assert {status.name: int(status) for status in rpc.Status} == dict(rpc_pb2.Status.items())


# Requests


def test_a_connection_request_carries_the_environment() -> None:
    assert json.loads(rpc_json.encode_connect(environment())) == {
        "env": {
            "url": "ws://cable.test/cable",
            "headers": {"cookie": "a=1"},
            "cstate": {"c": "1"},
        }
    }


def test_a_command_carries_the_state_of_its_own_subscription_only() -> None:
    raw = rpc_json.encode_command(environment(), "message", CHAT, '{"action":"speak"}')
    assert json.loads(raw) == {
        "command": "message",
        "identifier": CHAT,
        "connection_identifiers": "jack",
        "data": '{"action":"speak"}',
        "env": {
            "url": "ws://cable.test/cable",
            "headers": {"cookie": "a=1"},
            "cstate": {"c": "1"},
            "istate": {"i": "2"},
        },
    }


def test_a_disconnect_request_carries_every_state_as_json_text() -> None:
    assert json.loads(rpc_json.encode_disconnect(environment(), (CHAT,))) == {
        "identifiers": "jack",
        "subscriptions": [CHAT],
        "env": {
            "url": "ws://cable.test/cable",
            "headers": {"cookie": "a=1"},
            "cstate": {"c": "1"},
            "istate": {CHAT: '{"i":"2"}', "other": '{"j":"3"}'},
        },
    }


def test_empty_fields_are_omitted_except_the_environment() -> None:
    bare = Environment(Sid("s1"), "", {})
    assert rpc_json.encode_connect(bare) == b'{"env":{}}'
    assert rpc_protobuf.encode_connect(bare) == b"\x1a\x00"
    raw = rpc_json.encode_command(bare, "subscribe", CHAT, "")
    assert set(json.loads(raw)) == {"command", "identifier", "env"}


@CODECS
def test_text_that_is_no_unicode_can_not_be_sent(codec: RpcClientCodec) -> None:
    with pytest.raises(ValueError, match=r"surrogate|utf-8|UTF-8"):
        codec.encode_command(environment(), "message", CHAT, "\ud800")


@given(environments)
def test_the_application_s_end_sees_the_environment_as_it_was(env: Environment) -> None:
    for identifier in (*(env.istate or {}), Identifier("none")):
        message = rpc.command_message(env, "message", identifier, "x")
        seen = rpc.environment_of(message, env.sid)
        assert (seen.url, seen.headers, seen.identifiers) == (env.url, env.headers, env.identifiers)
        assert seen.cstate == env.cstate
        assert seen.istate_of(identifier) == env.istate_of(identifier)
    assert rpc.environment_of(rpc.disconnect_request(env, ()), env.sid) == env


@given(environments)
def test_both_encodings_say_the_same(env: Environment) -> None:
    codecs = (rpc_protobuf, rpc_json)
    requests: tuple[tuple[Any, bytes, bytes], ...] = (
        (rpc_pb2.ConnectionRequest, *(codec.encode_connect(env) for codec in codecs)),
        (
            rpc_pb2.CommandMessage,
            *(codec.encode_command(env, "message", CHAT, "data") for codec in codecs),
        ),
        (
            rpc_pb2.DisconnectRequest,
            *(codec.encode_disconnect(env, (CHAT, CHAT)) for codec in codecs),
        ),
    )
    for kind, raw, text in requests:
        message = kind.FromString(raw)
        fields = json.loads(text)
        other = fields.pop("env")
        assert {
            key: dict(getattr(message.env, key)) for key in ("headers", "cstate", "istate")
        } == {key: other.get(key, {}) for key in ("headers", "cstate", "istate")}
        assert message.env.url == other.get("url", "")
        for key, value in fields.items():
            read = getattr(message, key)
            assert (read if isinstance(read, str) else list(read)) == value


# Responses


@given(decisions)
def test_a_decision_comes_back_as_it_was_sent(decision: Decision) -> None:
    response = rpc.command_response(decision)
    assert rpc.command_decision(response) == decision
    assert (
        rpc.command_decision(rpc_json.decode_command_response(msgspec.json.encode(response)))
        == decision
    )
    message = rpc_pb2.CommandResponse(
        status=rpc_pb2.Status.Name(response.status or 0),
        disconnect=response.disconnect,
        stop_streams=response.stop_streams,
        streams=response.streams,
        transmissions=response.transmissions,
        stopped_streams=response.stopped_streams,
        env=rpc_pb2.EnvResponse(cstate=decision.cstate, istate=decision.istate),
    )
    raw = message.SerializeToString()
    assert rpc.command_decision(rpc_protobuf.decode_command_response(raw)) == decision


def test_a_connection_s_decision_comes_back_as_it_was_sent() -> None:
    decision = Decision(identifiers="jack", transmissions=("welcome",), cstate={"c": "1"})
    response = rpc.connection_response(decision)
    assert rpc.connection_decision(response) == decision
    refusal = Decision(verdict=Verdict.FAILURE, identifiers="jack", transmissions=("bye",))
    assert rpc.connection_decision(rpc.connection_response(refusal)).identifiers == ""


ANSWERS: dict[str, Callable[[Any], object]] = {
    "decode_connection_response": rpc.connection_decision,
    "decode_command_response": rpc.command_decision,
    "decode_disconnect_response": rpc.check_disconnection,
}


@pytest.mark.parametrize("name", ANSWERS)
def test_status_error_and_unknown_statuses_raise_with_the_text(name: str) -> None:
    decode, decide = getattr(rpc_json, name), ANSWERS[name]
    with pytest.raises(AppFailed, match="out of order"):
        decide(decode(b'{"status":0,"error_msg":"out of order","transmissions":["x"]}'))
    for raw in (b"{}", b'{"status":3}', b'{"status":null}'):
        with pytest.raises(AppFailed, match="no text"):
            decide(decode(raw))
    decide(decode(b'{"status":1}'))
    decide(decode(b'{"status":2}'))


@pytest.mark.parametrize("name", ANSWERS)
def test_protobuf_statuses(name: str) -> None:
    decode, decide = getattr(rpc_protobuf, name), ANSWERS[name]
    for raw in (b"", b"\x08\x00", b"\x08\x03"):
        with pytest.raises(AppFailed):
            decide(decode(raw))
    decide(decode(b"\x08\x01"))
    decide(decode(b"\x08\x02"))


@CODECS
@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("raw", [b"<html>", b'{"status":"SUCCESS"', b"[1]", b"\xff\xfe"])
def test_an_invalid_response_is_an_error(codec: RpcClientCodec, name: str, raw: bytes) -> None:
    with pytest.raises(AppFailed, match="expected a"):
        getattr(codec, name)(raw)


def test_null_means_nothing_as_go_and_javascript_write_it() -> None:
    raw = (
        b'{"status":1,"disconnect":null,"stop_streams":null,"streams":null,"transmissions":null,'
        b'"error_msg":null,"stopped_streams":null,"env":{"cstate":null,"istate":{"k":null}},'
        b'"presence":null,"unknown":[1]}'
    )
    decision = rpc.command_decision(rpc_json.decode_command_response(raw))
    assert decision == Decision(istate={"k": ""})
    raw = b'{"status":1,"identifiers":null,"transmissions":null,"env":null}'
    assert rpc.connection_decision(rpc_json.decode_connection_response(raw)) == Decision()


@pytest.mark.parametrize(
    ("sid", "sent"),
    [("abc-123", "abc-123"), ("a\r\nb", "a%0D%0Ab"), ("ü", "%C3%BC"), ("a b", "a b")],
)
def test_metadata_is_safe_to_send(sid: str, sent: str) -> None:
    assert rpc.metadata(Sid(sid)) == {"sid": sent, "protov": "v1"}


def test_a_state_that_another_server_wrote_is_read_where_it_can_be() -> None:
    env = rpc.Env(istate={"a": '{"k":"v"}', "b": "no json"})
    seen = rpc.environment_of(rpc.DisconnectRequest("jack", (), env), Sid("s1"))
    assert seen.istate == {"a": {"k": "v"}, "b": {}}


def test_json_that_is_too_deep_is_no_answer() -> None:
    with pytest.raises(AppFailed):
        rpc_json.decode_command_response(b'{"more":' + b"[" * 2000)
    deep = b"[" * 300_000 + b"]" * 300_000
    with pytest.raises(AppFailed, match="depth"):
        rpc_json.decode_command_response(b'{"more":%b}' % deep)


def test_responses_that_json_parse_accepts_are_read() -> None:
    """Half of a surrogate pair in a transmission, and depth and numbers where nothing is read."""
    deep = b"[" * 2000 + b"]" * 2000
    raw = (
        b'{"status":1,"transmissions":["party \\ud83c","{\\"a\\":1e400}"],"more":[1e400,%b]}' % deep
    )
    decision = rpc.command_decision(rpc_json.decode_command_response(raw))
    assert decision.transmissions == ("party \ufffd", '{"a":1e400}')
    request = rpc_json.decode_command_message(b'{"command":"message","data":"\\ud83c"}')
    assert request.data == "\ufffd"


@pytest.mark.parametrize(
    ("info", "told"),
    [
        ('{"a":"\\ud83c"}', '{"a":"\\ufffd"}'),
        ("[" * 2000 + "]" * 2000, "[" * 2000 + "]" * 2000),
        ('{"a":1e400}', '{"a":1e400}'),
        ("[" * 300_000 + "]" * 300_000, json.dumps("[" * 300_000 + "]" * 300_000)),
    ],
    ids=["half of a surrogate pair", "deep", "large", "too deep"],
)
def test_the_info_of_a_member_is_json(info: str, told: str) -> None:
    response = rpc.CommandResponse(
        rpc.Status.SUCCESS, presence=rpc.PresenceResponse("join", "a", info)
    )
    decision = rpc.command_decision(response)
    assert decision.presence is not None
    assert decision.presence.info == told
