"""The Prefect worker that runs flow runs as Google Cloud Run jobs.

Prefect finds the worker and the credentials block through the entry point `prefect.collections`, which imports this
package. People import its modules under the names of `prefect_gcp`, which an import hook serves: see
`_prefect_gcp_cloud_run_hook`. It is installed at the start of the interpreter or, where that does not happen, here.
"""

from typing import TYPE_CHECKING, Any

from prefect_gcp_cloud_run import _beside
from prefect_gcp_cloud_run._core import __version__

if TYPE_CHECKING or _beside.registers_worker():
    from prefect_gcp_cloud_run.credentials import GcpCredentials
    from prefect_gcp_cloud_run.workers.cloud_run import CloudRunWorker
else:

    def __getattr__(name: str) -> Any:
        """Imports the worker when somebody asks for it."""
        from importlib import import_module

        modules = {"CloudRunWorker": "workers.cloud_run", "GcpCredentials": "credentials"}
        if name not in modules:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{modules[name]}"), name)


__all__ = ["CloudRunWorker", "GcpCredentials", "__version__"]

_beside.finish()
