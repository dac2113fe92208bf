"""An orderly stop of a worker: the time that it may take, and the waits that it does not let be cut short."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import Iterator

# How long a stop may take, in seconds. A Cloud Run service gets ten seconds between SIGTERM and SIGKILL.
GRACE = 8.0
# The part of it that is kept for the deletion of jobs, after Prefect was told what became of the runs.
DELETION_GRACE = 1.5
# How many flow runs are given back at the same time. Prefect's server sets one state after the other anyway.
_AT_ONCE = 20


class Stop:
    """The time that a worker's stop may take, which all its runs share."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._under_way = 0
        self._room: anyio.Semaphore | None = None

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """A part of the stop. The first one begins the stop, and the last one ends it.

        A single run may be cancelled without a stop of the worker. It then has the time for itself.
        """
        if self._under_way == 0:
            self._began = time.monotonic()
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            if self._under_way == 0:
                self._began = None

    def time_left(self) -> float:
        """Returns the seconds that are left of the whole stop."""
        return max(0.0, self._began + GRACE - time.monotonic()) if self._began is not None else GRACE

    def time_left_for_runs(self) -> float:
        """Returns the seconds that are left for the runs themselves."""
        return max(0.0, self.time_left() - min(DELETION_GRACE, GRACE / 4))

    @property
    def room(self) -> anyio.Semaphore:
        """Bounds how many flow runs are given back at the same time."""
        if self._room is None:
            self._room = anyio.Semaphore(_AT_ONCE)
        return self._room


async def wait_through_cancels(future: asyncio.Future[Any], seconds: float) -> bool:
    """Waits for something, even while the waiting task is cancelled again.

    Prefect cancels a run in two ways at the same time: anyio's scopes, against which this is shielded, and the task
    itself. When it returns False, the wait has ended and the future was cancelled.

    Args:
        future: What to wait for.
        seconds: Longest wait.

    Returns:
        Whether it is done.
    """
    ends = time.monotonic() + seconds
    with anyio.CancelScope(shield=True):
        while not future.done() and (left := ends - time.monotonic()) > 0:
            with suppress(asyncio.CancelledError):
                await asyncio.wait({future}, timeout=left)
    if future.done():
        return True
    future.cancel()
    return False
