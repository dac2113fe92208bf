"""Waits for what other tasks, threads and programs do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any


async def until(
    condition: Callable[[], Any], seconds: float = 60, *, pause: float = 0.05, said: Callable[[], object] = str
) -> Any:
    """Waits until a condition holds.

    Args:
        condition: A function, or a coroutine function.
        seconds: Longest wait.
        pause: Time between two looks, in seconds.
        said: Makes the text of the failure.

    Returns:
        What the condition returned.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, said()
        await asyncio.sleep(pause)
