"""The command `sweep`: one pass of the observer by hand, over the jobs of one work pool."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import TYPE_CHECKING

from prefect.client.orchestration import get_client
from prefect.events.related import object_as_related_resource
from prefect.events.worker import EventsWorker
from prefect.exceptions import ObjectNotFound, PrefectSignal
from prefect.logging import get_logger
from prefect.logging.configuration import setup_logging
from prefect.logging.handlers import APILogHandler
from pydantic import ValidationError

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
from prefect_gcp_cloud_run._mistakes import in_words, mistakes_of
from prefect_gcp_cloud_run._sweep_table import Report
from prefect_gcp_cloud_run.settings import CloudRunObserverSettings, CloudRunWorkerSettings, words_of_mistakes
from prefect_gcp_cloud_run.workers._observed_areas import ObservedAreas
from prefect_gcp_cloud_run.workers._observed_job import Caretaker
from prefect_gcp_cloud_run.workers._observer import Observer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun, WorkPool
    from prefect.events.schemas.events import RelatedResource

    from prefect_gcp_cloud_run.workers._observed_areas import Area
    from prefect_gcp_cloud_run.workers._observed_look import Finding
    from prefect_gcp_cloud_run.workers._observer import PassResult

# Longest time for what is still to be sent at the end: deletions, log lines of flow runs, events. In seconds.
_TIME_TO_FINISH = 30.0
# Decisions after which the flow run has another state.
_NEW_STATE = frozenset({"crash", "give_back", "delete_then_crash"})


class _Areas(ObservedAreas):
    """The areas of a sweep, which remember where it looked, and what could not be looked at.

    Attributes:
        problems: A line for each project and region, or part of the pool, that could not be used.
        searched: The projects and regions that were looked in.
    """

    def __init__(self, worker_settings: CloudRunWorkerSettings, observer_settings: CloudRunObserverSettings) -> None:
        super().__init__(worker_settings, observer_settings, get_logger("sweep"))
        self._are_projects_named = bool(observer_settings.projects)
        self.problems: list[str] = []
        self.searched: list[Area] = []
        self._pool: str | None = None

    async def of(
        self, pool: WorkPool, prefect: PrefectClient, unfinished: Sequence[FlowRun]
    ) -> dict[Area, list[_core.Client]]:
        """Returns the areas to look in, as the base class does."""
        self._pool = pool.name
        areas = await super().of(pool, prefect, unfinished)
        self.searched = list(areas)
        return areas

    def tell(self, subject: object, error: BaseException, line: str) -> None:
        """Remembers a problem. The base class would hide one that is repeated, and log the others."""
        # The place that the pool itself names does not matter to who names others, if there is none.
        if subject == self._pool and self._are_projects_named:
            self._logger.info(f"{line}: {error}")
        else:
            self.problems.append(f"{line}: {error}")


def sweep(pool: str, *, projects: Sequence[str], regions: Sequence[str], dry_run: bool) -> int:
    """Looks once at the jobs of a work pool, does what is to be done, and prints a table of it.

    Args:
        pool: Name of the work pool.
        projects: Projects to look in, beside those that the pool, its flow runs and the settings name.
        regions: Regions, in the same way.
        dry_run: Whether only to say what would be done.

    Returns:
        The exit code.
    """
    # A name of a job or flow run may have characters that the terminal's encoding lacks.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    setup_logging()
    try:
        return asyncio.run(_sweep(pool, projects, regions, dry_run=dry_run))
    except CommandError as problem:
        sys.stderr.write(f"prefect-gcp-cloud-run sweep: {problem}\n")
        return problem.exit_code


async def _sweep(name: str, projects: Sequence[str], regions: Sequence[str], *, dry_run: bool) -> int:
    worker_settings, settings = _settings(projects, regions)
    require_prefect_api()
    try:
        async with get_client() as prefect:
            pool = await read_work_pool(name, prefect, "Only the jobs of pools of type {kind} can be looked after")
            areas = _Areas(worker_settings, settings)
            try:
                result = await _one_pass(pool, prefect, areas, settings, dry_run=dry_run)
                undone = set() if dry_run else await _without_new_state(result.findings, prefect)
            finally:
                await _finish()
    except REQUEST_ERRORS as error:
        raise not_asked(error) from error
    report = Report(name, areas.searched, result, undone, areas.problems, dry_run=dry_run)
    report.show()
    return 0 if report.is_fine else EXIT_NOT_DONE


def _settings(
    projects: Sequence[str], regions: Sequence[str]
) -> tuple[CloudRunWorkerSettings, CloudRunObserverSettings]:
    """The settings of this environment, with the places of the command line."""
    try:
        worker, observer = CloudRunWorkerSettings(), CloudRunObserverSettings()
    except ValidationError as error:
        raise CommandError(f"A setting is invalid: {words_of_mistakes(error)}", EXIT_WRONG_USAGE) from error
    places = {
        "projects": ",".join((*observer.projects, *projects)),
        "regions": ",".join((*observer.regions, *regions)),
    }
    try:
        return worker, CloudRunObserverSettings.model_validate(observer.model_dump() | places)
    except ValidationError as error:
        raise CommandError(f"A place is invalid: {in_words(mistakes_of(error))}", EXIT_WRONG_USAGE) from error


async def _one_pass(
    pool: WorkPool,
    prefect: PrefectClient,
    areas: _Areas,
    settings: CloudRunObserverSettings,
    *,
    dry_run: bool,
) -> PassResult:
    def related() -> list[RelatedResource]:
        return [object_as_related_resource(kind="work-pool", role="work-pool", object=pool)]

    logger = get_logger("sweep")
    caretaker = Caretaker(f"sweep on {socket.gethostname()}", settings, related, logger, may_watch=False)
    observer = Observer(lambda: prefect, lambda: pool, areas, caretaker, settings, logger)
    try:
        result = await observer.one_pass(dry_run=dry_run, is_single=True)
        await caretaker.finish()
        return result
    except PrefectSignal as error:
        raise CommandError(f"Prefect's server refused: {type(error).__name__}: {error}", EXIT_NOT_DONE) from error
    finally:
        await observer.stop()


async def _without_new_state(findings: Sequence[Finding], prefect: PrefectClient) -> set[str]:
    """Finds the jobs whose flow run should have got a new state and has not: Prefect was away, or refused it.

    Returns:
        The uids of these jobs.
    """
    undone = set()
    for finding in findings:
        before = finding.flow_run
        if finding.decision.kind not in _NEW_STATE or before is None or finding.error is not None:
            continue
        if finding.done in ("crashed", "given back"):
            continue
        try:
            now = await prefect.read_flow_run(before.id)
        except ObjectNotFound:
            continue
        if now.state is not None and before.state is not None and now.state.id == before.state.id:
            undone.add(finding.job.uid)
    return undone


async def _finish() -> None:
    """Waits until everything is sent: deletions of jobs, log lines of flow runs, events."""
    await _core.drain_deletions(_TIME_TO_FINISH, abandon=True)
    for sending in (APILogHandler.aflush(), EventsWorker.drain_all(timeout=_TIME_TO_FINISH)):
        try:
            await asyncio.wait_for(sending, _TIME_TO_FINISH)  # type: ignore[arg-type]
        except asyncio.TimeoutError:
            get_logger("sweep").warning("Not all log lines or events could be sent to Prefect in time")
