"""Spans of clients, calls, publications and deliveries in one node, by OpenTelemetry's exporter for tests."""

import asyncio
import json
from functools import partial

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from catenary.adapters.memory.history import LocalHistory
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Sid, Stream
from catenary.metrics.counters import Counters
from catenary.node.disconnector import Ended
from catenary.node.session import Traits
from catenary.rpc.calls import Attempt, Caller, CallLimits, Procedure, RpcCall
from catenary.tracing.application import TracedApplication
from tests.parts.heart import NEVER, Heart, PreparedApplication, confirming, in_loop, room, settle
from tests.parts.spans import MemoryTracer, attributes_of, id_of, parent_of, trace_of

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
UNSAMPLED = f"00-{TRACE}-b7ad6b7169203331-00"
CHAT = room("chat")


def admitted(heart: Heart, tracer: MemoryTracer, traceparent: str = PARENT) -> Traits:
    environment = Environment(Sid("sid-1"), "ws://test/cable?jid=secret", {})
    return Traits(NEVER, span=tracer.handshake(environment, {"traceparent": traceparent}, 0))


# Clients


@in_loop
async def test_a_connect_is_traced_until_the_client_was_welcomed() -> None:
    tracer = MemoryTracer(ratio=0)
    heart = Heart(tracer=tracer)
    answer = heart.application.later("connect")
    heart.connect("sid-1", traits=admitted(heart, tracer))
    await settle()
    assert tracer.spans == ()
    answer.set_result(Decision(identifiers="x"))
    await settle()
    span = tracer.named("connect")
    assert span.kind is SpanKind.SERVER
    assert trace_of(span) == int(TRACE, 16)
    assert attributes_of(span)["url.path"] == "/cable"
    assert span.status.status_code is StatusCode.UNSET


@in_loop
async def test_a_rejected_client_is_a_failed_connect() -> None:
    tracer = MemoryTracer(ratio=0)
    heart = Heart(tracer=tracer)
    heart.application.prepare("connect", Decision(verdict=Verdict.FAILURE))
    heart.connect("sid-1", traits=admitted(heart, tracer))
    span = tracer.named("connect")
    assert attributes_of(span)["error.type"] == "auth_failed"
    assert span.status.status_code is StatusCode.ERROR


@in_loop
async def test_a_client_that_leaves_before_the_decision_ends_its_span() -> None:
    tracer = MemoryTracer(ratio=0)
    heart = Heart(tracer=tracer)
    heart.application.later("connect")
    client = heart.connect("sid-1", traits=admitted(heart, tracer))
    await settle()
    client.leave()
    await settle()
    assert attributes_of(tracer.named("connect"))["error.type"] == "CancelledError"


def test_too_many_clients_that_ask_for_a_trace_are_not_traced_and_counted() -> None:
    tracer = MemoryTracer(ratio=0)
    spans = [
        tracer.handshake(Environment(Sid("s"), "ws://test/", {}), {"traceparent": PARENT}, 0)
        for _ in range(150)
    ]
    assert sum(each is not None and each.is_recorded for each in spans) == 100
    assert tracer.limited_total == 50


# Commands


@in_loop
async def test_commands_are_traced_with_names_and_without_contents() -> None:
    tracer = MemoryTracer()
    heart = Heart(tracer=tracer)
    client = heart.connect()
    client.say("subscribe", CHAT)
    client.say("message", CHAT, data=json.dumps({"action": "speak", "text": "private"}))
    client.say("message", CHAT, data=json.dumps({"action": "no name: private"}))
    client.say("unsubscribe", CHAT)
    names = ["subscribe", "perform", "perform", "unsubscribe"]
    assert tracer.names == names
    subscribe, perform, unnamed, _ = tracer.spans
    assert attributes_of(subscribe) == {"catenary.sid": "sid-1", "catenary.channel": "Room"}
    assert attributes_of(perform)["catenary.action"] == "speak"
    assert "catenary.action" not in attributes_of(unnamed)
    assert "private" not in str([each.to_json() for each in tracer.spans])
    assert len({trace_of(each) for each in tracer.spans}) == len(names)


@in_loop
async def test_a_history_that_was_asked_for_with_a_subscription_is_a_part_of_it() -> None:
    tracer = MemoryTracer()
    history = LocalHistory(limit=9, ttl_s=9, epoch="e", clock=lambda: 0.0)
    heart = Heart(tracer=tracer, history=history)
    client = heart.connect()
    client.say("subscribe", CHAT, history={"since": 1})
    await settle()
    assert tracer.names == ["history", "subscribe"], client.heard
    subscribe, read = tracer.named("subscribe"), tracer.named("history")
    assert parent_of(read) == id_of(subscribe)


@in_loop
async def test_a_command_that_waited_for_a_traced_one_is_no_part_of_it() -> None:
    tracer = MemoryTracer()
    heart = Heart(tracer=tracer)
    client = heart.connect()
    client.subscribe(CHAT)
    answer = heart.application.later("perform")
    client.say("message", CHAT, data='{"action":"first"}')
    client.say("message", CHAT, data='{"action":"second"}')
    await settle()
    answer.set_result(Decision())
    await settle()
    performs = [each for each in tracer.spans if each.name == "perform"]
    assert [attributes_of(each)["catenary.action"] for each in performs] == ["first", "second"]
    assert [parent_of(each) for each in performs] == [0, 0]


@in_loop
async def test_what_is_not_sampled_leaves_no_span() -> None:
    tracer = MemoryTracer(ratio=0)
    heart = Heart(tracer=tracer)
    client = heart.member("chat")
    client.say("message", CHAT, data="{}")
    heart.node.publications.publish(b'{"stream":"chat","data":"1"}')
    client.leave()
    await settle()
    assert tracer.spans == ()
    assert client.messages == [1]


# Calls


class Wire:
    """Makes attempts, which the test ends."""

    def __init__(self) -> None:
        self.calls: list[RpcCall[Decision]] = []

    def send(self, call: RpcCall[Decision], timeout_s: float | None) -> Attempt:
        self.calls.append(call)
        return self

    def cancel(self) -> None: ...


def calling(heart: Heart, tracer: MemoryTracer, wire: Wire) -> None:
    """Lets the application be called as one behind RPC is."""
    caller = Caller(CallLimits(), Counters(), wire.send, tracer=tracer, system="grpc")
    command = Procedure("Command", bytes, lambda raw: Decision())
    heart.application.answer = lambda *_: caller.call(command, Sid("s"), b"")  # type: ignore[method-assign]


@in_loop
async def test_a_call_is_a_part_of_its_command_and_says_how_often_it_was_repeated() -> None:
    tracer, wire = MemoryTracer(), Wire()
    heart = Heart(tracer=tracer)
    client = heart.member("chat")
    tracer.clear()
    calling(heart, tracer, wire)
    client.say("message", CHAT, data="{}")
    (call,) = wire.calls
    assert call.span is not None
    sent = dict(call.span.headers)["traceparent"]
    call.answered(b"")
    command, span = tracer.named("perform"), tracer.named("anycable.RPC/Command")
    assert (parent_of(span), span.kind) == (id_of(command), SpanKind.CLIENT)
    assert sent == f"00-{trace_of(command):032x}-{id_of(span):016x}-01"


@in_loop
async def test_a_call_whose_client_leaves_ends_its_spans() -> None:
    tracer, wire = MemoryTracer(), Wire()
    heart = Heart(tracer=tracer)
    client = heart.member("chat")
    tracer.clear()
    calling(heart, tracer, wire)
    client.say("message", CHAT, data="{}")
    client.leave()
    await settle()
    assert attributes_of(tracer.named("anycable.RPC/Command"))["error.type"] == "CancelledError"
    assert "perform" in tracer.names


@in_loop
async def test_calls_of_a_trace_that_is_not_sampled_pass_it_on() -> None:
    tracer, wire = MemoryTracer(ratio=0), Wire()
    heart = Heart(tracer=tracer)
    calling(heart, tracer, wire)
    heart.connect("sid-1", traits=admitted(heart, tracer, UNSAMPLED))
    await settle()
    (call,) = wire.calls
    assert call.span is not None
    assert dict(call.span.headers) == {"traceparent": UNSAMPLED}
    call.answered(b"")
    await settle()
    assert tracer.spans == ()


@in_loop
async def test_an_application_finds_the_span_as_the_current_one_at_each_of_its_steps() -> None:
    tracer = MemoryTracer()
    heart = Heart(tracer=tracer)
    seen = []

    async def decide() -> Decision:
        seen.append(trace.get_current_span().get_span_context().span_id)
        await asyncio.sleep(0)
        seen.append(trace.get_current_span().get_span_context().span_id)
        heart.node.publications.publish(b'{"stream":"chat","data":"1"}')
        return confirming(CHAT)

    client = heart.connect()
    own = PreparedApplication()
    own.prepare("subscribe", decide())
    environment = Environment(Sid("sid-1"), "ws://test/", {})
    called = partial(TracedApplication(tracer, own, "in_process").subscribe, environment)
    heart.application.answer = lambda *_: called(CHAT)  # type: ignore[method-assign]
    client.say("subscribe", CHAT)
    await settle()
    call = tracer.named("catenary/Command")
    assert seen == [id_of(call)] * 2
    assert parent_of(tracer.named("publish")) == id_of(call)
    assert trace.get_current_span().get_span_context().span_id == 0


@in_loop
async def test_the_end_of_a_session_is_traced() -> None:
    tracer = MemoryTracer()
    heart = Heart(tracer=tracer)
    heart.disconnector.enqueue(Ended(Environment(Sid("s"), "ws://test/", {}), ()))
    await heart.disconnector.drain(5)
    assert attributes_of(tracer.named("disconnect")) == {"catenary.sid": "s"}


# Publications


@in_loop
async def test_a_publication_is_traced_to_its_deliveries() -> None:
    tracer = MemoryTracer(ratio=0)
    heart = Heart(tracer=tracer)
    clients = [heart.member("chat") for _ in range(3)]
    raw = json.dumps(
        {"stream": "chat", "data": "1", "meta": {"traceparent": PARENT, "tracestate": "a=1"}}
    )
    heart.node.publications.publish(raw)
    assert [each.messages for each in clients] == [[1]] * 3
    publish, deliver = tracer.named("publish"), tracer.named("deliver")
    assert publish.kind is SpanKind.PRODUCER
    assert (trace_of(publish), parent_of(publish)) == (int(TRACE, 16), 0xB7AD6B7169203331)
    assert deliver.kind is SpanKind.CONSUMER
    assert (trace_of(deliver), parent_of(deliver)) == (int(TRACE, 16), id_of(publish))
    assert [each.context.span_id for each in deliver.links] == [id_of(publish)]
    assert attributes_of(deliver) == {
        "messaging.system": "catenary",
        "messaging.operation.name": "deliver",
        "messaging.operation.type": "process",
        "messaging.destination.name": "chat",
        "messaging.message.body.size": 1,
        "catenary.delivery.clients": 3,
    }
    assert deliver.context is not None
    assert deliver.context.trace_state.to_header() == "a=1"


@pytest.mark.parametrize("listeners", [0, 1])
@in_loop
async def test_a_stream_with_few_listeners_is_traced_as_well(listeners: int) -> None:
    tracer = MemoryTracer(ratio=0)
    heart = Heart(tracer=tracer)
    for _ in range(listeners):
        heart.member("chat")
    heart.node.publications.publish(b'{"stream":"chat","data":"1"}', None, PARENT)
    assert tracer.names == ["deliver"] * listeners + ["publish"]


@in_loop
async def test_a_whisper_belongs_to_its_command() -> None:
    tracer = MemoryTracer()
    heart = Heart(tracer=tracer)
    decision = Decision(streams=(Stream("chat"),), whisper_stream=Stream("chat"))
    heart.application.prepare("subscribe", decision)
    client = heart.connect()
    client.say("subscribe", CHAT)
    client.say("whisper", CHAT, data="1")
    assert parent_of(tracer.named("publish")) == id_of(tracer.named("whisper"))


@in_loop
async def test_of_a_large_batch_the_first_deliveries_are_traced() -> None:
    tracer = MemoryTracer(ratio=0)
    heart = Heart(tracer=tracer)
    client = heart.member("chat")
    batch = [{"stream": "chat", "data": "1"} for _ in range(150)]
    sent = heart.node.publications.publish(json.dumps(batch), None, PARENT)
    if sent is not None:
        await sent
    assert len(client.messages) == 150
    assert tracer.names.count("deliver") == 100
    assert attributes_of(tracer.named("publish"))["messaging.batch.message_count"] == 150


@in_loop
async def test_a_publication_that_is_not_sampled_is_not_traced() -> None:
    tracer = MemoryTracer()
    heart = Heart(tracer=tracer)
    client = heart.member("chat")
    tracer.clear()
    heart.node.publications.publish(b'{"stream":"chat","data":"1"}', None, UNSAMPLED)
    assert client.messages == [1]
    assert tracer.spans == ()
