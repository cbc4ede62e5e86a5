"""An application in Python with an instrumentation of its own: it records spans, and sends them to ``$COLLECTOR``."""

import asyncio
import os

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from catenary import Cable, Channel, Connection, action

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(os.environ["COLLECTOR"])))
tracer = provider.get_tracer("application")


class Visitor(Connection):
    pass


class Room(Channel[Visitor]):
    async def subscribed(self) -> None:
        self.stream_for("room")

    @action
    async def awaiting(self) -> None:
        with tracer.start_as_current_span("outer"):
            await asyncio.sleep(0.001)
            with tracer.start_as_current_span("inner"):
                await asyncio.sleep(0.001)
                self.broadcast_to("room", "from a coroutine")

    @action
    def in_a_thread(self) -> None:
        with tracer.start_as_current_span("outer"), tracer.start_as_current_span("inner"):
            self.broadcast_to("room", "from a thread")

    @action
    async def at_once(self) -> None:
        with tracer.start_as_current_span("outer"), tracer.start_as_current_span("inner"):
            self.broadcast_to("room", "at once")


cable = Cable(connection=Visitor, channels=[Room])
