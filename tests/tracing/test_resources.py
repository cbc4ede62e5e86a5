"""The resource of a process's spans."""

from collections.abc import Callable

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan

from catenary.messages.names import Stream
from catenary.messages.publications import Publication
from catenary.tracing.resources import resource
from catenary.tracing.spans import OtelTracer
from catenary.tracing.traced_span import SpanRecorder


def test_all_spans_of_a_process_are_exported_under_its_one_resource() -> None:
    ended: list[Callable[[], ReadableSpan]] = []
    here = resource("chat", "catenary", {"service.version": "1"})
    tracer = OtelTracer(SpanRecorder(ended.append, here), 1)
    for _ in range(2):
        span = tracer.publishing((Publication(Stream("s"), "{}"),))
        assert span is not None
        span.end()
    (group,) = encode_spans([each() for each in ended]).resource_spans
    exported = {each.key: each.value.string_value for each in group.resource.attributes}
    assert exported["service.name"] == "chat"
    assert exported["service.version"] == "1"
    assert len(group.scope_spans[0].spans) == 2
