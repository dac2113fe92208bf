# The names of upstream's package are Any where it is not installed.
from prefect_gcp.bigquery import BigQueryWarehouse as BigQueryWarehouse
from prefect_gcp.cloud_storage import GcsBucket as GcsBucket
from prefect_gcp.secret_manager import GcpSecret as GcpSecret
from prefect_gcp.workers.cloud_run_v2 import CloudRunWorkerV2 as CloudRunWorkerV2
from prefect_gcp.workers.vertex import VertexAIWorker as VertexAIWorker
from prefect_gcp_cloud_run import CloudRunWorker as CloudRunWorker
from prefect_gcp_cloud_run import GcpCredentials as GcpCredentials

__version__: str
