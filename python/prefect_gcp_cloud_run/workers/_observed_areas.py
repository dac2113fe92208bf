"""Where a work pool's jobs may be: the projects and regions that the observer lists, each with a client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterId,
)
from prefect.client.schemas.objects import StateType

from prefect_gcp_cloud_run import _core
from prefect_gcp_cloud_run.workers._clients import client_and_project, client_in
from prefect_gcp_cloud_run.workers._configuration import CloudRunWorkerJobConfiguration
from prefect_gcp_cloud_run.workers._extended import BLOCK, BLOCKS, allowed_blocks
from prefect_gcp_cloud_run.workers._observed_problems import Problems
from prefect_gcp_cloud_run.workers._places import noted_place

if TYPE_CHECKING:
    import logging
    from collections.abc import Sequence
    from uuid import UUID

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun, WorkPool

    from prefect_gcp_cloud_run.settings import CloudRunObserverSettings, CloudRunWorkerSettings

# The states in which a flow run may have a job.
_UNFINISHED = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
# How many flow runs are asked for with one request. Prefect's server returns 200 at most, and may be set to fewer.
PAGE = 200

# Project and region.
Area = tuple[str, str]


class ObservedAreas:
    """The projects and regions in which a worker looks for jobs of its work pool.

    They are those that the worker itself has used, those that the pool's default values and the settings name, and
    those that unfinished flow runs of the pool name.

    Args:
        settings: The worker's settings.
        observer_settings: The observer's settings.
        logger: Gets a line if a project or a region can't be used.
    """

    def __init__(
        self,
        settings: CloudRunWorkerSettings,
        observer_settings: CloudRunObserverSettings,
        logger: logging.Logger | logging.LoggerAdapter[logging.Logger],
    ) -> None:
        self._settings = settings
        self._observer_settings = observer_settings
        self._logger = logger
        self._used: dict[Area, _core.Client] = {}
        self._problems = Problems(logger)

    def use(self, project: str, region: str, client: _core.Client) -> None:
        """Adds a project and region in which the worker creates a job, with the client for it."""
        self._used[project, region] = client

    async def of(
        self, pool: WorkPool, prefect: PrefectClient, unfinished: Sequence[FlowRun]
    ) -> dict[Area, list[_core.Client]]:
        """Returns the areas to look in, each with clients: that of a run of this worker, then those of the pool.

        Args:
            pool: The work pool.
            prefect: Client of the Prefect API.
            unfinished: The pool's flow runs that may have a job.
        """
        places = [noted_place(flow_run) for flow_run in unfinished]
        named = list(dict.fromkeys((place.project, place.region) for place in places if place is not None))
        areas: dict[Area, list[_core.Client]] = {area: [client] for area, client in self._used.items()}
        try:
            configuration: CloudRunWorkerJobConfiguration = await defaults_of(pool, prefect)
        except Exception as error:
            self.tell(pool.name, error, f"The default values of work pool {pool.name!r} can't be used to look for jobs")
            return areas
        # Who may list a project may be unable to delete there, so the credentials that name the project come first.
        owners: dict[str, CloudRunWorkerJobConfiguration] = {}
        for one in (configuration, *await self._of_blocks(pool, prefect)):
            if (project := await self._project(one, pool)) is not None:
                owners.setdefault(project, one)
        projects = [*owners, *self._observer_settings.projects]
        regions = [configuration.region, *self._observer_settings.regions]
        named += [(project, region) for project in projects for region in regions]
        for area in dict.fromkeys(named):
            try:
                own = owners.get(area[0], configuration)
                usable = [own] if own is configuration else [own, configuration]
                clients = [client_in(one, *area, self._settings) for one in usable]
            except ValueError as error:
                self.tell(area, error, f"Project {area[0]!r}, region {area[1]!r} can't be searched for jobs")
            else:
                areas.setdefault(area, []).extend(clients)
        return {area: clients for area, clients in areas.items() if clients}

    def tell(self, subject: object, error: BaseException, line: str) -> None:
        """Logs a problem as a warning, at most once an hour."""
        words = str(error).rstrip(".")
        self._problems.tell(
            subject, error, f"{line}: {words}. Jobs that a lost worker left there stay until this works again"
        )

    async def _of_blocks(self, pool: WorkPool, prefect: PrefectClient) -> list[CloudRunWorkerJobConfiguration]:
        """Makes a configuration for each credentials block that job variables may choose."""
        made = []
        for block in allowed_blocks(pool.base_job_template.get("job_configuration") or {}):
            try:
                made.append(await defaults_of(pool, prefect, block))
            except Exception as error:
                line = f"The credentials block {block!r} of work pool {pool.name!r} can't be used to look for jobs"
                self.tell((pool.name, block), error, line)
        return made

    async def _project(self, configuration: CloudRunWorkerJobConfiguration, pool: WorkPool) -> str | None:
        try:
            return (await client_and_project(configuration, self._settings))[1]
        except Exception as error:
            self.tell(pool.name, error, f"The project of work pool {pool.name!r} could not be found")
            return None


async def defaults_of(
    pool: WorkPool, prefect: PrefectClient, block: str | None = None
) -> CloudRunWorkerJobConfiguration:
    """The region and the credentials that a pool's template has by default. The rest of it does not matter.

    Args:
        pool: The work pool.
        prefect: Client of the Prefect API.
        block: A credentials block that the template allows, in the place of the default credentials.
    """
    template = dict(pool.base_job_template)
    values = template.get("job_configuration") or {}
    wanted = {key: values[key] for key in ("region", "credentials", BLOCK, BLOCKS) if key in values}
    if block is not None:
        wanted[BLOCK] = block
    template["job_configuration"] = {**wanted, "job_body": _core.base_job_body()}
    return await CloudRunWorkerJobConfiguration.from_template_and_values(template, {}, client=prefect)


async def read_unfinished(pool: WorkPool, prefect: PrefectClient) -> list[FlowRun]:
    """Reads the flow runs of a work pool that may have a job: those that are Pending, Running or Cancelling.

    Args:
        pool: The work pool.
        prefect: Client of the Prefect API.

    Raises:
        Exception: If Prefect can't be asked.
    """
    found: dict[UUID, FlowRun] = {}
    offset = 0
    while True:
        page = await prefect.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_UNFINISHED))),
            work_pool_filter=WorkPoolFilter(id=WorkPoolFilterId(any_=[pool.id])),
            offset=offset,
        )
        found.update({flow_run.id: flow_run for flow_run in page})
        offset += len(page)
        # How many a page has is a setting of the server, and a request for more would be refused.
        if not page:
            return list(found.values())
