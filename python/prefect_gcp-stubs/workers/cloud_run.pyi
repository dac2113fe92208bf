from typing import Any

from prefect_gcp_cloud_run.workers.cloud_run import CloudRunWorker as CloudRunWorker
from prefect_gcp_cloud_run.workers.cloud_run import CloudRunWorkerJobConfiguration as CloudRunWorkerJobConfiguration
from prefect_gcp_cloud_run.workers.cloud_run import CloudRunWorkerResult as CloudRunWorkerResult
from prefect_gcp_cloud_run.workers.cloud_run import CloudRunWorkerVariables as CloudRunWorkerVariables

# People import them here too.
def _get_base_job_body() -> dict[str, Any]: ...
def _get_default_job_body_template() -> dict[str, Any]: ...
