from prefect_gcp_cloud_run.exceptions import *
