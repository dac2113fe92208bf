from typing import Any

from prefect_gcp_cloud_run.settings import CloudRunObserverSettings as CloudRunObserverSettings
from prefect_gcp_cloud_run.settings import CloudRunWorkerSettings as CloudRunWorkerSettings

# What only upstream's module has.
def __getattr__(name: str) -> Any: ...
