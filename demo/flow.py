"""The flow of the demo. As a program, this file deploys it to the work pool of the demo."""

import os
from pathlib import Path

from prefect import flow, get_run_logger, task


@task
def greeting(name: str) -> str:
    """Return a greeting with the word that the deployment's job variables set in the environment."""
    return f"{os.environ['GREETING']}, {name}!"


@flow
def greet(name: str = "Cloud Run") -> str:
    """Log the greeting, and the execution and task that the flow runs in."""
    logger = get_run_logger()
    logger.info(greeting(name))
    logger.info(
        "Running in execution %s, task %s", os.environ["CLOUD_RUN_EXECUTION"], os.environ["CLOUD_RUN_TASK_INDEX"]
    )
    return "done"


if __name__ == "__main__":
    greet.from_source(source=str(Path(__file__).parent), entrypoint="flow.py:greet").deploy(  # type: ignore[union-attr]
        name="demo",
        work_pool_name="demo-pool",
        # A deployment overrides values of its work pool's template by job variables.
        job_variables={"env": {"GREETING": "Bonjour"}, "memory": "1Gi"},
        print_next_steps=False,
    )
