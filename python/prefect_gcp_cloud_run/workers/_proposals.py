"""States that the worker proposes to Prefect's server. The server decides; nothing is forced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect.exceptions import Abort, ObjectNotFound, Pause
from prefect.states import Cancelled, Crashed, Scheduled
from prefect.utilities.engine import propose_state

if TYPE_CHECKING:
    import logging
    from uuid import UUID

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import State
    from prefect.logging.loggers import PrefectLogAdapter


async def give_back(
    client: PrefectClient,
    flow_run_id: UUID,
    *,
    message: str,
    why: str,
    logger: logging.Logger | PrefectLogAdapter,
    state_id: UUID | None = None,
) -> bool:
    """Proposes that a flow run is Scheduled again, so that another worker takes it.

    The server lets ended flow runs be scheduled again too, as people do to repeat them. So read the flow run before.

    Args:
        client: Client of the Prefect API.
        flow_run_id: The flow run. No container of it was started.
        message: The state's message.
        why: A sentence without its full stop, for the log.
        logger: The flow run's logger.
        state_id: The state in which it was seen, if others may give it back, too. It is read again right before.

    Returns:
        Whether it is Scheduled because of this.
    """
    # The job is deleted. With its name, a cancel of the flow run would wait for a worker to kill it. It is removed
    # first, because the next worker writes the name of its own job.
    no_job = {"infrastructure_pid": None}
    try:
        await client.request("PATCH", "/flow_runs/{id}", path_params={"id": flow_run_id}, json=no_job)
    except Exception as error:
        logger.debug(f"The name of the flow run's former Cloud Run Job could not be removed from it: {error!r}")
    if state_id is not None:
        now = (await client.read_flow_run(flow_run_id)).state
        if now is None or now.id != state_id:
            return False
    state = await _propose(client, Scheduled(message=message), flow_run_id, logger)
    if state is None or not state.is_scheduled():
        logger.warning(
            f"{why}. The flow run was not started, and could not be given back to the work pool"
            + ("" if state is None else f": it is {state.name}")
        )
        return False
    logger.info(f"{why}. The flow run was not started; it is scheduled again for another worker")
    return True


async def mark_cancelled(client: PrefectClient, flow_run_id: UUID, logger: logging.Logger | PrefectLogAdapter) -> None:
    """Proposes that a flow run that is being cancelled is Cancelled. Nothing of it runs."""
    message = "The flow run was cancelled before its container was started."
    await _propose(client, Cancelled(message=message), flow_run_id, logger)


async def mark_crashed(
    client: PrefectClient, flow_run_id: UUID, message: str, logger: logging.Logger | PrefectLogAdapter
) -> bool:
    """Proposes that a flow run is Crashed, unless it has ended already. Returns whether it is."""
    state = await _propose(client, Crashed(message=message), flow_run_id, logger)
    is_crashed = state is not None and state.is_crashed()
    if is_crashed:
        logger.info(f"Reported flow run '{flow_run_id}' as crashed")
    return is_crashed


async def _propose(
    client: PrefectClient, state: State, flow_run_id: UUID, logger: logging.Logger | PrefectLogAdapter
) -> State | None:
    """Returns the state that the flow run has then; None if that is not known."""
    try:
        return await propose_state(client, state, flow_run_id=flow_run_id)
    except (Abort, Pause, ObjectNotFound):
        return None
    except Exception as error:
        logger.warning(f"Prefect could not be told that the flow run is {state.name}: {error!r}")
        return None
