"""Parts of a job body that the worker fills in."""

from __future__ import annotations

import shlex
from functools import cache
from typing import Any

from prefect.utilities.dockerutils import get_prefect_image_name

# Path of the container that runs the flow, in the job body.
CONTAINER = ("spec", "template", "spec", "template", "spec", "containers", 0)


def part_of(job_body: dict[str, Any], what: str, *path: str | int) -> dict[str, Any]:
    """Returns a mapping of the job body.

    Raises:
        ValueError: If it does not exist. The message says that `what` can't be verified. Alerts match the upstream
            worker's message, which says "image" except for the environment and the labels.
    """
    part: Any = job_body
    for depth, step in enumerate(path, start=1):
        try:
            part = part[step]
        except (IndexError, KeyError):
            part = None
        kind = list if path[depth : depth + 1] == (0,) else dict
        if not isinstance(part, kind):
            raise lost_its_shape(what, path[:depth], "list" if kind is list else "mapping")
    found: dict[str, Any] = part
    return found


def lost_its_shape(what: str, path: tuple[str | int, ...], kind: str = "mapping") -> ValueError:
    """The error about a job body that has nothing of this kind at `path`. `what` can't be verified because of that."""
    pointer = "".join(f"/{step}" for step in path)
    return ValueError(f"Unable to verify {what} due to invalid job body template. There is no {kind} at {pointer}")


def split_command_line(container: dict[str, Any], name: str) -> None:
    """Splits a command line into its words, as a shell does."""
    if isinstance(line := container.get(name), str):
        try:
            container[name] = shlex.split(line)
        except ValueError as error:
            raise ValueError(f"The container's {name} is not a valid shell command line: {error}") from error


@cache
def default_image() -> str:
    """The image of this Prefect and Python version. Prefect runs git to find its name, so it is asked once."""
    return f"docker.io/{get_prefect_image_name()}"
