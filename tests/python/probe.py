"""Deletes a job in a process of its own, with the credentials of that process's environment.

Prints the result as JSON, and whether google-auth was imported.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.python import forked


def probe(url: str, env: dict[str, str], home: Path, **arguments: Any) -> dict[str, Any]:
    """Runs this file in a new process, whose environment is `env` and a few variables of this process.

    Args:
        url: URL of the API.
        env: Environment variables.
        home: The home and working directory.
        arguments: Further arguments of `main`.

    Returns:
        The result of `main`, and the standard error of the process as `stderr`.
    """
    plain = {name: os.environ[name] for name in ("PATH", "PREFECT_HOME", "PREFECT_API_URL") if name in os.environ}
    # Keeps google-auth from calling a real metadata server, which would not be on loopback.
    plain |= {
        "HOME": str(home),
        "NO_GCE_CHECK": "true",
        "GCE_METADATA_HOST": "127.0.0.1:1",
        "GCE_METADATA_IP": "127.0.0.1:1",
    }
    words = json.dumps({"url": url, **arguments})
    done = forked.run("tests.python.probe", words, env=plain | env, cwd=home)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]) | {"stderr": done.stderr}


async def main(
    url: str,
    calls: int = 1,
    pause: float = 0,
    at_once: bool = False,
    attempts: int = 4,
    leave: float = 60,
    **credentials: Any,
) -> dict[str, Any]:
    from prefect_gcp.exceptions import CloudRunError
    from prefect_gcp.settings import CloudRunWorkerSettings
    from prefect_gcp_cloud_run import _core

    settings = CloudRunWorkerSettings(
        api_endpoint=url, retry_max_attempts=attempts, retry_initial_delay_seconds=0.01, request_timeout_seconds=20
    )
    client = _core.Client(
        project="p", region="us-east1", credentials=_core.Credentials(**credentials), settings=settings
    )
    answer: dict[str, Any] = {"error": None, "text": ""}

    async def kill() -> None:
        with client.kill_job("j") as run:
            async for _event in run:
                pass

    async def answered(number: int) -> None:
        await asyncio.sleep(0 if at_once else number * pause)
        try:
            await asyncio.wait_for(kill(), leave)
        except asyncio.TimeoutError:
            answer.update(error="left")
        except CloudRunError as error:
            answer.update(error=type(error).__name__, text=str(error))

    if at_once or pause:
        await asyncio.gather(*(answered(number) for number in range(calls)))
    else:
        for _ in range(calls):
            await answered(0)
    return answer | {"google_auth": "google.auth" in sys.modules}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(**json.loads(sys.argv[1])))))
