"""Validates requests and responses against the discovery document of the Cloud Run Admin API v1.

The document is part of google-api-python-client. Its schemas are an old draft of JSON Schema with formats of Google's.
This module converts them to strict JSON Schema, which rejects unknown fields.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

import jsonschema

_FORMATS: dict[str, dict[str, Any]] = {
    "int32": {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    "int64": {"type": "string", "pattern": r"^-?\d+$"},
    "google-datetime": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$"},
}


@functools.cache
def document() -> dict[str, Any]:
    """Returns the discovery document."""
    file = resources.files("googleapiclient") / "discovery_cache" / "documents" / "run.v1.json"
    return json.loads(file.read_text())


def validate(schema_name: str, instance: object) -> None:
    """Checks that a JSON value is a message of the given type.

    Args:
        schema_name: Name of the type.
        instance: The JSON value.

    Raises:
        jsonschema.ValidationError: It is not. The error's path says where.
    """
    _validator(schema_name).validate(instance)


def validate_call(method: str, path: str, query: Iterable[tuple[str, str]] | Mapping[str, str], body: object) -> str:
    """Checks a request: that the API has such a method, its query parameters, and its body.

    Args:
        method: HTTP method.
        path: Path of the URL, without host and query.
        query: Query parameters.
        body: Body as a JSON value, or None if the request has no body.

    Returns:
        The id of the API's method, such as "run.namespaces.jobs.create".

    Raises:
        AssertionError: The API has no such method, or the method has no such query parameter.
        jsonschema.ValidationError: The body is not a message of the method's type.
    """
    found = _method(method, path)
    taken = {name for name, parameter in found["parameters"].items() if parameter["location"] == "query"}
    taken |= set(document()["parameters"])
    pairs = query.items() if isinstance(query, Mapping) else query
    unknown = sorted({name for name, _ in pairs} - taken)
    assert not unknown, f"{found['id']} has no query parameter {', '.join(unknown)}"
    if "request" in found:
        validate(found["request"]["$ref"], {} if body is None else body)
    else:
        assert body is None, f"{found['id']} takes no body"
    return found["id"]


def validate_answer(method: str, path: str, answer: object) -> None:
    """Checks the response to a request that succeeded.

    Args:
        method: HTTP method of the request.
        path: Path of the URL, without host and query.
        answer: Body of the response as a JSON value.

    Raises:
        AssertionError: The API has no such method.
        jsonschema.ValidationError: The response is not a message of the method's type.
    """
    validate(_method(method, path)["response"]["$ref"], answer)


def _method(method: str, path: str) -> dict[str, Any]:
    for found in _methods(document()):
        # `{+name}` in `path` stands for several segments. `flatPath` names each of them.
        template = found.get("flatPath", found["path"])
        pattern = re.sub(r"\\\{\w+\\\}", "[^/:]+", re.escape(template))
        if found["httpMethod"] == method and re.fullmatch(f"/?{pattern}", path):
            return found
    raise AssertionError(f"the API has no {method} {path}")


def _methods(resource: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    yield from resource.get("methods", {}).values()
    for below in resource.get("resources", {}).values():
        yield from _methods(below)


@functools.cache
def _validator(schema_name: str) -> jsonschema.protocols.Validator:
    definitions = {name: _strict(schema) for name, schema in document()["schemas"].items()}
    assert schema_name in definitions, f"the API has no message {schema_name}"
    schema = {"$ref": f"#/definitions/{schema_name}", "definitions": definitions}
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def _strict(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Converts a schema of the document, or a part of one, to strict JSON Schema."""
    if "$ref" in schema:
        return {"$ref": f"#/definitions/{schema['$ref']}"}
    if schema.get("type") == "any":
        return {}
    strict: dict[str, Any] = dict(_FORMATS.get(schema.get("format", ""), {"type": schema["type"]}))
    if "enum" in schema:
        strict["enum"] = schema["enum"]
    if "items" in schema:
        strict["items"] = _strict(schema["items"])
    if schema["type"] == "object":
        strict["properties"] = {name: _strict(below) for name, below in schema.get("properties", {}).items()}
        # A mapping names the type of its values. Any other message has only the fields that it names.
        more = schema.get("additionalProperties")
        strict["additionalProperties"] = _strict(more) if more else False
    return strict
