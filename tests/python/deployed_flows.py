"""Flows that the tests deploy; each runs in a process that the emulator starts."""

import os
import signal
import sys
from pathlib import Path

from prefect import flow


@flow
def succeed() -> str:
    return os.environ["CLOUD_RUN_EXECUTION"]


@flow
def fail() -> None:
    raise ValueError("on purpose")


@flow
def exit_at_once() -> None:
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)


@flow
def write_task(folder: str) -> None:
    """Leaves a file for the task of the execution that runs it."""
    (Path(folder) / f"flow-{os.environ['CLOUD_RUN_TASK_INDEX']}").touch()
