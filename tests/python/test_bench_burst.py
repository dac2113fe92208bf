"""The bench of flow runs that are due at once: what it compares, what it prints, and that it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benches import burst
from benches.bursting import database

SEEN = {
    "name": "here",
    "runs": 200,
    "started": 200,
    "first": 1.234,
    "median": 5.0,
    "last": 10.0,
    "calls": {"GET /api/flows/{id}": 1, "POST /api/flow_runs/{id}/set_state": 400},
    "calls per run": 2.005,
    "worker CPU": 4.0,
    "server CPU": 20.0,
    "MB": 90.0,
}


def test_the_upstream_worker_is_compared_where_its_threads_suffice() -> None:
    names = [worker.name for worker in burst.contenders(200, "python", with_parts=True, at_once=[4])]
    assert names[:2] == ["here", "upstream worker"]
    assert names[-1] == "here, 4 at once"
    assert len(names) == 7
    assert [worker.name for worker in burst.contenders(1000, "python", with_parts=True)] == ["here"]
    assert [worker.name for worker in burst.contenders(50, None, with_parts=True)] == ["here"]


def test_the_table_says_what_did_not_start() -> None:
    cells = "200 | here | 1.23 s | 5.00 s | 10.0 s | 2.00 | 4.00 s | 20.0 s | 90.0 MB"
    assert burst.row(SEEN) == f"| {cells} |\n"
    assert "here (50 did not start in 600 s)" in burst.row(SEEN | {"started": 150})
    assert "| `POST /flow_runs/{id}/set_state` | 2.00 |" in burst.requests([SEEN])


def test_without_postgresql_a_clear_word_says_what_to_do(monkeypatch, capsys, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(database, "DEBIAN", tmp_path)
    assert burst.main(["--ours-only"]) == 1
    assert "apt-get install postgresql" in capsys.readouterr().err


@pytest.mark.slow
def test_a_burst_runs_with_a_server_on_sqlite(capsys, tmp_path: Path) -> None:
    words = ["--runs", "3", "--sqlite", "--ours-only", "--no-parts", "--output", str(tmp_path)]
    assert burst.main(words) == 0
    (seen,) = json.loads((tmp_path / "burst.json").read_text())
    assert seen["started"] == 3
    assert 0 < seen["first"] <= seen["median"] <= seen["last"]
    assert seen["calls"]["GET /api/deployments/{id}"] == 1
    assert seen["worker CPU"] > 0
    assert "| 3 | here |" in capsys.readouterr().out
