"""The part of `doctor` that looks at what is installed: versions, and which distribution serves which module."""

from __future__ import annotations

import importlib
import importlib.util
import platform
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

import _prefect_gcp_cloud_run_hook as hook
from prefect_gcp_cloud_run import _core
from prefect_gcp_cloud_run._findings import first_line

if TYPE_CHECKING:
    from prefect_gcp_cloud_run._findings import Findings

_OURS = "prefect-gcp-cloud-run"
_UPSTREAM = "prefect-gcp"
# The import package of the upstream distribution. It stays the path of the worker, wherever our own code is.
_PACKAGE = _UPSTREAM.replace("-", "_")
_WORKER = f"{_PACKAGE}.workers.cloud_run"
# What people import of the upstream package, beside the worker.
_MODULES = ["credentials", "workers.cloud_run_v2", "workers.vertex", "cloud_storage", "bigquery", "secret_manager"]
_MODULES += ["deployments.steps", "decorators", "bundles"]
_REINSTALL = f"pip install --force-reinstall --no-deps {_OURS}=={_core.__version__}"


def check_packages(findings: Findings) -> None:
    """Prints the versions, and which distribution serves which module."""
    findings.section("Packages")
    findings.note(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    _check_version(findings)
    _check_requirements(findings)
    upstream = _version(_UPSTREAM)
    findings.note(f"{_UPSTREAM} {upstream}" if upstream else f"{_UPSTREAM}, the upstream package, is not installed")
    _check_worker(findings)
    if upstream:
        for module in _MODULES:
            _show_module(module, findings)


def _check_version(findings: Findings) -> None:
    recorded = _version(_OURS)
    if recorded == _core.__version__:
        findings.fine(f"{_OURS} {recorded}, in {Path(_core.__file__).parent}")
        return
    records = f"the record of installed packages says {recorded}" if recorded else "no installed package has it"
    findings.problem(f"The core that runs here is version {_core.__version__}, but {records}", _REINSTALL)


def _check_requirements(findings: Findings) -> None:
    """Prints the version of Prefect, and each requirement of ours that is not met."""
    try:
        wanted = [Requirement(text) for text in metadata.requires(_OURS) or []]
    except metadata.PackageNotFoundError:
        wanted = []
    for requirement in wanted:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = _version(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            found = f"is {version}" if version else "is not installed"
            findings.problem(
                f"{requirement.name} {found}; {requirement} is needed",
                f"pip install '{requirement.name}{requirement.specifier}'",
            )
        else:
            findings.fine(f"{requirement.name} {version}")


def _check_worker(findings: Findings) -> None:
    """Prints whether the worker that Prefect loads is ours."""
    try:
        module = importlib.import_module(_WORKER)
    except Exception as error:
        findings.problem(f"{_WORKER} can't be imported: {first_line(error)}", _mend_import())
        return
    # A module of ours holds the core. The path alone would not tell: the other distribution may have written the file.
    if getattr(module, "_core", None) is _core:
        findings.fine(f"{_WORKER} is {_OURS}'s: {module.__file__}")
        return
    is_off = not hook.install().serves
    findings.problem(
        f"{_WORKER} is not {_OURS}'s, but {_owner(module.__file__) or 'of unknown origin'}'s: {module.__file__}. "
        "Workers of type cloud-run run that one",
        f"unset {hook.SWITCH}"
        if is_off
        else f"{_REINSTALL}. Leave out --install-policy always, and requirements on {_UPSTREAM} in deployment steps",
    )


def _mend_import() -> str:
    """What mends a worker that can't be imported. This program has imported ours already, so it is not that one."""
    if upstream := _version(_UPSTREAM):
        # Python imports upstream's package first. One of its files, or a library that it needs, is broken or missing.
        wanted = f"{_UPSTREAM}=={upstream}"
        return f"pip install --force-reinstall --no-deps {wanted} && pip install {wanted}"
    return _REINSTALL if hook.install().serves else f"unset {hook.SWITCH}"


def _show_module(name: str, findings: Findings) -> None:
    try:
        spec = importlib.util.find_spec(f"{_PACKAGE}.{name}")
    except Exception as error:
        findings.note(f"{_PACKAGE}.{name} can't be found: {first_line(error)}")
        return
    if spec is not None:
        findings.note(f"{_PACKAGE}.{name} is {_owner(spec.origin) or 'of unknown origin'}'s")


def _owner(file: str | None) -> str | None:
    """The distribution that a file is of."""
    if file is None:
        return None
    path = Path(file).resolve()
    for name in (_UPSTREAM, _OURS):
        if path in _files(name):
            return name
    # An editable installation lists no files.
    return _OURS if path.is_relative_to(Path(_core.__file__).resolve().parent) else None


@cache
def _files(name: str) -> frozenset[Path]:
    try:
        listed = metadata.files(name)
    except metadata.PackageNotFoundError:
        listed = None
    return frozenset(Path(str(file.locate())).resolve() for file in listed or ())


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
