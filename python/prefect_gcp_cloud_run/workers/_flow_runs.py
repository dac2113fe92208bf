"""What becomes of flow runs whose jobs wait for their start: they may be cancelled, deleted, or end in another way."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.exceptions import ObjectNotFound
from prefect.logging.loggers import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import State

# The name of the state of a flow run whose job exists, and whose container is not there yet.
INFRASTRUCTURE_PENDING = "InfrastructurePending"
# Pause between two reads of all flow runs that wait, in seconds.
CHECK_INTERVAL = 60.0
# Reads that are asked for within this time share a request, in seconds.
_GATHER = 0.02
# Least time between two such requests, in seconds.
_REQUEST_INTERVAL = 1.0
# Longest wait for an answer, in seconds. A Prefect API that is away must not hold starts back.
_TIMEOUT = 5.0
# After a read that failed, starts don't ask again for this long, in seconds.
_FAILURE_PAUSE = 5.0
# Reads that fail are reported at most this often, in seconds.
_WARNING_INTERVAL = 60.0
# How many flow runs are read with one request. Prefect's server returns 200 at most, and may be set to fewer.
_PAGE = 100
# How often a flow run is read before it is given back, if reads fail, and the pause between them, in seconds.
_LAST_READS = 3
_LAST_READ_PAUSE = 0.3

_logger = get_logger(__name__)


def reason_to_give_up(state: State | None) -> str | None:
    """Returns why a run of a flow run in this state is no longer wanted; None if it is.

    Returns:
        "cancelled", "ended", or "rescheduled": it waits for a worker again, because somebody set its state.
    """
    if state is None:
        return None
    if state.is_cancelled() or state.is_cancelling():
        return "cancelled"
    if state.is_scheduled():
        return "rescheduled"
    return "ended" if state.is_final() else None


class FlowRunChecks:
    """Reads the flow runs of a worker's runs that wait, many with one request.

    A Prefect API that fails or is away is no reason to give a run up.

    Args:
        client: Returns the worker's client of the Prefect API; None if the worker is not set up.
    """

    def __init__(self, client: Callable[[], PrefectClient | None]) -> None:
        self._client = client
        self._waiting: dict[UUID, Callable[[str], None]] = {}
        self._asked: dict[UUID, asyncio.Future[str | None]] = {}
        self._regular: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._last_request = 0.0
        self._failed_until = 0.0
        self._warned_at = -_WARNING_INTERVAL
        # The Pending states of the flow runs that wait which are this worker's: the one in which a flow run was seen
        # first, and what this worker proposed since.
        self._pending: dict[UUID, set[UUID]] = {}
        # The flow runs for which this worker has proposed InfrastructurePending, and does not know the answer.
        self._expected: set[UUID] = set()

    @contextmanager
    def waiting(self, flow_run_id: UUID, give_up: Callable[[str], None]) -> Iterator[Callable[[], None]]:
        """Checks a flow run about once a minute, until the block ends or the value of the block is called.

        Args:
            flow_run_id: The flow run.
            give_up: Called with the reason, if its run is no longer wanted.
        """
        self._waiting[flow_run_id] = give_up
        if self._regular is None or self._regular.done():
            self._regular = asyncio.create_task(self._check_regularly())

        def ended() -> None:
            self._waiting.pop(flow_run_id, None)
            self._pending.pop(flow_run_id, None)
            self._expected.discard(flow_run_id)

        try:
            yield ended
        finally:
            ended()

    async def check(self, flow_run_id: UUID) -> str | None:
        """Reads a flow run now. Returns the reason if its run is no longer wanted."""
        if self._client() is None or time.monotonic() < self._failed_until:
            return None
        answer = self._asked.get(flow_run_id)
        if answer is None:
            answer = self._asked[flow_run_id] = asyncio.get_running_loop().create_future()
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read_asked())
        done, _ = await asyncio.wait({answer}, timeout=_TIMEOUT)
        return answer.result() if done else None

    async def last_check(self, flow_run_id: UUID, job: str | None = None) -> str | None:
        """Reads a flow run that this worker has not started, on its own, and again if that fails.

        Args:
            flow_run_id: The flow run.
            job: The name of its job. None if it has none yet.

        Returns:
            The reason if its run is no longer wanted. A flow run that is Running, or in another job, was taken by
            another worker meanwhile: "rescheduled".

        Raises:
            Exception: If it can't be read.
        """
        client = self._client()
        for attempt in range(1, _LAST_READS + 1):
            try:
                if client is None:
                    return None
                flow_run = await asyncio.wait_for(client.read_flow_run(flow_run_id), _TIMEOUT)
                is_running = flow_run.state is not None and flow_run.state.is_running()
                if is_running or (job is not None and flow_run.infrastructure_pid not in (None, job)):
                    return "rescheduled"
                return self.reason(flow_run_id, flow_run.state)
            except ObjectNotFound:
                return "deleted"
            except Exception:
                if attempt == _LAST_READS:
                    raise
            await asyncio.sleep(_LAST_READ_PAUSE)
        return None

    def reason(self, flow_run_id: UUID, state: State | None) -> str | None:
        """Returns why a run of a flow run that was read in this state is no longer wanted; None if it is."""
        if state is not None and state.is_pending() and flow_run_id in self._waiting:
            own = self._pending.setdefault(flow_run_id, {state.id})
            if flow_run_id in self._expected and state.name == INFRASTRUCTURE_PENDING:
                # A read may be faster than the answer to the proposal.
                self.own_state(flow_run_id, state.id)
            # Another worker made it Pending again, after it was scheduled again.
            return None if state.id in own else "rescheduled"
        return reason_to_give_up(state)

    def expect_own_state(self, flow_run_id: UUID) -> None:
        """This worker is about to propose InfrastructurePending for a flow run."""
        if flow_run_id in self._waiting:
            self._expected.add(flow_run_id)

    def own_state(self, flow_run_id: UUID, state_id: UUID | None) -> None:
        """The server took the proposal, and this is the state's id; None if it did not take it."""
        self._expected.discard(flow_run_id)
        if state_id is not None and flow_run_id in self._waiting:
            self._pending.setdefault(flow_run_id, set()).add(state_id)

    async def stop(self) -> None:
        """Ends the reads in progress."""
        tasks = [task for task in (self._regular, self._reader) if task is not None and not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _check_regularly(self) -> None:
        while self._waiting:
            await asyncio.sleep(CHECK_INTERVAL * random.uniform(0.75, 1.0))  # noqa: S311, a spread, no secret
            reasons = await self._read(list(self._waiting))
            for flow_run_id, reason in reasons.items():
                give_up = self._waiting.get(flow_run_id)
                if reason is not None and give_up is not None:
                    give_up(reason)

    async def _read_asked(self) -> None:
        while self._asked:
            await asyncio.sleep(max(_GATHER, self._last_request + _REQUEST_INTERVAL - time.monotonic()))
            asked, self._asked = self._asked, {}
            self._last_request = time.monotonic()
            reasons = {}
            try:
                reasons = await self._read(list(asked))
            finally:
                for flow_run_id, answer in asked.items():
                    if not answer.done():
                        answer.set_result(reasons.get(flow_run_id))

    async def _read(self, flow_run_ids: list[UUID]) -> dict[UUID, str | None]:
        reasons: dict[UUID, str | None] = {}
        client = self._client()
        if client is None:
            return reasons
        try:
            for first in range(0, len(flow_run_ids), _PAGE):
                page = flow_run_ids[first : first + _PAGE]
                wanted = FlowRunFilter(id=FlowRunFilterId(any_=page))
                found = await asyncio.wait_for(client.read_flow_runs(flow_run_filter=wanted), _TIMEOUT)
                states = {flow_run.id: flow_run.state for flow_run in found}
                for flow_run_id in page:
                    if flow_run_id in states:
                        reasons[flow_run_id] = self.reason(flow_run_id, states[flow_run_id])
                    elif await _is_deleted(client, flow_run_id):
                        reasons[flow_run_id] = "deleted"
        except Exception as error:
            self._failed_until = time.monotonic() + _FAILURE_PAUSE
            if time.monotonic() - self._warned_at >= _WARNING_INTERVAL:
                self._warned_at = time.monotonic()
                _logger.warning(
                    f"The worker could not read from Prefect whether flow runs that wait were cancelled: {error!r}. It "
                    "starts their jobs all the same, and tries again"
                )
        return reasons


async def _is_deleted(client: PrefectClient, flow_run_id: UUID) -> bool:
    try:
        await asyncio.wait_for(client.read_flow_run(flow_run_id), _TIMEOUT)
    except ObjectNotFound:
        return True
    return False
