"""The OpenAPI document, made of the table of endpoints and of the types that they take and give."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from relay.admin.api.endpoints import ENDPOINTS, Endpoint
from relay.admin.api.requests import RequestModel
from relay.admin.api.responses import ErrorResponse
from relay.admin.inspection import DeliveryAttempt
from relay.admin.json_values import is_time

PREFIX = "/api/v1"
_COMPONENT = "#/components/schemas/{model}"
_CODES = {
    400: "A field is missing, misspelt or wrong: the error names it.",
    401: "No token and no key of an owner, or another one.",
    403: "From another site; or the key of an owner, which shows that owner's deliveries and nothing else.",
    404: "There is no such delivery, destination or key, or nothing matches.",
    409: "It could be done, and should not be: the message says what stands in the way.",
    413: "The request is too large.",
    503: "The outbox cannot be used at the moment.",
}

Schema = dict[str, Any]


@cache
def document(version: str) -> Schema:
    schemas: Schema = {}
    paths: Schema = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(PREFIX + endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    paths[f"{PREFIX}/attempts/stream"] = {"get": _stream(schemas)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Outspoken relay: admin API", "version": version, "license": {"name": "Apache-2.0"}},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: Endpoint, schemas: Schema) -> Schema:
    body = endpoint.method == "POST"
    in_path = set(re.findall(r"{(\w+)}", endpoint.path))
    request = _schema(endpoint.request, schemas, "validation")
    parameters = [
        _parameter(name, schema, "path" if name in in_path else "query", name in request.get("required", ()))
        for name, schema in request.get("properties", {}).items()
        if name in in_path or not body
    ]
    operation: Schema = {"operationId": _name(endpoint), "summary": endpoint.summary, "parameters": parameters}
    if body:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _without(request, in_path)}},
        }
    return operation | {"responses": _responses(endpoint, schemas)}


def _stream(schemas: Schema) -> Schema:
    listing = next(endpoint for endpoint in ENDPOINTS if endpoint.path == "/attempts")
    operation = _operation(listing, schemas)
    line = {"application/x-ndjson": {"schema": _schema_of_name(DeliveryAttempt.__name__)}}
    said = {"description": "One attempt a line, as they happen, until the caller leaves.", "content": line}
    return operation | {
        "operationId": "get_attempts_stream",
        "summary": "The last attempts, and those to come",
        "responses": operation["responses"] | {"200": said},
    }


def _name(endpoint: Endpoint) -> str:
    words = re.sub(r"[^a-z]+", "_", endpoint.path.replace("{id}", "one")).strip("_")
    return f"{endpoint.method.lower()}_{words}"


def _parameter(name: str, schema: Schema, where: str, required: bool) -> Schema:
    return {"name": name, "in": where, "required": required or where == "path", "schema": _never_null(schema)}


def _never_null(schema: Schema) -> Schema:
    """What is left out is null to the model; a query cannot say it."""
    choices = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default") or value is not None}
    if not choices:
        return rest
    rest.pop("anyOf")
    one: Schema = choices[0] | rest
    return one


def _without(schema: Schema, names: set[str]) -> Schema:
    left = {name: value for name, value in schema.get("properties", {}).items() if name not in names}
    required = [name for name in schema.get("required", ()) if name not in names]
    return schema | {"properties": left, "required": required}


def _responses(endpoint: Endpoint, schemas: Schema) -> Schema:
    error = {"content": {"application/json": {"schema": _component(ErrorResponse, schemas)}}}
    return {"200": {"description": "Done.", "content": _content(endpoint.gives, schemas)}} | {
        str(code): {"description": text} | error for code, text in _CODES.items()
    }


def _content(gives: type, schemas: Schema) -> Schema:
    if gives is bytes:
        return {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    return {"application/json": {"schema": _component(gives, schemas)}}


def _component(type_: type, schemas: Schema) -> Schema:
    schemas[type_.__name__] = _schema(type_, schemas, "serialization")
    return _schema_of_name(type_.__name__)


def _schema_of_name(name: str) -> Schema:
    return {"$ref": _COMPONENT.format(model=name)}


def _schema(type_: type, schemas: Schema, mode: Any) -> Schema:
    schema = TypeAdapter(type_).json_schema(mode=mode, ref_template=_COMPONENT)
    definitions = schema.pop("$defs", {})
    if not issubclass(type_, RequestModel):
        for one in (schema, *definitions.values()):
            _as_written(one)
    schemas.update(definitions)
    return schema


def _as_written(schema: Schema) -> None:
    """As `relay.admin.json_values` writes it: every field is there, times are text."""
    properties: Schema = schema.get("properties", {})
    if properties:
        schema["required"] = list(properties)
    for name, field in properties.items():
        if is_time(name):
            nullable = {"type": "null"} in field.get("anyOf", ())
            field.clear()
            field |= {"type": ["string", "null"] if nullable else "string", "format": "date-time"}
