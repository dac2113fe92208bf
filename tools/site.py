"""Makes the site of the documentation: `make site`. Any broken link, lost anchor or page without a place is an error.

The pages are those of the repository. The reference is made from the docstrings of the public modules.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUT = ROOT / ".site"
PACKAGE = ROOT / "python" / "prefect_gcp_cloud_run"
# Beside docs/, the pages, and the files that a page links to.
COPIED = ("*.md", "compose.yaml", "LICENSE")
# The public modules, under the names with which people import them.
MODULES = {
    "prefect_gcp.workers.cloud_run": "workers/cloud_run.py",
    "prefect_gcp.credentials": "credentials.py",
    "prefect_gcp.exceptions": "exceptions.py",
    "prefect_gcp.utilities": "utilities.py",
    "prefect_gcp.emulator": "emulator.py",
    "prefect_gcp_cloud_run.settings": "settings.py",
}


def main() -> int:
    """Makes the site in `.site/html`, and returns the exit code of mkdocs."""
    shutil.rmtree(OUT, ignore_errors=True)
    pages = OUT / "pages"
    shutil.copytree(ROOT / "docs", pages / "docs", ignore=shutil.ignore_patterns("mkdocs.yml"))
    for pattern in COPIED:
        for path in ROOT.glob(pattern):
            shutil.copy(path, pages)
    (pages / "reference.md").write_text(reference())
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", "docs/mkdocs.yml"]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode  # noqa: S603


def reference() -> str:
    """The page of the reference: a line for mkdocstrings for each public class and function."""
    parts = [
        "# Reference",
        "[Why these names are those of `prefect_gcp`](docs/decisions/0001-beside-prefect-gcp.md).",
    ]
    for name, file in MODULES.items():
        path = PACKAGE / file
        module = ".".join(["prefect_gcp_cloud_run", *Path(file).with_suffix("").parts])
        parts += [f"## `{name}`", *(f"::: {module}.{public}" for public in public_names(path))]
    return "\n\n".join(parts) + "\n"


def public_names(path: Path) -> list[str]:
    """The classes and functions of a module that its `__all__` names, or those without an underscore."""
    body = ast.parse(path.read_text()).body
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node.name for node in body if isinstance(node, kinds) and not node.name.startswith("_")]
    for node in body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            listed = ast.literal_eval(node.value)
            return [name for name in found if name in listed] + [name for name in listed if name not in found]
    return found


if __name__ == "__main__":
    sys.exit(main())
