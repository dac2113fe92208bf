"""The Cloud Run worker runs each flow run as a Google Cloud Run job (Cloud Run Admin API v1).

```bash
prefect work-pool create my-pool --type cloud-run
prefect worker start --pool my-pool --type cloud-run
```
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID
from weakref import WeakSet

import anyio
from prefect.exceptions import InfrastructureNotFound, ObjectNotFound
from prefect.workers.base import BaseWorker, BaseWorkerResult

from prefect_gcp import _core
from prefect_gcp.exceptions import CloudRunError
from prefect_gcp.settings import CloudRunWorkerSettings
from prefect_gcp.workers._clients import client_and_project, client_in
from prefect_gcp.workers._configuration import FLOW_RUN_ID_LABEL, CloudRunWorkerJobConfiguration, labels_of
from prefect_gcp.workers._flow_runs import FlowRunChecks
from prefect_gcp.workers._in_progress import RunInProgress, WorkerOfRuns
from prefect_gcp.workers._kill import Search
from prefect_gcp.workers._places import JobPlace, recorded_place
from prefect_gcp.workers._stop import wait_through_cancels
from prefect_gcp.workers._templates import get_base_job_body as _get_base_job_body  # noqa: F401 - people import it here
from prefect_gcp.workers._templates import (
    get_default_job_body_template as _get_default_job_body_template,  # noqa: F401 - the same
)
from prefect_gcp.workers._variables import DEFAULT_TIMEOUT, CloudRunWorkerVariables

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import anyio.abc
    from prefect.client.schemas.objects import FlowRun

__all__ = [
    "CloudRunWorker",
    "CloudRunWorkerJobConfiguration",
    "CloudRunWorkerResult",
    "CloudRunWorkerVariables",
]

# How many flow runs a worker makes Pending at the same time.
_CLAIMS_AT_ONCE = 20


class CloudRunWorkerResult(BaseWorkerResult):
    """How a flow run's job ended.

    Attributes:
        identifier: Name of the job.
        status_code: 0: the execution succeeded. 1: it failed. -1: the job or the execution was deleted while it ran.
    """


# The workers of this process that are set up.
_set_up_workers: WeakSet[CloudRunWorker] = WeakSet()


class CloudRunWorker(BaseWorker[CloudRunWorkerJobConfiguration, CloudRunWorkerVariables, CloudRunWorkerResult]):
    """Runs flow runs as Google Cloud Run jobs."""

    type: str = "cloud-run"
    job_configuration = CloudRunWorkerJobConfiguration
    job_configuration_variables = CloudRunWorkerVariables
    _description = "Execute flow runs within containers on Google Cloud Run. Requires a Google Cloud Platform account."
    _display_name = "Google Cloud Run"
    _documentation_url = "https://docs.prefect.io/integrations/prefect-gcp"
    _logo_url = "https://cdn.sanity.io/images/3ugk85nk/production/10424e311932e31c477ac2b9ef3d53cefbaad708-250x250.png"

    # A kill mostly waits for responses, and one that waits long must not hold up those of other flow runs.
    cleanup_max_concurrency: ClassVar[int | None] = 20

    async def setup(self) -> None:
        """Prepares the worker to run.

        Raises:
            pydantic.ValidationError: If a setting is invalid, so that the worker fails before it takes a flow run.
        """
        _ = self._settings
        await super().setup()
        _set_up_workers.add(self)

    async def teardown(self, *exc_info: Any) -> None:
        """Stops the worker, and waits for the deletion of the jobs of runs that have ended.

        If an exception stops it, as Ctrl-C does, runs of which nothing was started are given back: their flow runs are
        Scheduled again, and their jobs deleted. Executions that run go on. All of this takes at most 8 seconds.

        Args:
            exc_info: The exception that stops the worker, as `__aexit__` gets it.
        """
        stop = self._runs.stop
        with ExitStack() as parts:
            if any(exc_info):
                parts.enter_context(stop.under_way())
            try:
                await super().teardown(*exc_info)
            finally:
                # Without an exception, Prefect has waited for all runs, for as long as they took.
                parts.enter_context(stop.under_way())
                deletions = asyncio.ensure_future(self._finish_deletions())
                await wait_through_cancels(deletions, stop.time_left() + 1)

    async def _finish_deletions(self) -> None:
        await self._runs.checks.stop()
        _set_up_workers.discard(self)
        # The deletions belong to the process, and another worker of it lets them go on.
        await _core.drain_deletions(self._runs.stop.time_left(), abandon=not _set_up_workers)

    async def _submit_run(self, flow_run: FlowRun) -> None:
        # If the worker stops after it has made a flow run Pending and before `run`, nobody else would take it.
        try:
            await super()._submit_run(flow_run)
        except asyncio.CancelledError:
            if flow_run.id in self._claimed:
                logger = self.get_flow_run_logger(flow_run)
                await self._runs.finish(self._runs.give_back(flow_run, logger), "its submission", logger)
            raise
        finally:
            self._claimed.discard(flow_run.id)

    async def _propose_pending_state(self, flow_run: FlowRun) -> bool:
        # Once it was sent, only the answer tells whether the flow run is this worker's or another's.
        async with self._claims:
            claim = asyncio.ensure_future(super()._propose_pending_state(flow_run))
            try:
                await asyncio.wait({claim})
            except asyncio.CancelledError:
                with self._runs.stop.under_way():
                    await wait_through_cancels(claim, self._runs.stop.time_left_for_runs())
                raise
            finally:
                if claim.done() and not claim.cancelled() and claim.exception() is None and claim.result():
                    self._claimed.add(flow_run.id)
            return claim.result()

    async def run(
        self,
        flow_run: FlowRun,
        configuration: CloudRunWorkerJobConfiguration,
        task_status: anyio.abc.TaskStatus[Any] | None = None,
    ) -> CloudRunWorkerResult:
        """Runs a flow run's job to its end. Then the job is deleted in the background, unless `keep_job` is set.

        A flow run that is cancelled, deleted or ended while its job waits for its start is not started. If this is
        cancelled, a flow run that was not started is given back to the work pool, and an execution that runs goes on.

        Args:
            flow_run: The flow run. Its log gets the progress.
            configuration: The prepared configuration.
            task_status: Gets the job's name when the execution has started. Gets None if the flow run is not started.

        Returns:
            The job's name and the status code of its execution.

        Raises:
            CloudRunError: If there are no credentials, or the job can't be started, or its execution can't be read.
            ValueError: If the project, the region or the job body is invalid.
        """
        self._claimed.discard(flow_run.id)
        logger = self.get_flow_run_logger(flow_run)
        job = configuration.job_name
        in_progress = RunInProgress(self._runs, flow_run, job, logger, task_status)

        async def prepare() -> _core.Run:
            client, project = await client_and_project(configuration, self._settings)
            in_progress.client, in_progress.place = client, JobPlace(project, configuration.region, job)
            is_labelled = labels_of(configuration).get(FLOW_RUN_ID_LABEL) == str(flow_run.id)
            return client.run_job(
                configuration.job_body,
                job=job,
                owner_label=(FLOW_RUN_ID_LABEL, str(flow_run.id)) if is_labelled else None,
                keep_job=bool(configuration.keep_job),
                ready_timeout_seconds=configuration.timeout or DEFAULT_TIMEOUT,
                log=logger.log,
            )

        return CloudRunWorkerResult(identifier=job, status_code=await in_progress.to_its_end(prepare))

    async def kill_infrastructure(
        self,
        infrastructure_pid: str,
        configuration: CloudRunWorkerJobConfiguration,
        grace_seconds: int = 30,
    ) -> None:
        """Deletes a flow run's job, which stops its execution.

        The job is looked for where this worker runs it, then where the worker that created it has noted on the flow
        run, and then where the configuration says.

        Args:
            infrastructure_pid: Name of the job.
            configuration: Configuration with the project, the region and the credentials.
            grace_seconds: Not used. Cloud Run gives a container ten seconds between SIGTERM and SIGKILL.

        Raises:
            InfrastructureNotFound: If there is no such job, or it belongs to another flow run.
            CloudRunError: If it can't be deleted.
        """
        if not _core.is_job_name(infrastructure_pid):
            raise InfrastructureNotFound(f"{infrastructure_pid!r} is not a valid Cloud Run job name")
        label = labels_of(configuration).get(FLOW_RUN_ID_LABEL)
        # A template may replace the labels.
        flow_run_id = configuration._flow_run_id or label
        logger: Any = self._logger if configuration._flow_run_id is None else configuration._logger
        search = Search(infrastructure_pid, (FLOW_RUN_ID_LABEL, label) if label else None, logger)
        async for place, client, is_recorded in self._places(infrastructure_pid, configuration, flow_run_id, search):
            if await search.finds(place, client, is_recorded=is_recorded):
                return
        raise search.nowhere()

    async def _places(
        self, job: str, configuration: CloudRunWorkerJobConfiguration, flow_run_id: str | None, search: Search
    ) -> AsyncIterator[tuple[JobPlace, _core.Client, bool]]:
        """The places where a flow run's job may be, the likeliest first, and whether the job was created there."""
        for running_id, running in list(self._runs.runs.items()):
            if running.place is not None and running.client is not None and running.place.job == job:
                if flow_run_id not in (None, running_id):
                    continue
                running.is_killed = True
                yield running.place, running.client, True
        try:
            noted = await self._noted_place(job, flow_run_id)
            if noted is not None:
                yield noted, client_in(configuration, noted.project, noted.region, self._settings), True
        except ValueError as error:
            configuration._logger.warning(f"The flow run's labels name a place that can't be used for {job!r}: {error}")
        except Exception as error:
            search.failed(error)
        try:
            client, project = await client_and_project(configuration, self._settings)
        except (CloudRunError, ValueError) as error:
            search.failed(error)
        else:
            yield JobPlace(project, configuration.region, job), client, False

    async def _noted_place(self, job: str, flow_run_id: str | None) -> JobPlace | None:
        """Reads where the worker that created a job has noted it to be."""
        if self._client is None or flow_run_id is None:
            return None
        try:
            return recorded_place(await self._client.read_flow_run(UUID(flow_run_id)), job)
        except ObjectNotFound:
            return None

    @cached_property
    def _runs(self) -> WorkerOfRuns:
        return WorkerOfRuns(self.name, lambda: self._client, FlowRunChecks(lambda: self._client))

    @cached_property
    def _claimed(self) -> set[UUID]:
        """The flow runs that this worker has made Pending, and that Prefect still prepares for `run`."""
        return set()

    @cached_property
    def _claims(self) -> anyio.Semaphore:
        """Bounds how many flow runs are claimed at the same time, since each that was sent is waited for at a stop."""
        return anyio.Semaphore(_CLAIMS_AT_ONCE)

    @cached_property
    def _settings(self) -> CloudRunWorkerSettings:
        return CloudRunWorkerSettings()
