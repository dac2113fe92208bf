from typing import Any

from prefect_gcp_cloud_run.utilities import merge_labels_for_gcp as merge_labels_for_gcp
from prefect_gcp_cloud_run.utilities import sanitize_labels_for_gcp as sanitize_labels_for_gcp
from prefect_gcp_cloud_run.utilities import slugify_name as slugify_name

# What only upstream's module has.
def __getattr__(name: str) -> Any: ...
