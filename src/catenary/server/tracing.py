"""Builds the tracer and the export of its spans, and registers their figures and their shutdown."""

import secrets
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

from catenary import __version__
from catenary.config.effective import sample_ratio
from catenary.config.options import Options
from catenary.errors import ConfigError, MissingExtra
from catenary.ports import NodePublisher
from catenary.process.worker_context import WorkerContext
from catenary.server.shutdown_phases import EXPORT_TRACES
from catenary.tracer import Tracer
from catenary.tracing.application import TracedPublisher

if TYPE_CHECKING:
    from catenary.server.build import ServerBuild
    from catenary.tracing.export import SpanExport
    from catenary.tracing.spans import OtelTracer

_SERVICE: Final = "catenary"


class Tracing(NamedTuple):
    """A tracer, and the export of its spans."""

    tracer: "OtelTracer"
    export: "SpanExport"


def build_tracing(options: Options, worker: WorkerContext | None) -> Tracing | None:
    """None unless tracing is on. Raises :class:`catenary.errors.ConfigError`."""
    otel = options.otel
    if not otel.enabled:
        return None
    try:
        from catenary.tracing.export import SpanExport, delay_of, exporter_of
        from catenary.tracing.resources import resource
        from catenary.tracing.spans import OtelTracer
        from catenary.tracing.traced_span import SpanRecorder
    except ImportError as error:
        raise MissingExtra("otel", "otel") from error
    try:
        exporter = exporter_of(otel.exporter, otel.endpoint, sys.stdout)
        export = SpanExport(exporter, delay_ms=delay_of(otel.exporter))
    except ValueError as error:
        raise ConfigError(f"otel: a variable OTEL_… is refused: {error}") from error
    described = {"service.version": __version__, "service.instance.id": secrets.token_hex(8)}
    if worker is not None:
        described["catenary.worker"] = str(worker.number)
    recorder = SpanRecorder(export.record, resource(otel.service_name, _SERVICE, described))
    return Tracing(OtelTracer(recorder, sample_ratio(otel)), export)


def tracer_of(tracing: Tracing | None) -> Tracer | None:
    """The tracer, if there is one."""
    return None if tracing is None else tracing.tracer


def publisher(publications: NodePublisher) -> TracedPublisher:
    """The publisher of an application in this process."""
    from catenary.tracing.propagation import OtelPropagator

    return TracedPublisher(OtelPropagator(), publications)


def register(build: "ServerBuild", tracing: Tracing | None) -> None:
    """Registers what a server with tracing shows, and that it sends its last spans at the end."""
    if tracing is None:
        return
    tracer, export = tracing
    otel = build.options.otel
    where = otel.endpoint if otel.exporter == "otlp" and "@" not in otel.endpoint else ""
    build.announcements.append(
        f"Tracing to {otel.exporter}{where and ' '}{where} (sample ratio {otel.sample_ratio})"
    )
    build.shutdown.add(EXPORT_TRACES, export.close)
    build.figures.queue("spans", lambda: export.queue_size, export.limit)
    build.figures.register(
        "trace_queue_size", "Spans waiting for the collector", lambda: export.queue_size
    )
    build.figures.register(
        "trace_exported_total", "Spans that the collector accepted", lambda: export.exported_total
    )
    build.figures.register(
        "trace_failed_total",
        "Spans that could not be sent to the collector, or that it refused",
        lambda: export.failed_total,
    )
    build.figures.register(
        "trace_dropped_total",
        "Spans dropped because too many were waiting for the collector",
        lambda: export.dropped_total,
    )
    build.figures.register(
        "trace_limited_total",
        "Handshakes that were not traced although the client asked for it, because too many did",
        lambda: tracer.limited_total,
    )
