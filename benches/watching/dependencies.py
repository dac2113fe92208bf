"""The crates in a wheel, and the Python packages that a distribution needs."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path

# Prints how many installed packages a distribution needs, directly or not, beyond the packages that Prefect needs.
_COUNT = """
import re, sys
from importlib.metadata import PackageNotFoundError, requires
from packaging.requirements import Requirement

def needed(name, extras=frozenset(), seen=None):
    seen = set() if seen is None else seen
    key = re.sub(r"[-_.]+", "-", name).lower()
    if (key, extras) in seen:
        return seen
    try:
        lines = requires(name) or []
    except PackageNotFoundError:
        return seen
    seen.add((key, extras))
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
            needed(requirement.name, frozenset(requirement.extras), seen)
    return seen

def names(name):
    return {key for key, _extras in needed(name)}

print(len(names(sys.argv[1]) - names("prefect") - {sys.argv[1]}))
"""


def packages(python: str, distribution: str) -> int:
    """Counts the installed packages that `distribution` needs, directly or not, beyond Prefect's own."""
    return int(subprocess.check_output([python, "-c", _COUNT, distribution], timeout=120))  # noqa: S603


def crates(wheel: Path) -> list[str]:
    """The crates in a wheel, for all platforms together, from the bill of materials in it (CycloneDX)."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if ".dist-info/sboms/" in name)
        bill = json.loads(archive.read(name))
    return [f"{crate['name']} {crate['version']}" for crate in bill["components"]]
