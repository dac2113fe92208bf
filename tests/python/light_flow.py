"""Stands for `prefect flow-run execute` in a container, which takes ten seconds of CPU time to import Prefect.

    python light_flow.py SECONDS

It tells Prefect that its flow run is Running and, after so many seconds, Completed. It uses the standard library only.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
import urllib.error
import urllib.request


def light_flow(seconds: float = 0) -> str:
    """The command of a container, for the job variable `command`."""
    return shlex.join([sys.executable, "-I", "-S", __file__, str(seconds)])


def propose(name: str) -> None:
    """Tells Prefect a state of the flow run. Ends the process if Prefect does not take it."""
    url = f"{os.environ['PREFECT_API_URL']}/flow_runs/{os.environ['PREFECT__FLOW_RUN_ID']}/set_state"
    state = json.dumps({"state": {"type": name.upper(), "name": name}}).encode()
    deadline = time.monotonic() + 60
    while True:
        try:
            request = urllib.request.Request(url, state, {"Content-Type": "application/json"})
            status = json.load(urllib.request.urlopen(request, timeout=60))["status"]
            break
        except OSError as error:
            is_refused = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if is_refused or time.monotonic() > deadline:
                raise
            time.sleep(1)
    if status != "ACCEPT":
        sys.exit(f"{name}: {status}")


if __name__ == "__main__":
    propose("Running")
    time.sleep(float(sys.argv[1]))
    propose("Completed")
