"""Describes a process in its spans.

Source: https://opentelemetry.io/docs/specs/semconv/resource/.
"""

import os
from collections.abc import Mapping

from opentelemetry.sdk.resources import Resource
from opentelemetry.util.types import AttributeValue


def resource(service_name: str, default_name: str, described: Mapping[str, str]) -> Resource:
    """The attributes of the environment (``OTEL_SERVICE_NAME``, ``OTEL_RESOURCE_ATTRIBUTES``), which win over
    ``described``, with the ``service_name`` unless that is empty."""
    attributes = {**described}
    if service_name:
        attributes["service.name"] = service_name
    known = Resource.create(attributes)
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    if service_name or not named:
        known = known.merge(Resource({"service.name": service_name or default_name}))
    return _HashedOnce(known.attributes, known.schema_url)


class _HashedOnce(Resource):
    """The SDK's exporter hashes the resource of each span, and the SDK's hash writes all attributes as JSON: a fifth of
    what exporting a span costs."""

    def __init__(self, attributes: Mapping[str, AttributeValue], schema_url: str | None) -> None:
        super().__init__(attributes, schema_url)
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash
