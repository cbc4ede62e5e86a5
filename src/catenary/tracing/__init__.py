"""Tracing by OpenTelemetry: which work is sampled, its spans, their export. The only room that imports ``opentelemetry``."""
