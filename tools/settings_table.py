"""Writes the table of settings in docs/settings.md from the code, which is their one home.

`.venv/bin/python tools/settings_table.py` rewrites the table. With `--check` it writes nothing, and exits with 1 if the
table is out of date.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from annotated_types import Ge, Gt, Le

from prefect_gcp.settings import CloudRunWorkerSettings

DOCUMENT = Path(__file__).parents[1] / "docs" / "settings.md"
# The table stands between these two lines.
BEGIN = "<!-- made by tools/settings_table.py -->\n"
END = "<!-- end -->\n"
SIGNS = {Gt: ">", Ge: "≥", Le: "≤"}


def table() -> str:
    """The table in Markdown: one row for each setting, in the order of the code."""
    rows = ["| name | type | default | allowed | what it does |\n", "|---|---|---|---|---|\n"]
    for name, field in CloudRunWorkerSettings.model_fields.items():
        kind = getattr(field.annotation, "__name__", str(field.annotation))
        bounds = " and ".join(
            f"{sign} {getattr(bound, kind_of_bound.__name__.lower()):,}"
            for bound in field.metadata
            for kind_of_bound, sign in SIGNS.items()
            if isinstance(bound, kind_of_bound)
        )
        rows.append(f"| `{name.upper()}` | {kind} | `{field.default}` | {bounds} | {field.description} |\n")
    return "".join(rows)


def written(document: str) -> str:
    """The document with the table of now."""
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    new, count = pattern.subn(lambda _: BEGIN + table() + END, document)
    if count != 1:
        raise SystemExit(f"{DOCUMENT} has no lines {BEGIN.strip()} and {END.strip()}")
    return new


def main() -> int:
    """Writes or checks the table, and returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the table is out of date")
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
