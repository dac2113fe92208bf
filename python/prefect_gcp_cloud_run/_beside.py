"""This package beside the upstream package `prefect_gcp`, or without it."""

from __future__ import annotations

import sys

import _prefect_gcp_cloud_run_hook as hook

_PUBLIC_WORKER = f"{hook.PUBLIC}.workers.cloud_run"


def registers_worker() -> bool:
    """Whether importing this package registers its worker at Prefect.

    With the import hook switched off, upstream's worker keeps the type, whichever package Prefect imports first.
    """
    return hook.install().serves or hook.upstream() is None


def finish() -> None:
    """Takes over `prefect_gcp.workers.cloud_run` if upstream's was imported before the import hook was installed."""
    there = sys.modules.get(_PUBLIC_WORKER)
    if not hook.install().serves or there is None:
        return
    worker = sys.modules.get(f"{hook.OURS}.workers.cloud_run")
    if worker is None or there is worker or there.__name__ != _PUBLIC_WORKER:
        return
    sys.modules[_PUBLIC_WORKER] = worker
    if workers := sys.modules.get(f"{hook.PUBLIC}.workers"):
        workers.cloud_run = worker  # type: ignore[attr-defined]
    package = sys.modules[hook.PUBLIC]
    if hasattr(package, "CloudRunWorker"):
        package.CloudRunWorker = worker.CloudRunWorker  # type: ignore[attr-defined]
