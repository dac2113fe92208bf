"""Runs the commands of the Dockerfile's build stages without a container engine: `make image-check`.

It copies what `.dockerignore` lets through and COPY names into a temporary directory, and runs each RUN there as it
stands, with other places for the absolute paths. Commands that change the system (apt-get, useradd) are left out. So
it shows that the files that are copied suffice, that the lock files can be installed, and that they fit together.

It does not show that the base images exist and have what the commands need, nor that the final image works.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Programs that change the system.
_OF_THE_SYSTEM = ("apt-get", "groupadd", "useradd")


@dataclass
class Stage:
    """A stage of a Dockerfile.

    Attributes:
        base: The image that it begins with.
        name: Its name; empty for the last one.
        steps: Its instructions after FROM, each a keyword and its text on one line.
    """

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def last(self, keyword: str) -> str:
        """The text of the last instruction with this keyword."""
        return next(text for word, text in reversed(self.steps) if word == keyword)


def stages(text: str) -> list[Stage]:
    """Reads a Dockerfile.

    Args:
        text: The Dockerfile.

    Returns:
        Its stages, with the values of ARG in the place of their names in FROM.
    """
    without_comments = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    lines = [line.strip() for line in re.sub(r"\\\n\s*", "", without_comments).splitlines()]
    found: list[Stage] = []
    values: dict[str, str] = {}
    for keyword, _, rest in (line.partition(" ") for line in lines if line):
        if keyword == "FROM":
            image, _, name = rest.partition(" AS ")
            found.append(Stage(re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], image), name))
        elif found:
            found[-1].steps.append((keyword, rest))
        else:
            name, _, value = rest.partition("=")
            values[name] = value
    return found


def ignored(path: str, rules: str) -> bool:
    """Whether a `.dockerignore` keeps a file or a folder from the builder.

    Args:
        path: The path, relative to the clone.
        rules: The text of the `.dockerignore`. Of its patterns, only those that this project uses are known.
    """
    is_ignored = False
    for rule in rules.splitlines():
        pattern = rule.removeprefix("!").strip()
        if not pattern or pattern.startswith("#"):
            continue
        parts = path.split("/")
        # A rule for a folder is one for all that is in it.
        heads = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
        if pattern.startswith("**/"):
            matches = any(Path(part).match(pattern[3:]) for part in parts)
        else:
            matches = any(Path(head).match(pattern) and head.count("/") == pattern.count("/") for head in heads)
        if matches:
            is_ignored = not rule.startswith("!")
    return is_ignored


def run_stage(stage: Stage, place: Path, done: dict[str, Path]) -> None:
    """Does what a stage says, in a directory that stands for its file system.

    Args:
        stage: The stage.
        place: The directory.
        done: The directories of the stages before it, by their names.

    Raises:
        subprocess.CalledProcessError: A command failed.
    """
    work = place
    rules = (ROOT / ".dockerignore").read_text()
    for keyword, text in stage.steps:
        if keyword == "WORKDIR":
            work = place / text.lstrip("/")
            work.mkdir(parents=True, exist_ok=True)
        elif keyword == "COPY":
            *sources, target = text.split()
            origin = ROOT
            if sources[0].startswith("--from="):
                origin = done[sources.pop(0).removeprefix("--from=")]
            for source in sources:
                to = place / target.lstrip("/") if target.startswith("/") else work / target
                copy(origin / source.lstrip("/"), to, is_folder=target.endswith("/"), rules=rules, clone=origin == ROOT)
        elif keyword == "RUN" and not text.startswith(_OF_THE_SYSTEM):
            # /opt, /wheels and files at the root are those of the stage.
            command = re.sub(r"(?<![\w.])/(?=opt/|wheels|\w+\.lock)", f"{place}/", text)
            sys.stdout.write(f"{stage.name}: {text}\n")
            sys.stdout.flush()
            # What is built already is not built again.
            env = {**os.environ, "CARGO_TARGET_DIR": str(ROOT / "target")}
            subprocess.run(["sh", "-ec", command], cwd=work, env=env, check=True)  # noqa: S603, S607


def copy(source: Path, to: Path, *, is_folder: bool, rules: str, clone: bool) -> None:
    """Copies what COPY names, without what `.dockerignore` keeps away.

    Raises:
        FileNotFoundError: There is nothing to copy.
    """

    def left_out(folder: str, names: list[str]) -> list[str]:
        base = Path(folder).relative_to(ROOT)
        return [name for name in names if (ROOT / base / name).is_file() and ignored(str(base / name), rules)]

    if source.is_dir():
        shutil.copytree(source, to, dirs_exist_ok=True, ignore=left_out if clone else None)
        return
    if not source.exists() or (clone and ignored(str(source.relative_to(ROOT)), rules)):
        raise FileNotFoundError(f"COPY finds no {source}")
    if is_folder:
        to.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, to / source.name if to.is_dir() else to)


def main() -> int:
    """Runs the build stages. Returns the exit code."""
    *building, last = stages((ROOT / "Dockerfile").read_text())
    json.loads(last.last("ENTRYPOINT"))
    with tempfile.TemporaryDirectory() as temporary:
        done: dict[str, Path] = {}
        try:
            for stage in building:
                done[stage.name] = Path(temporary, stage.name)
                done[stage.name].mkdir()
                run_stage(stage, done[stage.name], done)
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            sys.stderr.write(f"image-check: {error}\n")
            return 1
    sys.stdout.write("image-check: the commands of the build stages work. The image itself was not built\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
