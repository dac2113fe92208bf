"""Writes what the discovery document in google-api-python-client says about the API, as Rust source.

- `src/schema/run_v1.rs`: the message schemas, with the names and types of fields.
- `src/limits/run_v1.rs`: the limits that the descriptions of fields give, and which resource takes which annotation.

`make schema` runs it. With `--check` it only compares.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

_SCHEMAS = Path(__file__).with_name("run_v1.rs")
_LIMITS = Path(__file__).parents[1] / "limits" / "run_v1.rs"
# Fields whose description calls them required, and which requests can do without.
_NOT_REQUIRED = {("ObjectMeta", "namespace"), ("ExecutionTemplateSpec", "spec")}
# A subclass of the worker's configuration may fill this in after the check.
_FILLED_IN_LATER = {("Container", "image")}
# How descriptions give a range of numbers.
_RANGES = (r"range (?P<min>\d+) to (?P<max>\d+)", r"(?P<below>\d+) < x < (?P<above>\d+)")
# Requests and responses of the API methods that the worker or the emulator knows. Messages inside them follow.
_ROOTS = (
    "Job",
    "ListJobsResponse",
    "Execution",
    "ListExecutionsResponse",
    "RunJobRequest",
    "CancelExecutionRequest",
    "Status",
    "Task",
    "ListTasksResponse",
)
_KINDS = {
    ("string", None): "Text",
    ("string", "google-datetime"): "Text",
    ("string", "int64"): "Int64",
    ("integer", "int32"): "Int32",
    ("boolean", None): "Bool",
}
# By the type of their values.
_MAPPINGS = {"string": "TextMap", "any": "AnyMap"}


def _document() -> dict[str, Any]:
    file = resources.files("googleapiclient") / "discovery_cache" / "documents" / "run.v1.json"
    document: dict[str, Any] = json.loads(file.read_text())
    return document


def _static(name: str) -> str:
    """Returns the Rust name of a message schema: `NFSVolumeSource` becomes `NFS_VOLUME_SOURCE`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).upper()


def _kind(schema: dict[str, Any], found: list[str]) -> str:
    """Returns a field's type as Rust source, and adds the messages that it refers to to `found`."""
    if reference := schema.get("$ref"):
        found.append(reference)
        return f"Sub(&{_static(reference)})"
    if schema["type"] == "array":
        return f"List(&{_kind(schema['items'], found)})"
    if schema["type"] == "object":
        values = schema.get("additionalProperties", {}).get("type")
        if values not in _MAPPINGS:
            raise NotImplementedError(f"The generator knows no such mapping: {schema}")
        return _MAPPINGS[values]
    return _KINDS[schema["type"], schema.get("format")]


def _tables(document: dict[str, Any], roots: tuple[str, ...]) -> dict[str, str]:
    """Returns the schemas of these messages, and of those in them, as Rust source by name."""
    tables: dict[str, str] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in tables:
            continue
        properties = document["schemas"][name].get("properties", {})
        fields = ",".join(f'("{field}", {_kind(schema, waiting)})' for field, schema in sorted(properties.items()))
        tables[name] = (
            f"/// Schema `{name}`.\n"
            f'pub static {_static(name)}: MessageSchema = MessageSchema {{ name: "{name}", fields: &[{fields}] }};\n'
        )
    return dict(sorted(tables.items()))


def _rules(description: str) -> list[tuple[str, str | None]]:
    """Returns the limits in a field's description: rules as Rust source, with the field that they apply within."""
    if "Not supported by Cloud Run" in description:
        return [("Unsupported", None)]
    rules: list[tuple[str, str | None]] = [("Required", None)] if description.startswith("Required.") else []
    for pattern in _RANGES:
        if found := re.search(pattern, description):
            numbers = found.groupdict()
            least = numbers.get("min") or int(numbers["below"]) + 1
            most = numbers.get("max") or int(numbers["above"]) - 1
            rules.append((f"Range({least}, {most})", None))
    if "Must be 1 if set" in description:
        rules.append(("Range(1, 1)", None))
    if "between 01 and 0777 (octal)" in description:
        # The default is 0.
        rules.append((f"Range(0, {0o777})", None))
    if found := re.search(r"Minimum value is (\d+)", description):
        least = found[1]
        most = re.search(r"Maximum value is (\d+)", description)
        rules.append((f"Range({least}, {most[1] if most else 'i32::MAX as i64'})", None))
        for probe, number in re.findall(r"Maximum value for (\w+) probe is (\d+)", description):
            rules.append((f"Range({least}, {number})", f"{probe}Probe"))
    return rules


def _limits(document: dict[str, Any]) -> str:
    rows = []
    for name in _tables(document, ("Job",)):
        for field, schema in sorted(document["schemas"][name].get("properties", {}).items()):
            if (name, field) in _NOT_REQUIRED or name.endswith("Status"):
                continue
            for rule, within in _rules(schema.get("description", "")):
                place = "None" if within is None else f'Some("{within}")'
                row = f'documented("{name}", "{field}", {place}, {rule})'
                is_late = (name, field) in _FILLED_IN_LATER
                rows.append(f"Limit {{ consequence: Consequence::MayRefuse, ..{row} }}," if is_late else f"{row},")
    annotations = document["schemas"]["ObjectMeta"]["properties"]["annotations"]["description"]
    found = re.findall(r"\* `([^`]+)`: ([A-Z][A-Za-z, ]+)", annotations)
    places = {key: [kind.strip() for kind in kinds.split(",") if kind.strip()] for key, kinds in found}
    listed = "".join(f'("{key}", &{json.dumps(kinds)}),' for key, kinds in sorted(places.items()))
    return (
        f"/// The limits of fields.\npub(super) static DOCUMENTED: &[Limit] = &[{''.join(rows)}];\n\n"
        "/// Which kinds of resources take which annotations.\n"
        f"pub(super) static ANNOTATIONS: &[(&str, &[&str])] = &[{listed}];\n\n"
        "const fn documented(message: &'static str, field: &'static str, within: Option<&'static str>, rule: Rule)"
        " -> Limit { let is_ignored = matches!(rule, Unsupported);"
        " let consequence = if is_ignored { Consequence::Ignores } else { Consequence::Refuses };"
        ' Limit { message, field, within, rule, consequence, advice: "", source: DISCOVERY } }\n'
    )


def main() -> int:
    """Writes the files or, with `--check`, compares them.

    Returns:
        The exit status of the process: 1 when `--check` finds a file out of date, else 0.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, and fail if the file is out of date")
    arguments = parser.parse_args()
    document = _document()
    generated = "//!\n//! Generated by `make schema`. Do not edit.\n\n"
    revision = f"from its discovery document of revision {document['revision']}"
    schemas = (
        f"//! Message schemas of the Cloud Run Admin API v1, {revision}.\n{generated}"
        "use super::message::FieldType::{AnyMap, Bool, Int32, Int64, List, Message as Sub, Text, TextMap};\n"
        "use super::message::MessageSchema;\n\n"
    ) + "".join(_tables(document, _ROOTS).values())
    limits = (
        f"//! Limits of the Cloud Run Admin API v1, {revision}.\n{generated}"
        "use super::limit::{Limit, Rule::{self, *}, Consequence};\n\n"
        "/// Where the discovery document is.\n"
        f'pub(super) const DISCOVERY: &str = "{document["baseUrl"]}$discovery/rest?version=v1";\n\n'
    ) + _limits(document)
    status = 0
    for target, source in ((_SCHEMAS, schemas), (_LIMITS, limits)):
        status |= _write(target, source, check=arguments.check)
    return status


def _write(target: Path, source: str, *, check: bool) -> int:
    rustfmt = ["rustfmt", "--edition", "2024", "--config-path", str(_SCHEMAS.parents[2])]
    source = subprocess.run(rustfmt, input=source, capture_output=True, text=True, check=True).stdout  # noqa: S603
    if not check:
        target.write_text(source)
    elif target.read_text() != source:
        sys.stderr.write(f"{target} is out of date: run `make schema`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
