"""Flows that the tests deploy; each runs in a process that the emulator starts."""

import os
import signal
import sys

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
