from typing import Any

from prefect_gcp_cloud_run.models.cloud_run_v2 import SecretKeySelector as SecretKeySelector

# What only upstream's module has.
def __getattr__(name: str) -> Any: ...
