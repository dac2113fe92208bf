"""A small flow, and its deployment to the work pool of the demo."""

import os
from pathlib import Path

from prefect import flow, get_run_logger, task


@task
def greeting(name: str) -> str:
    """Says hello in the words of the deployment's job variables."""
    return f"{os.environ['GREETING']}, {name}!"


@flow
def greet(name: str = "Cloud Run") -> str:
    """Tells what it sees of the job that it runs in."""
    logger = get_run_logger()
    logger.info(greeting(name))
    logger.info("I run in execution %s, task %s", os.environ["CLOUD_RUN_EXECUTION"], os.environ["CLOUD_RUN_TASK_INDEX"])
    return "done"


if __name__ == "__main__":
    greet.from_source(source=str(Path(__file__).parent), entrypoint="flow.py:greet").deploy(  # type: ignore[union-attr]
        name="demo",
        work_pool_name="demo-pool",
        # Job variables are what a deployment sets of its pool's template.
        job_variables={"env": {"GREETING": "Bonjour"}, "memory": "1Gi"},
        print_next_steps=False,
    )
