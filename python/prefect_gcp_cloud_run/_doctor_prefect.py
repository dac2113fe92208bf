"""The part of `doctor` that asks Prefect's API: whether it answers, and what a work pool and a block say."""

from __future__ import annotations

import asyncio
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, PREFECT_API_URL

from prefect_gcp_cloud_run import _credentials_of
from prefect_gcp_cloud_run._findings import first_line
from prefect_gcp_cloud_run._prefect_api import api_address, find_work_pool, nearest_work_pool, words_of
from prefect_gcp_cloud_run.credentials import GcpCredentials
from prefect_gcp_cloud_run.workers._configuration import CloudRunWorkerJobConfiguration
from prefect_gcp_cloud_run.workers._observed_areas import defaults_of
from prefect_gcp_cloud_run.workers._variables import DEFAULT_REGION
from prefect_gcp_cloud_run.workers.cloud_run import CloudRunWorker

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import WorkPool

    from prefect_gcp_cloud_run._findings import Findings

# How long Prefect's API has for its answers, in seconds. Its client repeats requests that fail.
_TIME = 30.0


@dataclass
class Wanted:
    """What a worker would use.

    Attributes:
        credentials: The credentials. None: they can't be used.
        origin: Where they come from.
        region: The region.
        service_account: The account that the jobs run as, if the work pool names one.
    """

    credentials: GcpCredentials | None
    origin: str = "the environment"
    region: str = DEFAULT_REGION
    service_account: str | None = None


async def check_prefect(findings: Findings, pool: str | None, block: str | None) -> Wanted:
    """Prints whether Prefect's API answers, and what it says of a work pool and a credentials block.

    Args:
        findings: Gets the lines.
        pool: Name of a work pool, whose credentials and region a worker would use.
        block: Name of a credentials block, in the place of the work pool's.

    Returns:
        What a worker would use.
    """
    findings.section("Prefect")
    wanted = Wanted(_credentials_of.environments())
    if not PREFECT_API_URL.value():
        findings.problem(
            "No Prefect API is configured, so a worker can't find its work pool",
            "prefect config set PREFECT_API_URL=http://HOST:4200/api, or prefect cloud login",
        )
        return _without(wanted, pool, block)
    where = f"The Prefect API at {api_address()}"
    for name, setting in (("PREFECT_API_KEY", PREFECT_API_KEY), ("PREFECT_API_AUTH_STRING", PREFECT_API_AUTH_STRING)):
        if setting.value():
            findings.note(f"{name} is set (not shown)")
    try:
        async with get_client() as client:
            # Any request that needs the key.
            await asyncio.wait_for(client.read_work_pools(limit=1), _TIME)
            version = await asyncio.wait_for(client.api_version(), _TIME)
            findings.fine(f"{where} answers; its version is {version}")
            return await asyncio.wait_for(_read(client, findings, wanted, pool, block), _TIME)
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        is_refused = status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
        findings.problem(
            f"{where} answers HTTP {status}",
            "prefect cloud login, or set PREFECT_API_KEY or PREFECT_API_AUTH_STRING"
            if is_refused
            else "prefect config view shows whether PREFECT_API_URL is right; it ends with /api",
        )
    except Exception as error:
        is_late = isinstance(error, asyncio.TimeoutError)
        words = f"no answer within {_TIME:.0f} s" if is_late else words_of(error)
        findings.problem(
            f"{where} can't be asked: {words}",
            "prefect config view shows whether PREFECT_API_URL is right. prefect server start starts a server here",
        )
    return _without(wanted, pool, block)


async def _read(
    client: PrefectClient, findings: Findings, wanted: Wanted, pool: str | None, block: str | None
) -> Wanted:
    if pool is not None:
        await _read_pool(client, findings, wanted, pool)
    if block is not None:
        wanted.origin = f"the block {block!r}"
        try:
            wanted.credentials = await _load(client, block)
            findings.fine(f"Block gcp-credentials/{block} can be used")
        except Exception as error:
            wanted.credentials = None
            findings.problem(
                f"Block gcp-credentials/{block} can't be used: {first_line(error)}", "prefect block ls lists the blocks"
            )
    return wanted


async def _load(client: PrefectClient, block: str) -> GcpCredentials:
    if _credentials_of.is_our_class():
        # Prefect's client of this call is the one that `get_client` has made: it is in the context.
        return await GcpCredentials.aload(block)
    # As the worker makes one of what the template names: upstream's class must not look for default credentials.
    document = await client.read_block_document_by_name(block, "gcp-credentials")
    value = _credentials_of.from_value(document.data)
    return value if isinstance(value, GcpCredentials) else GcpCredentials.model_validate(value)


async def _read_pool(client: PrefectClient, findings: Findings, wanted: Wanted, name: str) -> None:
    pool = await find_work_pool(client, name)
    kind = CloudRunWorker.type
    if pool is None:
        wanted.credentials = None
        near = await nearest_work_pool(client, name, kind)
        findings.problem(
            f"There is no work pool {name!r}" + (f". Did you mean {near!r}?" if near else ""),
            f"prefect work-pool ls lists the work pools; prefect work-pool create NAME --type {kind} creates one",
        )
        return
    if pool.type != kind:
        wanted.credentials = None
        findings.problem(
            f"Work pool {name!r} is of type {pool.type!r}, which a worker of type {kind!r} can't serve",
            f"prefect work-pool create NAME --type {kind}",
        )
        return
    paused = ", and paused" if pool.is_paused else ""
    findings.fine(f"Work pool {name!r} is of type {kind!r}{paused}")
    wanted.origin = f"work pool {name!r}"
    wanted.service_account = _default_of(pool, "service_account_name")
    try:
        configuration = await defaults_of(pool, client)
    except Exception as error:
        wanted.credentials = None
        findings.problem(
            f"The default values of work pool {name!r} can't be used: {first_line(error)}",
            f"prefect work-pool inspect {shlex.quote(name)} shows its template; docs/running.md has the mistakes in it",
        )
        return
    await _check_template(client, findings, pool)
    wanted.region = configuration.region
    wanted.credentials = configuration.credentials or _credentials_of.environments()
    if configuration.credentials is None:
        wanted.origin = "the environment"


async def _check_template(client: PrefectClient, findings: Findings, pool: WorkPool) -> None:
    """Prints why flow runs of the pool would fail, if they would with the default values."""
    try:
        await CloudRunWorkerJobConfiguration.from_template_and_values(pool.base_job_template, {}, client=client)
    except Exception as error:
        findings.problem(
            f"The template of work pool {pool.name!r} can't be used, and its flow runs fail: {first_line(error)}",
            f"prefect work-pool inspect {shlex.quote(pool.name)} shows the template; prefect work-pool "
            f"get-default-base-job-template --type {CloudRunWorker.type} shows one that can be used",
        )


def _default_of(pool: WorkPool, variable: str) -> str | None:
    """The default value of a text variable of a work pool's template."""
    found: Any = pool.base_job_template
    for key in ("variables", "properties", variable, "default"):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, str) and found else None


def _without(wanted: Wanted, pool: str | None, block: str | None) -> Wanted:
    """What a worker would use, where nothing that Prefect knows can be read."""
    if pool is not None or block is not None:
        wanted.credentials = None
    return wanted
