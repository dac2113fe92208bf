"""The Cloud Run worker runs each flow run as a Google Cloud Run job (Cloud Run Admin API v1).

```bash
prefect work-pool create my-pool --type cloud-run
prefect worker start --pool my-pool --type cloud-run
```
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, cast
from uuid import UUID
from weakref import WeakSet

import anyio
from prefect.exceptions import InfrastructureNotFound
from prefect.workers.base import BaseWorker, BaseWorkerResult
from pydantic import ValidationError

from prefect_gcp_cloud_run import _core
from prefect_gcp_cloud_run.exceptions import CloudRunError, CloudRunJobNotReadyError
from prefect_gcp_cloud_run.settings import CloudRunObserverSettings, CloudRunWorkerSettings, words_of_mistakes
from prefect_gcp_cloud_run.workers._clients import client_and_project, client_in
from prefect_gcp_cloud_run.workers._configuration import FLOW_RUN_ID_LABEL, CloudRunWorkerJobConfiguration, labels_of
from prefect_gcp_cloud_run.workers._crash import needs_infrastructure
from prefect_gcp_cloud_run.workers._events import RunEvents
from prefect_gcp_cloud_run.workers._flow_runs import FlowRunChecks
from prefect_gcp_cloud_run.workers._in_progress import RunInProgress, WorkerOfRuns
from prefect_gcp_cloud_run.workers._kill import Search
from prefect_gcp_cloud_run.workers._observed_areas import ObservedAreas
from prefect_gcp_cloud_run.workers._observed_job import Caretaker
from prefect_gcp_cloud_run.workers._observer import Observer
from prefect_gcp_cloud_run.workers._places import JobPlace, read_place
from prefect_gcp_cloud_run.workers._poll import Poll, SharingClient, current_poll
from prefect_gcp_cloud_run.workers._stop import wait_through_cancels
from prefect_gcp_cloud_run.workers._submission import Submissions, is_due, release_place
from prefect_gcp_cloud_run.workers._templates import _get_base_job_body, _get_default_job_body_template  # noqa: F401 - people import them here
from prefect_gcp_cloud_run.workers._variables import DEFAULT_TIMEOUT, CloudRunWorkerVariables

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import anyio.abc
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect.events.schemas.events import RelatedResource

__all__ = [
    "CloudRunWorker",
    "CloudRunWorkerJobConfiguration",
    "CloudRunWorkerResult",
    "CloudRunWorkerVariables",
]

# How many flow runs a worker makes Pending at the same time.
_CLAIMS_AT_ONCE = 20
# How many runs that have failed are remembered. Prefect reports a failure right after the run.
_FAILED_REMEMBERED = 1000


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
        try:
            _ = self._settings, self._observer_settings
        except ValidationError as error:
            # Prefect shows the error with a traceback that does not name the setting's variable.
            self._logger.error(f"The worker does not start. A setting is invalid: {words_of_mistakes(error)}")
            raise
        await super().setup()
        _set_up_workers.add(self)
        self._observer.start()

    async def teardown(self, *exc_info: Any) -> None:
        """Stops the worker, and waits for the deletion of the jobs of runs that have ended.

        If an exception stops it, as Ctrl-C does, runs of which nothing was started are given back: their flow runs are
        Scheduled again, and their jobs deleted. Executions that run go on. All of this takes at most 8 seconds, and so
        does the wait for the logs of containers that crashed just before.

        Args:
            exc_info: The exception that stops the worker, as `__aexit__` gets it.
        """
        stop = self._runs.stop
        with ExitStack() as parts:
            if any(exc_info):
                parts.enter_context(stop.under_way())
            try:
                await self._observer.stop()
                await super().teardown(*exc_info)
            finally:
                # Without an exception, Prefect has waited for all runs, for as long as they took.
                parts.enter_context(stop.under_way())
                deletions = asyncio.ensure_future(self._finish_deletions())
                await wait_through_cancels(deletions, stop.time_left() + 1)

    async def _finish_deletions(self) -> None:
        await self._runs.checks.stop()
        _set_up_workers.discard(self)
        seconds = self._runs.stop.time_left()
        # The deletions belong to the process, and another worker of it lets them go on.
        deletions = asyncio.ensure_future(_core.drain_deletions(seconds, abandon=not _set_up_workers))
        await asyncio.gather(deletions, self._runs.stop_background(seconds))

    @property
    def client(self) -> PrefectClient:
        """The client of the Prefect API. In the submissions of one poll, it asks once for what they have in common."""
        client, poll = super().client, current_poll()
        if poll is None:
            return client
        sharing = SharingClient(client, poll, self._runs.has_recorded, self._submissions.polled)
        return cast("PrefectClient", sharing)

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Polls for flow runs that are due, and submits them in the background: a few at a time, the first due first.

        Returns:
            The flow runs that are being submitted.
        """
        with Poll().under_way():
            return await super().get_and_submit_flow_runs()

    async def _submit_run(self, flow_run: FlowRun) -> None:
        # While it waits for its turn, the flow run is Scheduled, and any worker can take it.
        place = await self._submissions.turn(flow_run)
        with place.held() if place is not None else nullcontext():
            try:
                if place is None or not (place.is_fresh or await is_due(self.client, flow_run, self._prefetch_seconds)):
                    self._submissions.refuse(flow_run)
                await super()._submit_run(flow_run)
            except asyncio.CancelledError:
                # If the worker stops after it has made a flow run Pending and before `run`, nobody else would take it.
                if flow_run.id in self._claimed:
                    logger = self.get_flow_run_logger(flow_run)
                    await self._runs.finish(self._runs.give_back(flow_run, logger), "its submission", logger)
                raise
            finally:
                self._submissions.refused.discard(flow_run.id)
                self._claimed.discard(flow_run.id)

    async def _propose_pending_state(self, flow_run: FlowRun) -> bool:
        if flow_run.id in self._submissions.refused:
            # Prefect then forgets it, until a poll names it again.
            return False
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

    async def _give_worker_labels_to_flow_run(self, flow_run_id: UUID) -> None:
        # Prefect would end the flow run as Crashed. The observer needs these labels only if this worker dies soon.
        try:
            await super()._give_worker_labels_to_flow_run(flow_run_id)
        except Exception as error:
            message = f"Flow run {flow_run_id} runs without its worker's labels: Prefect did not take them: {error!r}"
            self._logger.warning(message)

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
        # What follows may wait for hours.
        release_place()
        self._claimed.discard(flow_run.id)
        logger = self.get_flow_run_logger(flow_run)
        job = configuration.job_name
        in_progress = RunInProgress(self._runs, flow_run, job, logger, task_status)

        async def prepare() -> _core.Run:
            client, project = await client_and_project(configuration, self._settings)
            in_progress.client = client
            in_progress.on_created = lambda: self._areas.use(project, configuration.region, client)
            in_progress.container = configuration._container("image").get("name")
            in_progress.place = place = JobPlace(project, configuration.region, job)
            in_progress.events = RunEvents(
                place,
                lambda: self._event_related_resources(configuration, include_self=True),
                is_on=self._observer_settings.replicate_events,
            )
            is_labelled = labels_of(configuration).get(FLOW_RUN_ID_LABEL) == str(flow_run.id)
            return client.run_job(
                configuration.job_body,
                job=job,
                has_unique_name=configuration._unique_name == job,
                owner_label=(FLOW_RUN_ID_LABEL, str(flow_run.id)) if is_labelled else None,
                keep_job=bool(configuration.keep_job),
                ready_timeout_seconds=configuration.timeout or DEFAULT_TIMEOUT,
                log=logger.log,
                mark=self._mark(flow_run),
            )

        code: int | None = None
        try:
            code = await in_progress.to_its_end(prepare)
            return CloudRunWorkerResult(identifier=job, status_code=code)
        except CloudRunJobNotReadyError:
            if in_progress.events is not None:
                in_progress.events.not_ready()
            raise
        finally:
            if in_progress.events is not None:
                in_progress.events.finish()
            if code != 0:
                self._failed[flow_run.id] = job, in_progress.has_reported_crash
                while len(self._failed) > _FAILED_REMEMBERED:
                    self._failed.pop(next(iter(self._failed)))

    async def _propose_crashed_state(
        self, flow_run: FlowRun, message: str, client: PrefectClient | None = None
    ) -> None:
        # Prefect proposes this without a look at the flow run. It may wait for its next try by now, or run again.
        job, is_reported = self._failed.pop(flow_run.id, (None, False))
        if is_reported:
            return
        if job is not None:
            try:
                now = await (client or self.client).read_flow_run(flow_run.id)
            except Exception as error:
                self._logger.debug(f"Flow run {flow_run.id} could not be read before its crash is reported: {error!r}")
            else:
                if not needs_infrastructure(now, job):
                    return
        await super()._propose_crashed_state(flow_run, message, client)

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
                yield running.place, running.client, True
        try:
            noted = await read_place(self._client, flow_run_id, job)
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

    def _mark(self, flow_run: FlowRun) -> _core.JobMark | None:
        """The mark of a flow run's job. None if the worker's pool is not known: nobody would look for the job."""
        if self._work_pool is None:
            return None
        return _core.JobMark(pool_id=str(self._work_pool.id), flow_run_id=str(flow_run.id), worker=self.name)

    @cached_property
    def _runs(self) -> WorkerOfRuns:
        return WorkerOfRuns(
            self.name, lambda: self._client, FlowRunChecks(lambda: self._client), self._observer_settings
        )

    @cached_property
    def _failed(self) -> dict[UUID, tuple[str, bool]]:
        """The jobs of the last runs that did not succeed, and whether that was reported, until Prefect reports it."""
        return {}

    @cached_property
    def _claimed(self) -> set[UUID]:
        """The flow runs that this worker has made Pending, and that Prefect still prepares for `run`."""
        return set()

    @cached_property
    def _claims(self) -> anyio.Semaphore:
        """Bounds how many flow runs are claimed at the same time, since each that was sent is waited for at a stop."""
        return anyio.Semaphore(_CLAIMS_AT_ONCE)

    @cached_property
    def _submissions(self) -> Submissions:
        return Submissions(self._settings.submissions_at_once)

    @cached_property
    def _areas(self) -> ObservedAreas:
        return ObservedAreas(self._settings, self._observer_settings, self._logger)

    @cached_property
    def _observer(self) -> Observer:
        def related() -> list[RelatedResource]:
            return self._event_related_resources(include_self=True)

        return Observer(
            lambda: self._client,
            lambda: self._work_pool,
            self._areas,
            Caretaker(self.name, self._observer_settings, related, self._logger),
            self._observer_settings,
            self._logger,
            is_running=lambda flow_run_id: flow_run_id in self._runs.runs or UUID(flow_run_id) in self._claimed,
        )

    @cached_property
    def _settings(self) -> CloudRunWorkerSettings:
        return CloudRunWorkerSettings()

    @cached_property
    def _observer_settings(self) -> CloudRunObserverSettings:
        return CloudRunObserverSettings()
