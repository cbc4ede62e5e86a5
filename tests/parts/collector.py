"""A collector of traces: an HTTP server that reads OTLP in Protobuf, as real collectors do."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

DEADLINE_S = 30.0


@dataclass(frozen=True)
class Collected:
    """One span; ids are in hexadecimal, "" for none. ``resource`` describes its process."""

    name: str
    trace: str
    id: str
    parent: str
    kind: str
    attributes: dict[str, str | int]
    links: tuple[str, ...]
    is_failed: bool
    start_ns: int
    end_ns: int
    resource: dict[str, str | int]


@dataclass
class Collector:
    """Spans in the order in which they arrived."""

    url: str
    spans: list[Collected] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self._changed:
            self.bodies.append(body)
            self.spans.extend(_spans(request))
            self._changed.notify_all()

    def named(self, name: str) -> list[Collected]:
        """The spans of a name."""
        return [each for each in self.spans if each.name == name]

    def of(self, trace: str) -> list[Collected]:
        """The spans of a trace, in the order of their starts."""
        return sorted((each for each in self.spans if each.trace == trace), key=_start)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Returns once a condition over the spans holds. Raises TimeoutError with their names."""
        deadline = time.monotonic() + DEADLINE_S
        with self._changed:
            if not self._changed.wait_for(condition, deadline - time.monotonic()):
                raise TimeoutError(f"got {[each.name for each in self.spans]}")


@contextmanager
def collector() -> Iterator[Collector]:
    """A running collector."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/traces":
                found.take(body)
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _start(span: Collected) -> int:
    return span.start_ns


def _spans(request: ExportTraceServiceRequest) -> Iterator[Collected]:
    for group in request.resource_spans:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Collected(
                    name=span.name,
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
                    attributes=_attributes(span.attributes),
                    links=tuple(each.span_id.hex() for each in span.links),
                    is_failed=span.status.code == 2,
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    resource=resource,
                )


def _attributes(pairs: object) -> dict[str, str | int]:
    return {
        each.key: each.value.string_value or each.value.int_value
        for each in pairs  # type: ignore[attr-defined]
    }
