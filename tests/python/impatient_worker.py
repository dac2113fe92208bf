"""`prefect worker start …` with an observer that does not wait minutes until it believes that a worker is gone.

python -m tests.python.impatient_worker worker start --pool POOL --type cloud-run
"""

from __future__ import annotations

import os
from datetime import timedelta

from prefect.cli import app

from prefect_gcp_cloud_run.workers import _observed_job, _observer

if __name__ == "__main__":
    _observer._FIRST_PASS_WITHIN = 0.0
    _observer._GONE_AFTER = timedelta(seconds=3)
    # A test whose workers are all alive gives them more time: the machine may be busy.
    _observed_job._SETTLE = float(os.environ.get("IMPATIENT_WORKER_SETTLE_SECONDS", "2"))
    app()
