"""The order in which a worker submits flow runs: a few at a time, the first due first.

Prefect submits all flow runs of a poll at once. Hundreds of them then advance in lockstep, and the first one starts
when nearly all of them could. With a few at a time, the first one starts at once, and the last one no later.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from prefect.exceptions import ObjectNotFound
from prefect.logging.loggers import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from uuid import UUID

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun

_logger = get_logger(__name__)

# What a poll said of a flow run is true for this long, in seconds. One that has waited longer is read before its claim.
FRESH = 1.0
# How long a submission may keep its place, in seconds. One that takes longer, such as one whose request hangs, goes on,
# but holds up no other.
LONGEST = 30.0


class Submissions:
    """Bounds how many flow runs are between their claim and their run at the same time.

    Args:
        places: How many.

    Attributes:
        refused: The flow runs that are not to be submitted after all, until Prefect has forgotten them.
    """

    def __init__(self, places: int) -> None:
        self.refused: set[UUID] = set()
        self._free = places
        self._waiting: list[tuple[FlowRun, asyncio.Future[bool]]] = []
        self._ranks: dict[UUID | None, int] = {}

    def polled(self, flow_runs: Iterable[FlowRun]) -> None:
        """Learns from a poll which flow runs are still to be submitted, and which work queues are urgent.

        Those that wait are named again, since they are still Scheduled. One that is not named leaves: another worker
        has taken it, it was rescheduled, or its work pool or queue is paused or full. A later poll names it again if
        it is due then. Prefect names flow runs of urgent queues first.
        """
        named = list(flow_runs)
        queues = dict.fromkeys(flow_run.work_queue_id for flow_run in named)
        self._ranks = {queue: rank for rank, queue in enumerate(queues)}
        ids = {flow_run.id for flow_run in named}
        for flow_run, turn in self._waiting:
            if flow_run.id not in ids and not turn.done():
                turn.set_result(False)

    async def turn(self, flow_run: FlowRun) -> Place | None:
        """Waits for a place. The next one goes to a flow run of the most urgent queue, to the one that is due first.

        Args:
            flow_run: The flow run. Equal ones go in the order in which they came.

        Returns:
            The place, which must be released. None if a later poll does not name the flow run.
        """
        if self._free > 0:
            self._free -= 1
            return Place(self, is_fresh=True)
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((flow_run, turn))
        began = time.monotonic()
        try:
            has_place = await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                self.pass_on()
            raise
        return Place(self, is_fresh=time.monotonic() - began < FRESH) if has_place else None

    def refuse(self, flow_run: FlowRun) -> None:
        """Notes that a flow run is not to be submitted after all."""
        _logger.debug(f"Flow run {flow_run.id} is not submitted now: that has changed since the poll")
        self.refused.add(flow_run.id)

    def pass_on(self) -> None:
        """Gives a place that is free to the next one."""
        self._waiting = [(flow_run, turn) for flow_run, turn in self._waiting if not turn.done()]
        if not self._waiting:
            self._free += 1
            return
        index = min(range(len(self._waiting)), key=lambda index: self._order(self._waiting[index][0]))
        self._waiting.pop(index)[1].set_result(True)

    def _order(self, flow_run: FlowRun) -> tuple[int, float]:
        due = flow_run.next_scheduled_start_time or flow_run.expected_start_time
        rank = self._ranks.get(flow_run.work_queue_id, len(self._ranks))
        return rank, due.timestamp() if due is not None else 0.0


class Place:
    """A place among the submissions. It is released once, whoever releases it first.

    Args:
        submissions: Where it is.
        is_fresh: Whether what the poll said of the flow run is still fresh.
    """

    def __init__(self, submissions: Submissions, *, is_fresh: bool) -> None:
        self.is_fresh = is_fresh
        self._submissions: Submissions | None = submissions
        self._timer = asyncio.get_running_loop().call_later(LONGEST, self.release)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the place in this block and in the tasks that it starts, until `release_place` or the block's end."""
        token = _place.set(self)
        try:
            yield
        finally:
            _place.reset(token)
            self.release()

    def release(self) -> None:
        """Gives the place to the next submission."""
        self._timer.cancel()
        submissions, self._submissions = self._submissions, None
        if submissions is not None:
            submissions.pass_on()


# The place of the submission that the current task belongs to. Prefect calls `run` in a task of its own.
_place: ContextVar[Place | None] = ContextVar("_place", default=None)


def release_place() -> None:
    """Releases the place of the submission that this task belongs to, if there is one."""
    place = _place.get()
    if place is not None:
        place.release()


async def is_due(client: PrefectClient, flow_run: FlowRun, prefetch_seconds: float) -> bool:
    """Asks Prefect whether a flow run that has waited for its turn is still to be submitted.

    Args:
        client: Client of the Prefect API.
        flow_run: The flow run.
        prefetch_seconds: How long before its time a flow run may be submitted, in seconds.

    Returns:
        Whether it is Scheduled, and due. True if Prefect can't be asked: the claim, which follows, tells.
    """
    try:
        state = (await client.read_flow_run(flow_run.id)).state
    except ObjectNotFound:
        return False
    except Exception as error:
        _logger.debug(f"Flow run {flow_run.id} could not be read before its submission: {error!r}")
        return True
    if state is None or not state.is_scheduled():
        return False
    due = state.state_details.scheduled_time
    return due is None or due <= datetime.now(timezone.utc) + timedelta(seconds=prefetch_seconds)
