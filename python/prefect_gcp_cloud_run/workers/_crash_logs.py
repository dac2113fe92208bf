"""The output of a container that died before its flow run was Running, for the flow run's log.

Such a flow run has no log of its own: nothing in the container has reached Prefect. What the container wrote, and what
Cloud Run says about it, is in Cloud Logging.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING

from prefect.settings import PREFECT_LOGGING_TO_API_MAX_LOG_SIZE

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun
    from prefect.logging.loggers import PrefectLogAdapter

    from prefect_gcp_cloud_run import _core

# Entries arrive at Cloud Logging some seconds after they were written. The first read waits, and one that finds nothing
# of the end is followed by another one. In seconds.
FIRST_WAIT = 3.0
SECOND_WAIT = 7.0
# An entry of this age at the end of the execution, in seconds, shows that the log's end has arrived.
_END_OF_LOG = 2.0
# Entries that are written before Cloud Run says that the execution has begun, in seconds.
_BEFORE_START = 60.0
# Room for what Prefect sends beside the text, in bytes.
_OVERHEAD = 2048
_CUT = "… (cut)"


def never_ran(flow_run: FlowRun) -> bool:
    """Whether a flow run was never Running, so that its container has sent no log."""
    return flow_run.run_count == 0 and flow_run.start_time is None


async def forward_crash_logs(
    client: _core.Client,
    logger: logging.Logger | PrefectLogAdapter,
    *,
    job: str,
    execution: str,
    tail_lines: int,
    started_at: float | None = None,
    ended_at: float | None = None,
    container: str | None = None,
) -> int:
    """Writes the last lines of an execution's log to the flow run's log, as errors. Raises nothing.

    Call it after the server has accepted that the flow run is Crashed, and only if it was never Running (`never_ran`).

    Args:
        client: The client for the job's project and region.
        logger: The flow run's logger.
        job: Name of the job.
        execution: Name of the execution.
        tail_lines: How many lines at most.
        started_at: When the execution began, in seconds since 1970, if that is known.
        ended_at: When it ended, if that is known.
        container: Name of the container that runs the flow. The lines of others are marked with their name.

    Returns:
        How many lines were written, without the header.
    """
    since = started_at - _BEFORE_START if started_at is not None else None
    lines: list[_core.LogLine] = []
    try:
        for wait in (FIRST_WAIT, SECOND_WAIT):
            await asyncio.sleep(wait)
            lines = await client.read_logs(execution, job=job, since=since, limit=tail_lines) or lines
            if _has_end(lines, ended_at):
                break
    except Exception as error:
        logger.debug(f"The log of the container could not be read from Cloud Logging: {error}")
    except asyncio.CancelledError:
        # The worker stops. Some lines are better than none.
        _write(lines, logger, execution, container)
        raise
    _write(lines, logger, execution, container)
    return len(lines)


def _write(
    lines: list[_core.LogLine],
    logger: logging.Logger | PrefectLogAdapter,
    execution: str,
    container: str | None,
) -> None:
    """Writes lines, and a header above them, to the flow run's log."""
    if not lines:
        return
    logger.error(
        f"The container ended before the flow run was Running. The last lines of its log, from execution {execution!r}:"
    )
    room = _room_for_text()
    for line in lines:
        is_other = line.container is not None and container is not None and line.container != container
        mark = f"[{line.container}] " if is_other else ""
        logger.error(cut(mark + line.text, room))


def _has_end(lines: list[_core.LogLine], ended_at: float | None) -> bool:
    """Whether the end of a log has arrived, as far as can be told."""
    # The platform writes how the container ended.
    if not lines:
        return False
    if ended_at is None and any(line.is_system for line in lines):
        return True
    # An earlier attempt of the task has such a line, too.
    last = max((line.time for line in lines if line.time is not None), default=None)
    return last is None or ended_at is None or last >= ended_at - _END_OF_LOG


def _room_for_text() -> int:
    """Returns how many bytes of text one log line may have. Prefect drops a line that is larger."""
    return max(int(PREFECT_LOGGING_TO_API_MAX_LOG_SIZE.value()) - _OVERHEAD, _size(_CUT))


def cut(text: str, room: int) -> str:
    """Cuts a text that is longer, with a mark.

    Args:
        text: The text.
        room: How many bytes it may have in the JSON that is sent, at least those of the mark.
    """
    if _size(text) <= room:
        return text
    left, kept = room - _size(_CUT), 0
    for character in text:
        left -= _size(character)
        if left < 0:
            break
        kept += 1
    return text[:kept] + _CUT


def _size(text: str) -> int:
    """Returns how many bytes a text has in the JSON that is sent, without the quotation marks."""
    return len(json.dumps(text)) - 2
