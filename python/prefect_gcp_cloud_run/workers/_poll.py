"""What the flow runs of one poll read in common from Prefect: deployments, flows, blocks, variables.

Hundreds of runs of one deployment would read the same hundreds of times. A change in Prefect is seen by every flow run
of the next poll, because polls have nothing in common.
"""

from __future__ import annotations

import asyncio
import copy
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterator
    from uuid import UUID

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import WorkerFlowRunResponse

# The methods of Prefect's client that read what flow runs have in common. None of them changes anything.
SHARED = frozenset(
    {
        "read_deployment",
        "read_flow",
        "read_block_document",
        "read_block_document_by_name",
        "read_variable_by_name",
    }
)
# How long an answer is used, in seconds: as long as Prefect's pause between two polls. The flow runs of a large poll
# may wait longer for their submission.
MAX_AGE = 10.0
# How long a flow run waits for the answer that another one has asked for, in seconds. The request may hang.
PATIENCE = 2.0


class Poll:
    """The answers that flow runs of one poll have got. All of them were asked for after the poll."""

    def __init__(self) -> None:
        self._answers: dict[Hashable, asyncio.Future[Any]] = {}

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """The tasks that this block starts belong to the poll."""
        token = _poll.set(self)
        try:
            yield
        finally:
            _poll.reset(token)

    async def read(self, key: Hashable, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Returns the answer to a question, which is asked again only if it failed, or if it is old.

        Args:
            key: What is asked.
            ask: Asks it.

        Returns:
            A copy, for the caller alone: Prefect changes what it has read.

        Raises:
            Exception: If it fails. Those who wait for it then ask on their own, as they do if it takes long.
        """
        answer = self._answers.get(key)
        if answer is not None:
            await asyncio.wait({answer}, timeout=PATIENCE)
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                return copy.deepcopy(answer.result())
            return await ask()
        loop = asyncio.get_running_loop()
        answer = self._answers[key] = loop.create_future()
        try:
            result = await ask()
        except BaseException:
            del self._answers[key]
            answer.cancel()
            raise
        answer.set_result(copy.deepcopy(result))
        loop.call_later(MAX_AGE, self._answers.pop, key, None)
        return result


class SharingClient:
    """Prefect's client as the submissions of one poll see it: they share the answers to what they have in common.

    Args:
        client: Prefect's client, which does everything.
        poll: The poll.
        is_known: Whether a worker has told Prefect the infrastructure id of a flow run already.
        on_polled: Gets the flow runs that Prefect names in the poll, in its order.
    """

    def __init__(
        self,
        client: PrefectClient,
        poll: Poll,
        is_known: Callable[[UUID, str], bool],
        on_polled: Callable[[list[FlowRun]], None],
    ) -> None:
        self._client = client
        self._poll = poll
        self._is_known = is_known
        self._on_polled = on_polled

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if name not in SHARED:
            return attribute

        async def shared(*args: Any, **kwargs: Any) -> Any:
            key = (name, args, tuple(sorted(kwargs.items())))
            return await self._poll.read(key, lambda: attribute(*args, **kwargs))

        return shared

    async def get_scheduled_flow_runs_for_work_pool(self, *args: Any, **kwargs: Any) -> list[WorkerFlowRunResponse]:
        """Polls."""
        answer = await self._client.get_scheduled_flow_runs_for_work_pool(*args, **kwargs)
        self._on_polled([entry.flow_run for entry in answer])
        return answer

    async def update_flow_run(self, flow_run_id: UUID, **changes: Any) -> Any:
        """Changes a flow run, unless the only change is an infrastructure id that Prefect knows already."""
        if changes.keys() == {"infrastructure_pid"} and self._is_known(flow_run_id, changes["infrastructure_pid"]):
            return None
        return await self._client.update_flow_run(flow_run_id, **changes)


# The poll that the current task belongs to.
_poll: ContextVar[Poll | None] = ContextVar("_poll", default=None)


def current_poll() -> Poll | None:
    """Returns the poll that this task belongs to, if it belongs to one."""
    return _poll.get()
