"""The benches: how they count, what they print, and that they run."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benches.watching.parts import MINUTE_SECONDS, least_seconds
from benches.watching.report import number, percentile, table
from benches.watching.sessions import Load, session
from benches.worker import main


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(value) for value in range(200, 0, -1)]
    assert percentile(values, 50) == 100
    assert percentile(values, 99) == 198
    assert percentile(values, 100) == 200
    assert percentile([7.0], 1) == 7
    assert math.isnan(percentile([], 50))


def test_numbers_have_three_digits() -> None:
    assert [number(value) for value in (None, 0, 0.0049, 1.234, 12.34, 123.4, 1234.5)] == [
        *("-", "0", "0.00", "1.23", "12.3", "123", "1,234")
    ]
    assert number(12.34, "MB") == "12.3 MB"


def test_a_quota_takes_its_time() -> None:
    # 600 writes, 180 at the start of each minute: the last ones when three are over.
    assert least_seconds(300, 180) == 3 * MINUTE_SECONDS
    assert least_seconds(150, 30) == 9 * MINUTE_SECONDS


def test_the_table_has_the_rows_of_what_was_measured() -> None:
    measured = {"imports": {"ours": [0.01, 0.05, 0.03], "upstream": [1.0]}, "wheel": 4.5}
    dependencies = {"packages": {"ours": 3, "upstream": 22}, "crates": 195}
    lines = table(measured | {"dependencies": dependencies}).splitlines()
    assert lines[2:] == [
        "| import of the worker, beyond Prefect's base of it | ≤ 60 ms | 30.0 ms | 1,000 ms |",
        "| the wheel | ≤ 8 MB | 4.50 MB | - |",
        "| Python packages beyond Prefect's own |  | 3 | 22 |",
        "| crates in the wheel, for all platforms together |  | 195 | - |",
    ]


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "submission,speed"])
    assert "speed: the parts are submission, detection" in capsys.readouterr().err


def test_what_was_measured_is_kept_for_the_next_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "quick.json").write_text(json.dumps({"imports": {"ours": [0.03]}, "measured": {"imports": "a Monday"}}))
    assert main(["--quick", "--ours-only", "--only", "wheel", "--output", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert "30.0 ms" in said.out
    assert "measured on a Monday, not now: imports" in said.err
    assert json.loads((tmp_path / "quick.json").read_text()).keys() == {"imports", "measured", "wheel"}


@pytest.mark.slow
def test_a_session_measures_a_real_worker() -> None:
    load = Load(runs=20, shortest=2, spread=0.5, watch=1, regions=2, record_calls=True)
    seen = session("ours", sys.executable, load)
    assert (seen["failed"], seen["unended"], len(seen["detections"])) == (0, 0, 20)
    # An end is noticed after it happened, or the clocks or the events are mixed up.
    assert 0 <= seen["detections"][0] <= seen["detections"][-1] < 10
    assert 0 < seen["submissions"][-1] < 2
    assert seen["calls"]["jobs.run"] == 20
    rows = table({"detection": {"ours": seen, "recorded": seen}})
    assert "| reads per tick of 2 s, 20 running | ≤ 10, with `fields` |" in rows
    assert "all with `fields`" in rows


def test_waiting_deletes_are_measured() -> None:
    command = [sys.executable, "-m", "benches.deletions", "2", "5"]
    root = Path(__file__).parents[2]
    bench = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=True)
    assert re.findall(r"(\d+) deletes wait: \d+\.\d MiB", bench.stdout) == ["2", "5"]
