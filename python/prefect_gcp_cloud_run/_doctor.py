"""The command `doctor`: looks at everything that a worker needs, and says what mends each problem."""

from __future__ import annotations

import asyncio
import logging
import sys

from prefect_gcp_cloud_run._doctor_google import check_google
from prefect_gcp_cloud_run._doctor_packages import check_packages
from prefect_gcp_cloud_run._doctor_prefect import check_prefect
from prefect_gcp_cloud_run._doctor_settings import check_settings
from prefect_gcp_cloud_run._findings import Findings

# The exit code if there are problems.
EXIT_PROBLEMS = 1


def doctor(*, pool: str | None, block: str | None, project: str | None, region: str | None) -> int:
    """Prints what a worker that is started here would use, and each problem with what mends it. Changes nothing.

    Args:
        pool: Name of the work pool that the worker would serve, whose credentials and region count.
        block: Name of a GCP credentials block, in the place of the work pool's.
        project: Google Cloud project, in the place of the credentials'.
        region: Region, in the place of the work pool's.

    Returns:
        The exit code: 0 if there is no problem.
    """
    # A text from elsewhere may have characters that the terminal's encoding lacks.
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    # What google-auth warns of is among the findings.
    logging.getLogger("google.auth").setLevel(logging.ERROR)
    findings = Findings()
    check_packages(findings)
    worker, observer = check_settings(findings)

    async def ask() -> None:
        wanted = await check_prefect(findings, pool, block)
        reads_logs = observer is None or observer.forward_crashed_run_logs
        await check_google(findings, wanted, worker, project=project, region=region, reads_logs=reads_logs)

    asyncio.run(ask())
    findings.end()
    return EXIT_PROBLEMS if findings.problems else 0
