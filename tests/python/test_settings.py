"""The observer's settings: how lists are written, and what is refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from prefect_gcp.settings import CloudRunObserverSettings
from prefect_gcp.workers.cloud_run import CloudRunWorker

PREFIX = "PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_OBSERVER_"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("us-east1", ("us-east1",)),
        ("us-east1, europe-west1,", ("us-east1", "europe-west1")),
        ('["us-east1", "us-east1", "europe-west1"]', ("us-east1", "europe-west1")),
        ("123456", ("123456",)),
        ("example.com:old-project", ("example.com:old-project",)),
        ("", ()),
        ("[]", ()),
    ],
)
def test_a_list_has_commas_or_is_json(monkeypatch, text, names):
    for name in ("PROJECTS", "REGIONS"):
        monkeypatch.setenv(PREFIX + name, text)
    settings = CloudRunObserverSettings()
    assert (settings.projects, settings.regions) == (names, names)


def test_a_list_in_prefect_toml_is_a_list(monkeypatch, tmp_path):
    (tmp_path / "prefect.toml").write_text(
        '[integrations.gcp.cloud_run.observer]\nregions = ["a1", "b1"]\nenabled = false\n'
    )
    monkeypatch.chdir(tmp_path)
    settings = CloudRunObserverSettings()
    assert (settings.regions, settings.projects, settings.enabled) == (("a1", "b1"), (), False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REGIONS", "../x"),
        ("PROJECTS", "a/b"),
        ("INTERVAL_SECONDS", "0"),
        ("FORWARD_CRASHED_RUN_LOGS_TAIL_LINES", "0"),
        ("FORWARD_CRASHED_RUN_LOGS_TAIL_LINES", "10001"),
        ("GIVE_BACK_MAX_TRIES", "-1"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(monkeypatch, name, value):
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(ValidationError):
        CloudRunObserverSettings()


@pytest.mark.anyio
async def test_a_worker_names_the_setting_that_keeps_it_from_starting(monkeypatch, caplog):
    monkeypatch.setenv(PREFIX + "INTERVAL_SECONDS", "-3")
    worker = CloudRunWorker(work_pool_name="p")
    with pytest.raises(ValidationError):
        await worker.setup()
    line = f"The worker does not start. A setting is invalid: {PREFIX}INTERVAL_SECONDS: Input should be greater than"
    assert line in caplog.text
