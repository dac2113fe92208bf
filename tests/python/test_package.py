"""What importing and installing the package does, and what it must not do."""

import copy
import json
import pickle
import re
import subprocess
import sys
from importlib.metadata import entry_points, files, version
from pathlib import Path

import pytest

import prefect_gcp
from prefect_gcp import exceptions
from prefect_gcp_cloud_run import _core

ROOT = Path(__file__).parents[2]


def test_the_version_is_the_distributions():
    assert prefect_gcp.__version__ == version("prefect-gcp-cloud-run")


def test_classes_of_the_core_have_its_name():
    classes = [value for value in vars(_core).values() if isinstance(value, type)]
    assert len(classes) > 10
    assert {one.__module__ for one in classes} == {"prefect_gcp_cloud_run._core"}


def test_prefect_finds_the_worker_through_the_entry_point():
    (entry,) = entry_points(group="prefect.collections", name="prefect_gcp_cloud_run")
    assert entry.load() is prefect_gcp
    from prefect.workers.base import BaseWorker

    assert BaseWorker.get_worker_class_from_type("cloud-run") is prefect_gcp.CloudRunWorker


def test_importing_the_worker_imports_no_google_library_and_no_server():
    # Namespace packages may be there from the start.
    code = "import sys; old = set(sys.modules); import prefect_gcp.workers.cloud_run; print(*set(sys.modules) - old)"
    modules = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    heavy = re.compile(r"googleapiclient|google\.cloud|google\.auth|prefect\.server")
    assert [module for module in modules if heavy.match(module)] == []


def test_the_wheel_has_a_bill_of_the_crates_in_it():
    (bill,) = (file for file in files("prefect-gcp-cloud-run") or [] if "sboms" in file.parts)
    listed = {(crate["name"], crate["version"]) for crate in json.loads(bill.read_text())["components"]}
    locked = set(re.findall(r'name = "(.+)"\nversion = "(.+)"', (ROOT / "Cargo.lock").read_text()))
    assert listed <= locked
    (needed,) = re.findall(r"\[dependencies\]\n(.*?)\n\n", (ROOT / "Cargo.toml").read_text(), re.DOTALL)
    assert set(re.findall(r"^([\w-]+) =", needed, re.MULTILINE)) <= {name for name, _ in listed}
    # And what these need in turn.
    assert {"ring", "hyper", "rustls-native-certs"} <= {name for name, _ in listed}


def test_every_exception_that_the_core_raises_exists():
    source = (ROOT / "src/python/exceptions.rs").read_text()
    names = set(re.findall(r'"(CloudRun\w*Error)"', source))
    assert len(names) > 8
    for name in names:
        assert issubclass(getattr(exceptions, name), exceptions.CloudRunError)


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_exception_keeps_its_attributes_when_copied(clone):
    error = exceptions.CloudRunQuotaError("no", project="p", region="r", name="j", status=429, hint="wait")
    cloned = clone(error)
    assert type(cloned) is type(error)
    assert str(cloned) == "no"
    assert vars(cloned) == {
        "project": "p",
        "region": "r",
        "name": "j",
        "status": 429,
        "api_message": "",
        "job": "",
        "permission": "",
        "resource": "",
        "hint": "wait",
    }


def test_every_difference_that_a_test_names_is_in_the_docs_and_the_other_way_round():
    here = Path(__file__).parent
    sources = "".join(file.read_text() for file in here.glob("test_*.py"))
    named = set(re.findall(r"mark\.difference\(\"([^\"]+)\"\)", sources))
    listed = re.findall(r"^\| `([^`]+)` \|", (here.parents[1] / "docs" / "differences.md").read_text(), re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert named == set(listed)
