"""Parts of a job body that the worker fills in."""

from __future__ import annotations

import shlex
from functools import cache
from typing import Any
from uuid import uuid4

from prefect.utilities.dockerutils import get_prefect_image_name

from prefect_gcp_cloud_run import _core
from prefect_gcp_cloud_run._mistakes import shown
from prefect_gcp_cloud_run.utilities import slugify_name

# Paths in the job body: of the task, and of its containers.
TASK = ("spec", "template", "spec", "template", "spec")
CONTAINERS = (*TASK, "containers")


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
        kind = list if depth < len(path) and isinstance(path[depth], int) else dict
        if not isinstance(part, kind):
            raise lost_its_shape(what, path[:depth], "list" if kind is list else "mapping")
    found: dict[str, Any] = part
    return found


def path_of_container(job_body: dict[str, Any], name: str | None) -> tuple[str | int, ...]:
    """Finds the container that runs the flow.

    Args:
        job_body: The job body.
        name: The container's name. None: it is the first one.

    Returns:
        Its path in the job body. If there are no containers, the path of the first one.

    Raises:
        ValueError: If no container has this name.
    """
    if name is None:
        return (*CONTAINERS, 0)
    part: Any = job_body
    for step in CONTAINERS:
        part = part.get(step) if isinstance(part, dict) else None
    if not isinstance(part, list) or not part:
        return (*CONTAINERS, 0)
    names = [container.get("name") if isinstance(container, dict) else None for container in part]
    if name not in names:
        known = ", ".join(shown(one) for one in names if isinstance(one, str)) or "none; set their 'name'"
        raise ValueError(f"The job body has no container {shown(name)}, which main_container names. Its names: {known}")
    return (*CONTAINERS, names.index(name))


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


def fill_in_name(metadata: dict[str, Any], run_name: str) -> tuple[str | None, str | None]:
    """Gives a job a valid name, if it has none.

    Args:
        metadata: The job's metadata, which gets the name.
        run_name: What a unique name begins with.

    Returns:
        The name, if it was made and is unique, and what is wrong with the name that the template gives.
    """
    name, unique, problem = metadata.get("name"), None, None
    if isinstance(name, str) and _core.is_job_name(name):
        return None, None
    # A name without any letter or digit has no slug. Values of other types may be mappings with secrets, so they
    # are not shown.
    if isinstance(name, (str, int, float)) and (slug := slugify_name(str(name), 63)):
        metadata["name"] = _core.job_name(slug)
    else:
        metadata["name"] = unique = _core.job_name(slugify_name(run_name), unique=uuid4().hex)
    if isinstance(name, str):
        problem = f"{name!r} is not a valid Cloud Run job name"
    elif name is not None:
        problem = f"The job name must be a string, got {type(name).__name__}"
    return unique, problem
