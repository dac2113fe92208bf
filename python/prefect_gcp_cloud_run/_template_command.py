"""The command `template`: prints a base job template, or gives a work pool what its template lacks."""

from __future__ import annotations

import asyncio
import copy
import difflib
import json
import logging
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import jsonpatch
import jsonpointer
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.objects import FlowRun

from prefect_gcp_cloud_run import _core
from prefect_gcp_cloud_run._commands import (
    EXIT_NOT_DONE,
    EXIT_WRONG_USAGE,
    REQUEST_ERRORS,
    CommandError,
    not_asked,
    read_work_pool,
    require_prefect_api,
)
from prefect_gcp_cloud_run._extended_template import ExtendedTemplate, extend
from prefect_gcp_cloud_run._findings import first_line
from prefect_gcp_cloud_run._prefect_api import find_work_pool
from prefect_gcp_cloud_run.workers.cloud_run import CloudRunWorker, CloudRunWorkerJobConfiguration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import WorkPool

# The lists of a job body to which patches append, and which most templates lack.
_LISTS = ("volumes", "volumeMounts", "env")
# A line of JSON with a value that is no placeholder.
_VALUE = re.compile(r"""( *(?:"(?:[^"\\]|\\.)*": )?)(?:"(?!\{\{ )(?:[^"\\]|\\.)*"|-?\d.*?)(,?)""")


@dataclass(frozen=True)
class _Operation:
    """An operation of a JSON patch."""

    file: str
    number: int
    content: Any

    def __str__(self) -> str:
        return f"{self.file}: operation {self.number}"

    @property
    def path(self) -> str:
        """Where the operation is to be done."""
        return repr(self.content.get("path"))


def template(*, extended: bool, patches: Sequence[str], upgrade: str | None, yes: bool) -> int:
    """Prints a base job template, or changes that of a work pool after it was asked.

    Args:
        extended: Whether to add what only this worker understands. With `upgrade`, that is so if there is no patch.
        patches: Files with JSON patches (RFC 6902), which are applied in this order.
        upgrade: Name of the work pool to change. None: print the template.
        yes: Whether to change the work pool without a question.

    Returns:
        The exit code.
    """
    try:
        operations = [operation for file in patches for operation in _operations(file)]
        if upgrade is None:
            if yes:
                raise CommandError("--yes goes with --upgrade", EXIT_WRONG_USAGE)
            made = _made(CloudRunWorker.get_default_base_job_template(), extended, operations)
            sys.stdout.write(f"{_text(made.template)}\n")
            return 0
        return _upgrade(upgrade, extended or not patches, operations, yes=yes)
    except CommandError as problem:
        sys.stderr.write(f"prefect-gcp-cloud-run template: {problem}\n")
        return problem.exit_code


def _operations(file: str) -> list[_Operation]:
    """Reads the operations of a patch. Errors show no value of it, which may be secret."""
    try:
        operations = json.loads(Path(file).read_text(encoding="utf-8"), parse_constant=_no_constant)
        json.dumps(operations, ensure_ascii=False).encode()
    except OSError as error:
        raise CommandError(f"{file} can't be read: {error.strerror}", EXIT_WRONG_USAGE) from None
    except ValueError:
        raise CommandError(f"{file} is not JSON", EXIT_WRONG_USAGE) from None
    if not isinstance(operations, list):
        raise CommandError(f"{file} is not a JSON patch (RFC 6902): a list of operations", EXIT_WRONG_USAGE)
    return [_Operation(file, number, operation) for number, operation in enumerate(operations, start=1)]


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _made(base: dict[str, Any], extended: bool, operations: Sequence[_Operation]) -> ExtendedTemplate:
    """Makes the template from a base: what is missing is added, then the patches are applied."""
    try:
        made = (
            extend(base, CloudRunWorker.get_default_base_job_template()) if extended else ExtendedTemplate(dict(base))
        )
    except ValueError as error:
        raise CommandError(str(error), EXIT_NOT_DONE) from error
    for operation in operations:
        made.template = _patched(made.template, operation)
    return made


def _patched(template: dict[str, Any], operation: _Operation) -> dict[str, Any]:
    """Applies an operation to a template. The library's own errors repeat the values of both."""
    wrong = CommandError(f"{operation} is none of RFC 6902", EXIT_WRONG_USAGE)
    if not isinstance(operation.content, dict):
        raise wrong
    try:
        patch = jsonpatch.JsonPatch([operation.content])
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException):
        raise wrong from None
    try:
        patched: Any = patch.apply(with_its_list(template, operation.content))
    except jsonpatch.InvalidJsonPatch:
        raise wrong from None
    except jsonpatch.JsonPatchTestFailed:
        message = f"{operation} expects another value at {operation.path} than the template has"
        raise CommandError(message, EXIT_NOT_DONE) from None
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError, KeyError, IndexError):
        message = f"{operation} does not fit the template, which has no place {operation.path}"
        raise CommandError(message, EXIT_NOT_DONE) from None
    if not isinstance(patched, dict):
        raise CommandError(f"{operation} leaves no mapping as the template", EXIT_NOT_DONE)
    return patched


def with_its_list(template: dict[str, Any], operation: dict[str, Any]) -> dict[str, Any]:
    """Makes the list of volumes, mounts or variables that an operation appends to (`add` at `…/-`), if it is missing.

    RFC 6902 has no way to say this: `add` of the list itself would replace the one of a template that has it.

    Args:
        template: The template, which is not changed.
        operation: The operation.

    Returns:
        The template, or a copy with an empty list.
    """
    path = operation.get("path")
    if operation.get("op") != "add" or not isinstance(path, str) or not path.endswith("/-"):
        return template
    above, _, name = path.removesuffix("/-").rpartition("/")
    mapping = jsonpointer.resolve_pointer(template, above, None)
    if name not in _LISTS or not isinstance(mapping, dict) or name in mapping:
        return template
    made = copy.deepcopy(template)
    jsonpointer.resolve_pointer(made, above)[name] = []
    return made


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2)


def _upgrade(name: str, extended: bool, operations: Sequence[_Operation], *, yes: bool) -> int:
    require_prefect_api()
    pool, made, warnings = asyncio.run(_proposed(name, extended, operations))
    before, after = _text(pool.base_job_template).splitlines(), _text(made.template).splitlines()
    if before != after:
        diff = difflib.unified_diff(
            before, after, f"work pool {name} as it is", f"work pool {name} changed", lineterm=""
        )
        sys.stdout.writelines(f"{_without_value(line)}\n" for line in diff)
    for kind, lines in (("Changes", made.effects), ("Left as it is", made.left), ("Warning", warnings)):
        sys.stdout.writelines(f"{kind}: {line}\n" for line in lines)
    if before == after:
        sys.stdout.write(f"The template of work pool {name!r} lacks nothing\n")
        return 0
    if not yes and not _agrees(name):
        return EXIT_NOT_DONE
    asyncio.run(_save(pool, made.template))
    sys.stdout.write(
        f"The template of work pool {name!r} is changed. Flow runs that are submitted from now on use it\n"
    )
    return 0


def _without_value(line: str) -> str:
    """A line of the diff. Lines around the changes show no values: they are not asked for, and may be secret."""
    found = _VALUE.fullmatch(line, 1) if line.startswith(" ") else None
    return f" {found[1]}…{found[2]}" if found else line


def _agrees(name: str) -> bool:
    """Asks whether to change the work pool."""
    if not sys.stdin.isatty():
        sys.stderr.write("Nothing was changed: there is no terminal to ask at. With --yes, no question is asked\n")
        return False
    sys.stdout.write(f"Change the template of work pool {name!r}? Write yes: ")
    sys.stdout.flush()
    if sys.stdin.readline().strip().lower() == "yes":
        return True
    sys.stderr.write("Nothing was changed\n")
    return False


async def _proposed(
    name: str, extended: bool, operations: Sequence[_Operation]
) -> tuple[WorkPool, ExtendedTemplate, list[str]]:
    """Reads a work pool, and makes its new template, with what a worker would warn about."""
    try:
        async with get_client() as prefect:
            pool = await read_work_pool(name, prefect, "Only pools of type {kind} can be changed")
            made = _made(pool.base_job_template, extended, operations)
            warnings, problem = await _check(made.template, prefect)
            # What a default value needs may be missing here or be set by each deployment, as before.
            if problem is not None and (await _check(pool.base_job_template, prefect))[1] is None:
                message = f"Nothing was changed: a worker could not use the template that would come of it: {problem}"
                raise CommandError(message, EXIT_NOT_DONE)
            return pool, made, warnings
    except REQUEST_ERRORS as error:
        raise not_asked(error) from error


async def _save(pool: WorkPool, template: dict[str, Any]) -> None:
    try:
        async with get_client() as prefect:
            # The question may have waited for long.
            now = await find_work_pool(prefect, pool.name)
            if now is None or now.base_job_template != pool.base_job_template:
                message = f"Nothing was changed: somebody else has changed work pool {pool.name!r} meanwhile. Try again"
                raise CommandError(message, EXIT_NOT_DONE)
            await prefect.update_work_pool(pool.name, WorkPoolUpdate(base_job_template=template))
    except httpx.HTTPStatusError as error:
        if error.response.status_code < 500:
            message = (
                f"Nothing was changed: Prefect's server refused the template with status {error.response.status_code}"
            )
            raise CommandError(message, EXIT_NOT_DONE) from error
        raise not_asked(error) from error
    except REQUEST_ERRORS as error:
        raise not_asked(error) from error


async def _check(template: dict[str, Any], prefect: PrefectClient) -> tuple[list[str], str | None]:
    """Checks whether a worker can use a template with its default values, as for a flow run.

    Returns:
        What it would warn about, and why it can't use it, if it can't.
    """
    disabled = logging.root.manager.disable
    try:
        configuration: CloudRunWorkerJobConfiguration = await CloudRunWorkerJobConfiguration.from_template_and_values(
            template, {}, client=prefect
        )
        # Its warnings would go to the log of a flow run that does not exist.
        logging.disable()
        configuration.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4(), name="example"))
        return _core.check_job_body(configuration.job_body), None
    except (httpx.HTTPError, httpx.InvalidURL):
        raise
    except Exception as error:
        return [], first_line(error)
    finally:
        logging.disable(disabled)
