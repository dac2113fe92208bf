"""What the commands for work pools have in common: their exit codes, their error, and how they reach a work pool."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL

from prefect_gcp_cloud_run._prefect_api import api_address, find_work_pool, nearest_work_pool, words_of
from prefect_gcp_cloud_run.workers.cloud_run import CloudRunWorker

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import WorkPool

# Exit codes beside 0. argparse ends with 2 as well.
EXIT_NOT_DONE = 1
EXIT_WRONG_USAGE = 2
# The errors of a request to the Prefect API.
REQUEST_ERRORS = (httpx.HTTPError, httpx.InvalidURL, ObjectNotFound, OSError)


class CommandError(Exception):
    """Why a command can't be done, as a message for the person who started it.

    Args:
        message: The message.
        exit_code: The exit code of the program.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def require_prefect_api() -> None:
    """Refuses to go on without a Prefect API.

    Raises:
        CommandError: None is configured. Prefect would start a server of its own, which knows no work pool.
    """
    if not PREFECT_API_URL.value():
        raise CommandError(
            "No Prefect API is configured. Set PREFECT_API_URL, or choose a profile with 'prefect profile use'",
            EXIT_WRONG_USAGE,
        )


def not_asked(error: Exception) -> CommandError:
    """Makes the error about a request to the Prefect API that failed."""
    return CommandError(f"The Prefect API at {api_address()} could not be asked: {words_of(error)}", EXIT_NOT_DONE)


async def read_work_pool(name: str, prefect: PrefectClient, rule: str) -> WorkPool:
    """Reads a work pool of Cloud Run.

    Args:
        name: Its name.
        prefect: Client of the Prefect API.
        rule: What is said if it is of another type, with `{kind}` for the right one.

    Raises:
        CommandError: There is no such work pool, or it is of another type.
    """
    kind = CloudRunWorker.type
    pool = await find_work_pool(prefect, name)
    if pool is None:
        near = await nearest_work_pool(prefect, name, kind)
        hint = f" Did you mean {near!r}?" if near else " 'prefect work-pool ls' lists the work pools"
        raise CommandError(f"There is no work pool {name!r}.{hint}", EXIT_WRONG_USAGE)
    if pool.type != kind:
        raise CommandError(
            f"Work pool {name!r} is of type {pool.type!r}. {rule.format(kind=repr(kind))}", EXIT_WRONG_USAGE
        )
    return pool
