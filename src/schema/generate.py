"""Writes `run_v1.rs`: the API's messages as tables, from the discovery document in google-api-python-client.

Names and types are all that is taken over. `make schema` runs it; with `--check` it only compares.
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

_TARGET = Path(__file__).with_name("run_v1.rs")
# What the calls that the worker and the emulator know take and answer; what these hold comes with them.
_ROOTS = (
    "Job",
    "ListJobsResponse",
    "Execution",
    "ListExecutionsResponse",
    "RunJobRequest",
    "CancelExecutionRequest",
    "Status",
)
_KINDS = {
    ("string", None): "Text",
    ("string", "google-datetime"): "Text",
    ("string", "int64"): "Int64",
    ("integer", "int32"): "Int32",
    ("boolean", None): "Bool",
}


def _document() -> dict[str, Any]:
    file = resources.files("googleapiclient") / "discovery_cache" / "documents" / "run.v1.json"
    document: dict[str, Any] = json.loads(file.read_text())
    return document


def _static(name: str) -> str:
    """The name of a message's table: `NFSVolumeSource` is `NFS_VOLUME_SOURCE`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).upper()


def _kind(schema: dict[str, Any], found: list[str]) -> str:
    """A field's type as Rust; messages that it names are added to `found`."""
    if reference := schema.get("$ref"):
        found.append(reference)
        return f"Sub(&{_static(reference)})"
    if schema["type"] == "array":
        return f"List(&{_kind(schema['items'], found)})"
    if schema["type"] == "object":
        if schema.get("additionalProperties") != {"type": "string"}:
            raise NotImplementedError(f"a mapping of something else than text: {schema}")
        return "TextMap"
    return _KINDS[schema["type"], schema.get("format")]


def _tables(document: dict[str, Any]) -> str:
    tables: dict[str, str] = {}
    waiting = list(_ROOTS)
    while waiting:
        name = waiting.pop()
        if name in tables:
            continue
        properties = document["schemas"][name].get("properties", {})
        fields = ",".join(f'("{field}", {_kind(schema, waiting)})' for field, schema in sorted(properties.items()))
        tables[name] = (
            f"/// Schema `{name}`.\n"
            f'pub static {_static(name)}: Message = Message {{ name: "{name}", fields: &[{fields}] }};\n'
        )
    return "".join(table for _, table in sorted(tables.items()))


def main() -> int:
    """Writes the file, or compares it; returns the process's exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the file is out of date")
    arguments = parser.parse_args()
    document = _document()
    source = (
        f"//! The messages of the Cloud Run Admin API v1, revision {document['revision']} of its discovery document.\n"
        "//!\n//! Made by `make schema`; not to be changed by hand.\n\n"
        "use super::Kind::{Bool, Int32, Int64, List, Message as Sub, Text, TextMap};\nuse super::Message;\n\n"
    ) + _tables(document)
    rustfmt = ["rustfmt", "--edition", "2024", "--config-path", str(_TARGET.parents[2])]
    source = subprocess.run(rustfmt, input=source, capture_output=True, text=True, check=True).stdout  # noqa: S603
    if not arguments.check:
        _TARGET.write_text(source)
    elif _TARGET.read_text() != source:
        sys.stderr.write(f"{_TARGET} is out of date: run `make schema`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
