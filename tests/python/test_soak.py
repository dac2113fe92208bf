"""A short soak, and tests of the soak's own checks. `make soak` runs a long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from prefect_gcp.exceptions import CloudRunJobRemovedError, CloudRunUnavailableError
from tests.python.soak import Result


@pytest.mark.slow
def test_a_hundred_runs_survive_an_api_that_fails_one_call_in_ten():
    command = [sys.executable, "-m", "tests.python.soak", "--runs", "100", "--at-once", "50", "--seed", "5"]
    root = Path(__file__).parents[2]
    soak = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=500, check=False)
    assert soak.returncode == 0, soak.stdout + soak.stderr
    assert "crashed by the API: 0; executed twice: 0; jobs left: 0; wrong outcomes: 0" in soak.stdout


@pytest.mark.parametrize(
    ("outcome", "end", "executions", "is_fine"),
    [
        ("success", 0, [4], True),
        ("success", 1, [4], False),
        ("success", 0, [], False),
        ("success", CloudRunUnavailableError(""), [4], False),
        ("long", 0, [25, 5], True),
        ("long", 0, [25, 25], False),
        ("failure", 1, [4], True),
        ("killed", -1, [4], True),
        ("killed", CloudRunJobRemovedError(""), [], False),
        ("killed early", CloudRunJobRemovedError(""), [], True),
        ("killed early", CloudRunJobRemovedError(""), [3, 600], False),
        ("killed early", -1, [4], True),
        ("cancelled", -1, [], True),
        ("cancelled", 0, [4], False),
    ],
)
def test_the_soak_knows_right_from_wrong(outcome, end, executions, is_fine):
    assert (Result(outcome, "j", end).problem(executions) is None) == is_fine
