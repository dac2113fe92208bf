"""The demo, the first thing that a newcomer runs, works."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_demo_completes():
    done = subprocess.run(
        [sys.executable, ROOT / "demo/run.py"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for words in (
        "is Completed",
        "Bonjour, Cloud Run!",
        "Creating Cloud Run Job",
        "executionSucceeded",
        "The flow run is Completed, and its job is gone",
    ):
        assert words in done.stdout
