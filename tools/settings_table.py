"""Writes the tables of settings in docs/settings.md from the code, which is their one home.

`.venv/bin/python tools/settings_table.py` rewrites the tables. With `--check` it writes nothing, and exits with 1 if
one of them is out of date.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from annotated_types import Ge, Gt, Le
from pydantic_settings import BaseSettings

from prefect_gcp_cloud_run.settings import CloudRunObserverSettings, CloudRunWorkerSettings

DOCUMENT = Path(__file__).parents[1] / "docs" / "settings.md"
# A table stands between these two lines.
BEGIN = "<!-- made by tools/settings_table.py: {} -->\n"
END = "<!-- end -->\n"
SIGNS = {Gt: ">", Ge: "≥", Le: "≤"}
TABLES: dict[str, type[BaseSettings]] = {"worker": CloudRunWorkerSettings, "observer": CloudRunObserverSettings}


def table(settings: type[BaseSettings]) -> str:
    """The table in Markdown: one row for each setting, in the order of the code."""
    rows = ["| name | type | default | allowed | what it does |\n", "|---|---|---|---|---|\n"]
    for name, field in settings.model_fields.items():
        is_list = field.default == ()
        kind = "list" if is_list else getattr(field.annotation, "__name__", str(field.annotation))
        default = "" if is_list else f"`{field.default}`"
        bounds = " and ".join(
            f"{sign} {getattr(bound, kind_of_bound.__name__.lower()):,}"
            for bound in field.metadata
            for kind_of_bound, sign in SIGNS.items()
            if isinstance(bound, kind_of_bound)
        )
        rows.append(f"| `{name.upper()}` | {kind} | {default} | {bounds} | {field.description} |\n")
    return "".join(rows)


def written(document: str) -> str:
    """The document with the tables of now."""
    for name, settings in TABLES.items():
        begin = BEGIN.format(name)
        parts = re.split(re.escape(begin) + ".*?" + re.escape(END), document, flags=re.DOTALL)
        if len(parts) != 2:
            raise SystemExit(f"{DOCUMENT} has no lines {begin.strip()} and {END.strip()}")
        document = (begin + table(settings) + END).join(parts)
    return document


def main() -> int:
    """Writes or checks the tables, and returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a table is out of date")
    check = parser.parse_args().check
    old = DOCUMENT.read_text()
    new = written(old)
    if check and new != old:
        sys.stderr.write("docs/settings.md is out of date: run .venv/bin/python tools/settings_table.py\n")
        return 1
    if not check:
        DOCUMENT.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
