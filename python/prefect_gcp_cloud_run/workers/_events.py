"""Events in Prefect about executions and jobs, so that automations can act on them. They are few: each counts.

| event | when |
|---|---|
| `prefect.cloud-run.execution.started` | its containers run |
| `prefect.cloud-run.execution.succeeded`, `….failed`, `….cancelled` | it has ended; `cancelled` means deleted, too |
| `prefect.cloud-run.job.not-ready` | the job can't be started |

Any number of workers may emit the event of one happening: its id is the same everywhere, and Prefect takes it once.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING
from uuid import NAMESPACE_URL, UUID, uuid5

from prefect.events.related import tags_as_related_resources
from prefect.events.schemas.events import RelatedResource
from prefect.events.utilities import emit_event
from prefect.logging.loggers import get_logger
from prefect.settings import PREFECT_EVENTS_MAXIMUM_RELATED_RESOURCES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prefect.client.schemas.objects import FlowRun
    from prefect.events import Event

    from prefect_gcp_cloud_run import _core
    from prefect_gcp_cloud_run.workers._places import JobPlace

# Prefix of the names of events, and of the ids of what they are about.
_PREFIX = "prefect.cloud-run"
# What happened longer ago is no news. A worker that takes over the jobs of another one replays nothing.
MAX_AGE = timedelta(minutes=10)
# Prefect orders events by `follows` only within this time. An event whose forerunner it has not seen is held back.
_FOLLOWS_WITHIN = timedelta(minutes=5)
# How long, and how many, things are remembered about which this process has emitted an event, in seconds.
_REMEMBERED_FOR = 900.0
_REMEMBERED = 5000

_logger = get_logger(__name__)


class _Remembered:
    """The last events of this process, by what they are about, so that none is repeated and the next one can follow."""

    def __init__(self) -> None:
        self._events: OrderedDict[str, tuple[float, dict[UUID, Event]]] = OrderedDict()

    def of(self, resource: str) -> dict[UUID, Event]:
        """Returns the events about something, oldest first."""
        now = time.monotonic()
        while self._events and (
            len(self._events) > _REMEMBERED or next(iter(self._events.values()))[0] < now - _REMEMBERED_FOR
        ):
            self._events.popitem(last=False)
        return self._events[resource][1] if resource in self._events else {}

    def add(self, resource: str, event: Event) -> None:
        """Remembers an event about something."""
        self._events[resource] = (time.monotonic(), self.of(resource) | {event.id: event})
        self._events.move_to_end(resource)


_remembered = _Remembered()


def emit_execution_event(
    kind: str,
    *,
    uid: str,
    name: str,
    place: JobPlace,
    occurred: float | None,
    related: Sequence[RelatedResource],
    diagnosis: str | None = None,
) -> Event | None:
    """Emits that an execution has started or ended. Does not wait, and raises nothing.

    Args:
        kind: "started", "succeeded", "failed" or "cancelled".
        uid: The execution's uid.
        name: Its name.
        place: Where its job is.
        occurred: When it happened, in seconds since 1970, as Google says it. None: now.
        related: The flow run, its deployment and flow, the work pool and the worker.
        diagnosis: The category of what went wrong, if that is known.

    Returns:
        The event. None if it was not emitted: it is too old, or this process has emitted it before.
    """
    return _emit(f"{_PREFIX}.execution", kind, uid, name, place, occurred, related, diagnosis)


def emit_job_not_ready(
    *,
    uid: str | None,
    place: JobPlace,
    occurred: float | None,
    related: Sequence[RelatedResource],
    diagnosis: str | None = None,
) -> Event | None:
    """Emits that a job can't become ready. Does not wait, and raises nothing.

    Args:
        uid: The job's uid. None if it is not known; then its place stands for it.
        place: Where the job is.
        occurred: When it happened, in seconds since 1970. None: now.
        related: As of `emit_execution_event`.
        diagnosis: The category of what is wrong, if that is known.

    Returns:
        As `emit_execution_event`.
    """
    uid = uid or f"{place.project}.{place.region}.{place.job}"
    return _emit(f"{_PREFIX}.job", "not-ready", uid, place.job, place, occurred, related, diagnosis)


def _emit(
    subject: str,
    kind: str,
    uid: str,
    name: str,
    place: JobPlace,
    occurred: float | None,
    related: Sequence[RelatedResource],
    diagnosis: str | None,
) -> Event | None:
    try:
        now = datetime.now(timezone.utc)
        happened = now if occurred is None else datetime.fromtimestamp(occurred, timezone.utc)
        event_id = event_id_of(uid, kind)
        resource = f"{subject}.{uid}"
        earlier = _remembered.of(resource)
        if now - happened > MAX_AGE or event_id in earlier:
            return None
        labels = {
            "prefect.resource.id": resource,
            "prefect.resource.name": name,
            "cloud-run.job": place.job,
            "cloud-run.region": place.region,
            "cloud-run.project": place.project,
        }
        if diagnosis:
            labels["cloud-run.diagnosis"] = diagnosis
        last = list(earlier.values())[-1] if earlier else None
        event = emit_event(
            f"{subject}.{kind}",
            resource=labels,
            occurred=happened,
            related=list(related)[: PREFECT_EVENTS_MAXIMUM_RELATED_RESOURCES.value()],
            id=event_id,
            follows=last if last is not None and abs(happened - last.occurred) < _FOLLOWS_WITHIN else None,
        )
        if event is not None:
            _remembered.add(resource, event)
    except Exception as error:
        _logger.debug(f"The event that {name!r} is {kind} could not be emitted: {error!r}")
        return None
    return event


def event_id_of(uid: str, kind: str) -> UUID:
    """Returns the id of an event, which is the same in every process.

    Args:
        uid: The uid of the execution or job.
        kind: The last part of the event's name.
    """
    return uuid5(NAMESPACE_URL, f"{_PREFIX}/{uid}/{kind}")


def related_of_flow_run(
    flow_run: FlowRun, *, work_pool: RelatedResource | None = None, worker: RelatedResource | None = None
) -> list[RelatedResource]:
    """Returns the related resources of events about a flow run's execution, from the flow run alone.

    Names of the deployment and the flow are left out: the flow run has their ids only.

    Args:
        flow_run: The flow run.
        work_pool: The work pool.
        worker: The worker that emits the event.
    """
    ids = {"deployment": flow_run.deployment_id, "flow": flow_run.flow_id}
    related = [_related("flow-run", flow_run.id, flow_run.name)]
    related += [_related(kind, key) for kind, key in ids.items() if key is not None]
    related += [resource for resource in (work_pool, worker) if resource is not None]
    return related + tags_as_related_resources(set(flow_run.tags))


def _related(kind: str, key: UUID, name: str | None = None) -> RelatedResource:
    labels = {"prefect.resource.id": f"prefect.{kind}.{key}", "prefect.resource.role": kind}
    return RelatedResource(labels | ({"prefect.resource.name": name} if name else {}))


class RunEvents:
    """The events about one run of this worker.

    Args:
        place: Where the job is.
        related: Returns the flow run, its deployment and flow, the work pool and the worker. Asked when the first event
            is emitted.
        is_on: Whether events are emitted.

    Attributes:
        diagnosis: The category of what went wrong, once it is known. The event of a failure waits for it until
            `finish`.
        execution: What is known of the execution.
    """

    def __init__(self, place: JobPlace, related: Callable[[], Sequence[RelatedResource]], *, is_on: bool) -> None:
        self.diagnosis: str | None = None
        self.execution: _core.ExecutionFacts | None = None
        self._place = place
        self._get_related = related
        self._is_on = is_on
        self._job_uid: str | None = None
        self._has_started = False

    def take(self, event: _core.RunEvent) -> None:
        """Takes an event of the run."""
        self._job_uid = event.job_uid or self._job_uid
        if event.execution is None:
            return
        self.execution = facts = event.execution
        # A short execution is not seen while it runs.
        if not self._has_started and (event.kind == "running" or facts.started_at is not None):
            self._has_started = facts.uid is not None
            self._emit("started", facts, facts.started_at)
        if facts.outcome == "succeeded":
            self.finish()

    def finish(self) -> None:
        """Emits how the execution ended, if it has. A repetition does nothing."""
        facts = self.execution
        if facts is not None and facts.outcome is not None:
            self._emit(facts.outcome, facts, facts.completed_at)

    def not_ready(self) -> None:
        """Emits that the job can't become ready."""
        if self._is_on:
            emit_job_not_ready(
                uid=self._job_uid, place=self._place, occurred=None, related=self._related, diagnosis=self.diagnosis
            )

    @cached_property
    def _related(self) -> Sequence[RelatedResource]:
        try:
            return self._get_related()
        except Exception as error:
            _logger.debug(f"What an event is related to could not be found: {error!r}")
            return []

    def _emit(self, kind: str, facts: _core.ExecutionFacts, occurred: float | None) -> None:
        # Without a uid, the event would not be the same as that of another worker.
        if self._is_on and facts.uid is not None:
            emit_execution_event(
                kind,
                uid=facts.uid,
                name=facts.name,
                place=self._place,
                occurred=occurred,
                related=self._related,
                diagnosis=self.diagnosis if kind == "failed" else None,
            )
