"""The Prefect worker that runs flow runs as Google Cloud Run jobs.

Prefect finds the worker and the credentials block through the entry point `prefect.collections`, which imports this
package.
"""

from prefect_gcp._core import __version__
from prefect_gcp.credentials import GcpCredentials
from prefect_gcp.workers.cloud_run import CloudRunWorker

__all__ = ["CloudRunWorker", "GcpCredentials", "__version__"]
