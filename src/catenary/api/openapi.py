"""The OpenAPI document of the REST API, written from the table of its operations.

Source: https://spec.openapis.org/oas/v3.1.1. Knows: operations, types. Does not know: what operations do.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from catenary.api.rest import Operation

_REFERENCES: Final = "#/components/schemas/{name}"

_USUAL_ERRORS: Final = {
    401: "the key is missing or wrong",
    422: "the request is malformed: the error names the field",
}
_BODY_ERRORS: Final = {
    413: "the body is too large",
    503: "incomplete requests hold too much memory",
}


class Problem(msgspec.Struct):
    """Why a request failed."""

    error: str


def document(operations: Sequence[Operation], version: str, url: str) -> bytes:
    """The document as JSON; ``url`` is that of the API, which may be relative."""
    kinds = [Problem]
    for each in operations:
        kinds += [kind for kind in (each.body, each.answer) if kind is not None]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCES)
    # By the text of the type: unions are no keys of a dict.
    schema_of = {str(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        path = each.path.replace(":path}", "}")
        paths.setdefault(path, {})[each.method.lower()] = _operation(each, schema_of)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "Catenary", "version": version},
            "servers": [{"url": url}],
            "security": [{"key": []}],
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _operation(operation: Operation, schema_of: Mapping[str, Any]) -> dict[str, Any]:
    answers = {operation.status: "done"}
    answers |= _USUAL_ERRORS | (_BODY_ERRORS if operation.body is not None else {})
    answers |= operation.errors
    written: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [*_path_parameters(operation.path), *_query_parameters(operation.query)],
        "responses": {
            str(status): _answer(operation, status, text, schema_of)
            for status, text in answers.items()
        },
    }
    if operation.text:
        written["description"] = operation.text
    if operation.body is not None:
        content = {"application/json": {"schema": schema_of[str(operation.body)]}}
        written["requestBody"] = {"required": True, "content": content}
    return written


def _answer(
    operation: Operation, status: int, text: str, schema_of: Mapping[str, Any]
) -> dict[str, Any]:
    is_error = status >= 400
    schema = (
        schema_of[str(Problem if is_error else operation.answer)]
        if is_error or operation.answer
        else None
    )
    if schema is None:
        return {"description": text}
    return {
        "description": text or "accepted",
        "content": {"application/json": {"schema": schema}},
    }


def _path_parameters(path: str) -> list[dict[str, Any]]:
    names = [each.strip("{}") for each in path.split("/") if each.startswith("{")]
    return [
        {
            "name": each.removesuffix(":path"),
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1},
        }
        for each in names
    ]


def _query_parameters(query: type[msgspec.Struct]) -> list[dict[str, Any]]:
    _, components = msgspec.json.schema_components([query], ref_template=_REFERENCES)
    fields = components[query.__name__]["properties"]
    return [
        {
            "name": name,
            "in": "query",
            "description": schema.get("description", ""),
            "schema": {key: value for key, value in schema.items() if key != "description"},
        }
        for name, schema in fields.items()
    ]
