"""Prints the release notes: the part of CHANGELOG.md about the version in Cargo.toml, or else what is unreleased.

python tools/release_notes.py
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def version(root: Path = ROOT) -> str:
    """The version, whose one home is Cargo.toml.

    Raises:
        ValueError: Cargo.toml has none.
    """
    found = re.search(r'^version = "([^"]+)"$', (root / "Cargo.toml").read_text(), re.MULTILINE)
    if found is None:
        raise ValueError("Cargo.toml has no version")
    return found[1]


def release_notes(changelog: str, wanted: str) -> str:
    """The part of a changelog about a version.

    Args:
        changelog: The text, in the form of Keep a Changelog.
        wanted: The version.

    Returns:
        The part, without its heading.

    Raises:
        ValueError: There is neither a part about the version nor one of what is unreleased, or it is empty.
    """
    parts = re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]
    by_name = {part.split("\n")[0].split(" - ")[0].strip("[] "): part.partition("\n")[2].strip() for part in parts}
    for name in (wanted, "Unreleased"):
        if by_name.get(name):
            return by_name[name] + "\n"
    raise ValueError(f"CHANGELOG.md says nothing about version {wanted}: add a heading '## {wanted}'")


def main() -> int:
    """Prints the notes. Returns the exit code."""
    try:
        sys.stdout.write(release_notes((ROOT / "CHANGELOG.md").read_text(), version()))
    except ValueError as error:
        sys.stderr.write(f"release_notes: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
