"""Measures this worker and the upstream worker (prefect-gcp): `python -m benches.worker`, or `make bench-worker`.

It prints one table, keeps the raw results in `.bench/` and draws `docs/scaling.png`. It talks to nothing outside the
machine: each session has one process for an emulator that only simulates executions, and one for a worker. A full run
takes half an hour.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .watching.parts import FULL, PARTS, QUICK, ROOT, Bench
from .watching.report import table

DRAWN = ("detection", "scaling")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures the parts that the command line names.

    Args:
        arguments: Command line without the program's name; None takes the process's own.

    Returns:
        The exit status.
    """
    options = _parser().parse_args(arguments)
    upstream = None if options.ours_only else str(options.upstream.absolute())
    if upstream and not Path(upstream).exists():
        sys.stderr.write(f"{upstream} does not exist. Run `make bench-worker`, or pass --ours-only to skip upstream\n")
        return 1
    bench = Bench(QUICK if options.quick else FULL, upstream, _say)
    options.output.mkdir(exist_ok=True, parents=True)
    file = options.output / ("quick.json" if options.quick else "results.json")
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    for part in options.only:
        results[part] = bench.run(part)
        results.setdefault("measured", {})[part] = time.strftime("%Y-%m-%d %H:%M")
        # Written after each part, so that an interrupted bench keeps its results.
        file.write_text(json.dumps(results))
    if upstream and set(DRAWN) <= results.keys():
        picture = options.output / "quick.png" if options.quick else ROOT / "docs" / "scaling.png"
        _draw(upstream, file, picture)
    sys.stdout.write(table(results))
    for part, at in results.get("measured", {}).items():
        if part not in options.only:
            _say(f"measured on {at}, not now: {part}")
    return 0


def _draw(python: str, file: Path, picture: Path) -> None:
    command = [python, str(Path(__file__).parent / "watching" / "plot.py"), str(file), str(picture)]
    subprocess.run(command, check=True, timeout=120)  # noqa: S603, the command is the bench's own


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benches.worker", description=(__doc__ or "").partition("\n\n")[0])
    add = parser.add_argument
    add(
        "--only",
        type=_parts,
        default=list(PARTS),
        metavar="PART,…",
        help=f"parts to measure, of {', '.join(PARTS)} (default: all); the table shows the last results of the others",
    )
    add(
        "--quick",
        action="store_true",
        help="small loads, to check that the bench works; the goals do not apply",
    )
    add("--ours-only", action="store_true", help="measure only this worker, and draw no picture")
    add("--upstream", type=Path, default=ROOT / ".venv-bench/bin/python", help="Python that has the upstream worker")
    add("--output", type=Path, default=ROOT / ".bench", help="directory of the raw results (default: .bench)")
    return parser


def _parts(text: str) -> list[str]:
    parts = text.split(",")
    if unknown := set(parts) - set(PARTS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: the parts are {', '.join(PARTS)}")
    return parts


if __name__ == "__main__":
    sys.exit(main())
