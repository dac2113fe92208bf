"""The part of `doctor` that looks at the settings of the worker."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pydantic import ValidationError

from prefect_gcp_cloud_run._mistakes import nearest, shown
from prefect_gcp_cloud_run.settings import CloudRunObserverSettings, CloudRunWorkerSettings, mistakes_in_settings

if TYPE_CHECKING:
    from prefect_gcp_cloud_run._findings import Findings

_PREFIX = "PREFECT_INTEGRATIONS_GCP_CLOUD_RUN_"
_OF_UPSTREAM = f"{_PREFIX}V2_"
_TABLES: dict[str, type[CloudRunWorkerSettings | CloudRunObserverSettings]] = {
    f"{_PREFIX}WORKER_": CloudRunWorkerSettings,
    f"{_PREFIX}OBSERVER_": CloudRunObserverSettings,
}
# Variables that change where calls go. Their values may hold a password.
_OF_THE_ENVIRONMENT = ["HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"]


def check_settings(findings: Findings) -> tuple[CloudRunWorkerSettings | None, CloudRunObserverSettings | None]:
    """Prints the settings that are not the default, and those that can't be used.

    Returns:
        The settings of the worker and of the observer. None: one of them can't be used.
    """
    findings.section("Settings")
    read: list[CloudRunWorkerSettings | CloudRunObserverSettings | None] = []
    for prefix, kind in _TABLES.items():
        try:
            settings = kind()
        except ValidationError as error:
            for name, what in mistakes_in_settings(error):
                findings.problem(f"{name} can't be used: {what}", f"unset {name}")
            read.append(None)
            continue
        read.append(settings)
        for name, field in kind.model_fields.items():
            value = getattr(settings, name)
            if value != field.default:
                findings.note(f"{prefix}{name.upper()} = {value!r}")
    _check_names(findings)
    host = os.environ.get("CLOUD_RUN_EMULATOR_HOST")
    if host:
        findings.note(f"CLOUD_RUN_EMULATOR_HOST is set: the worker talks to the emulator at {host.rpartition('@')[2]}")
    for name in _OF_THE_ENVIRONMENT:
        if os.environ.get(name) or os.environ.get(name.lower()):
            findings.note(f"{name} is set (not shown)")
    if None not in read and findings.is_empty:
        findings.fine("all have their default values")
    worker, observer = read
    assert not isinstance(worker, CloudRunObserverSettings)  # noqa: S101 - for the type checker
    assert not isinstance(observer, CloudRunWorkerSettings)  # noqa: S101 - for the type checker
    return worker, observer


def _check_names(findings: Findings) -> None:
    """Prints the variables that look like settings and are none: they are ignored without a word."""
    known = [f"{prefix}{name.upper()}" for prefix, kind in _TABLES.items() for name in kind.model_fields]
    for variable in sorted(os.environ):
        name = variable.upper()
        if not name.startswith(_PREFIX) or name.startswith(_OF_UPSTREAM) or name in known:
            continue
        hint = nearest(name, known)
        # The name may be a value in the wrong place.
        tail = shown(name.removeprefix(_PREFIX))
        findings.problem(
            f"{_PREFIX}{tail.strip(chr(39))} is no setting, and is ignored" + (f"; {hint} is one" if hint else ""),
            f"unset {variable}" if tail != "(not shown)" else f"unset the variable that begins with {_PREFIX}",
        )
