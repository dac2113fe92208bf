"""This distribution beside the upstream one, `prefect-gcp`: installed, upgraded and removed in every order.

The environments are copies of `.venv-beside`, which the Makefile makes. Nothing is downloaded here.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from prefect.settings import PREFECT_API_URL

from prefect_gcp.emulator import Emulator

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BASE = ROOT / ".venv-beside"
PROBE = Path(__file__).with_name("beside.py")
BIN = Path(sys.executable).parent
OURS, UPSTREAM = "prefect-gcp-cloud-run", "prefect-gcp"
# What upstream has besides the modules that both have.
ONLY_UPSTREAMS = [
    "bigquery",
    "bundles",
    "bundles.execute",
    "bundles.upload",
    "cloud_storage",
    "decorators",
    "deployments.steps",
    "experimental.bundles.upload",
    "experimental.decorators",
    "secret_manager",
    "workers.cloud_run_v2",
    "workers.vertex",
]
SHARED_NAMES = ["", "credentials", "models.cloud_run_v2", "settings", "utilities", "workers"]
ONLY_OURS = ["cli", "emulator", "exceptions"]


class Environment:
    """A copy of the prepared environment, and a tool that installs into it."""

    def __init__(self, folder: Path, tool: str) -> None:
        self.folder, self.tool = folder, tool
        self.python = folder / "bin/python"
        subprocess.run(["cp", "-al", BASE, folder], check=True)
        (self.site,) = folder.glob("lib/python3*/site-packages")
        self.home = folder / "home"

    def _tool(self, *arguments: str | Path) -> str:
        if self.tool == "pip":
            command = [BIN / "python", "-m", "pip", "--disable-pip-version-check", "--python", self.python, *arguments]
        else:
            command = [BIN / "uv", "pip", *arguments, "--python", self.python]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=self.env())
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def install(self, wheel: Path) -> None:
        """Installs or upgrades."""
        offline = "--no-index" if self.tool == "pip" else "--offline"
        self._tool("install", offline, "--no-deps", "--upgrade", wheel)

    def uninstall(self, name: str) -> None:
        self._tool("uninstall", *(["--yes"] if self.tool == "pip" else []), name)

    def check(self) -> None:
        """Both tools' own check, and that each distribution has every file that it was installed with."""
        self._tool("check")
        owners: dict[str, str] = {}
        for record in self.site.glob("prefect_gcp*.dist-info/RECORD"):
            for path, digest, _size in csv.reader(io.StringIO(record.read_text())):
                assert owners.setdefault(path, record.parent.name) == record.parent.name
                assert (self.site / path).exists(), f"{path} of {record.parent.name} is gone"
                if digest and path.startswith("prefect_gcp"):
                    content = hashlib.sha256((self.site / path).read_bytes()).digest()
                    assert digest == "sha256=" + base64.urlsafe_b64encode(content).decode().rstrip("=")

    def env(self, **more: str) -> dict[str, str]:
        left_out = ("PYTEST", "VIRTUAL_ENV", "PYTHON")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        # There are no application default credentials, and no metadata server to ask.
        return kept | {"PREFECT_HOME": str(self.home), "NO_GCE_CHECK": "true"} | more

    def run(self, *arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs the environment's interpreter, outside of the repository."""
        command = [str(self.python), *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=self.folder, env=self.env(**env), timeout=300
        )

    def code(self, code: str, *options: str, **env: str) -> str:
        done = self.run(*options, "-c", code, **env)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout.strip()

    def probes(self, *firsts: list[str], **env: str) -> list[dict[str, object]]:
        """What processes find that import these modules first."""
        done = self.run(PROBE, *map(" ".join, firsts), KEY=key(), **env)
        assert done.returncode == 0, done.stderr
        assert "Warning!" not in done.stdout
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def probe(self, *first: str, **env: str) -> dict[str, object]:
        (found,) = self.probes([*first], **env)
        return found


_KEY: list[str] = []


def key() -> str:
    """A service account key, as JSON text."""
    if not _KEY:
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        fields = {"type": "service_account", "project_id": "from-the-key", "client_email": "a@b.c"}
        _KEY.append(json.dumps(fields | {"private_key": private.decode(), "token_uri": "http://127.0.0.1:1/token"}))
    return _KEY[0]


def newer(wheel: Path, folder: Path) -> Path:
    """The same wheel with a higher version."""
    old = wheel.name.split("-")[1]
    new = f"{old}.post1"
    path = folder / wheel.name.replace(f"-{old}-", f"-{new}-", 1)
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        record = []
        for name in source.namelist():
            content = source.read(name)
            name = name.replace(f"-{old}.", f"-{new}.", 1)
            if name.endswith("/RECORD"):
                content = "".join([*record, f"{name},,\n"]).encode()
            elif name.endswith("/METADATA"):
                content = content.replace(f"Version: {old}".encode(), f"Version: {new}".encode(), 1)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
            record.append(f"{name},sha256={digest},{len(content)}\n")
            target.writestr(name, content)
    return path


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> dict[str, Path]:
    """The wheels of both distributions, and of a later version of each."""
    assert (BASE / ".packages").exists(), "make test-python prepares .venv-beside"
    (ours,) = (ROOT / "target/wheels/dev").glob("*.whl")
    (upstream,) = (BASE / "upstream").glob("*.whl")
    folder = tmp_path_factory.mktemp("newer")
    return {
        OURS: ours,
        UPSTREAM: upstream,
        f"{OURS} newer": newer(ours, folder),
        f"{UPSTREAM} newer": newer(upstream, folder),
    }


def is_right(found: dict[str, object], there: set[str]) -> None:
    """Compares what a process found with what it must find."""
    served = "prefect_gcp_cloud_run"
    modules = dict.fromkeys(ONLY_UPSTREAMS, "prefect_gcp" if UPSTREAM in there else None)
    modules |= dict.fromkeys(SHARED_NAMES, "prefect_gcp" if UPSTREAM in there else served)
    modules |= dict.fromkeys(ONLY_OURS, served if OURS in there else None)
    modules["workers.cloud_run"] = served if OURS in there else "prefect_gcp"
    assert found["modules"] == modules
    assert found["slugs"] == ["GcpCredentials"]
    assert {"cloud-run"} | ({"cloud-run-v2", "vertex-ai"} if UPSTREAM in there else set()) <= set(found["types"])
    assert (found["worker"] == "prefect_gcp_cloud_run.workers.cloud_run") == (OURS in there)
    assert (len(found["built"]) == 8) == (UPSTREAM in there)
    if OURS in there:
        assert found["accepts"] == ["emulator-project", "emulator-project", "named", "from-the-key"]
        # The same beside upstream's class of credentials as with ours.
        said = zip(found["refused"], REFUSED, strict=True)
        assert [(one, part) for one, part in said if part not in one] == []


# What is said about the credentials in beside.py's `refused`.
REFUSED = [
    "did you mean 'service_account_info'?",
    "These are the fields of a key file. Put the key into 'service_account_info'",
    *["Unable to decode service_account_info"] * 3,
    "Input should be a valid dictionary",
    "Only one of service_account_info or service_account_file can be specified at once",
    *["The provided path to the service account is invalid"] * 5,
    "FOLDER/no-json is not a readable JSON key file",
    "Input should be a valid string",
    "credentials must be a mapping",
]
# Each of these may be what a process imports first.
FIRST = [
    [],
    ["prefect_gcp.workers.cloud_run"],
    ["prefect_gcp.credentials"],
    ["prefect_gcp.models.cloud_run_v2"],
    ["prefect.cli", "prefect_gcp"],
]
FIRST_OURS = [
    ["prefect_gcp_cloud_run"],
    ["prefect_gcp_cloud_run.workers.cloud_run"],
    ["prefect_gcp_cloud_run.credentials"],
    ["prefect_gcp_cloud_run.models.cloud_run_v2"],
    ["prefect_gcp_cloud_run.workers._configuration"],
]
FIRST_UPSTREAMS = [["prefect_gcp.workers.vertex"], ["prefect_gcp.decorators"], ["prefect_gcp.deployments.steps"]]


@pytest.mark.difference("beside-upstream")
@pytest.mark.parametrize(
    ("tool", "steps"),
    [
        # Every step from every state: each comes and goes alone, before and after the other, and is upgraded beside it.
        ("uv", "+ours, =ours, +theirs, =theirs, =ours, -ours, =theirs, +ours, -theirs, -ours, +theirs, -theirs"),
        ("pip", "+ours, +theirs, =theirs, =ours, -ours, +ours, -theirs, -ours"),
    ],
)
def test_both_distributions_can_be_installed_upgraded_and_removed_in_any_order(tool, steps, wheels, tmp_path):
    environment = Environment(tmp_path / "venv", tool)
    there: set[str] = set()
    for number, step in enumerate(steps.split(", ")):
        action, name = step[0], OURS if step[1:] == "ours" else UPSTREAM
        if action == "-":
            environment.uninstall(name)
            there.remove(name)
        else:
            # An upgrade to the later version, or back to the earlier one, which replaces the files too.
            environment.install(wheels[f"{name} newer" if action == "=" and number < 5 else name])
            there.add(name)
        environment.check()
        # A look inside takes a while. pip's walk is about its files.
        if there and (number % 2 == 0 if tool == "uv" else number in (1, 5)):
            firsts = FIRST + (FIRST_OURS if OURS in there else []) + (FIRST_UPSTREAMS if UPSTREAM in there else [])
            is_right(environment.probe(*firsts[number % len(firsts)]), there)
    left = [path.name for path in environment.site.iterdir() if "prefect_gcp" in path.name]
    assert left == []


@pytest.fixture(scope="module")
def both(wheels, tmp_path_factory) -> Environment:
    """An environment with both distributions."""
    environment = Environment(tmp_path_factory.mktemp("both") / "venv", "uv")
    environment.install(wheels[UPSTREAM])
    environment.install(wheels[OURS])
    return environment


@pytest.fixture(scope="module")
def alone(wheels, tmp_path_factory) -> Environment:
    """An environment with our distribution only."""
    environment = Environment(tmp_path_factory.mktemp("alone") / "venv", "uv")
    environment.install(wheels[OURS])
    return environment


@pytest.mark.usefixtures("prefect_server")
def test_the_doctor_finds_no_problem_beside_upstream_and_says_what_is_wrong(both, tmp_path):
    doctor = ("-m", "prefect_gcp_cloud_run.cli", "doctor")
    with Emulator(executor="simulated", projects=["examined"]) as emulator:
        env = {
            "CLOUD_RUN_EMULATOR_HOST": emulator.host,
            "GOOGLE_CLOUD_PROJECT": "examined",
            "PREFECT_API_URL": str(PREFECT_API_URL.value()),
            "HOME": str(tmp_path),
        }
        done = both.run(*doctor, **env)
        off = both.run(*doctor, PREFECT_GCP_CLOUD_RUN_IMPORT_HOOK="0", **env)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert "prefect_gcp.credentials is prefect-gcp's" in done.stdout
    assert "Project examined, region " in done.stdout
    assert off.returncode == 1, off.stdout + off.stderr
    assert "to mend: unset PREFECT_GCP_CLOUD_RUN_IMPORT_HOOK" in off.stdout
    # The command's process uses our class, which Prefect then has for the type. docs/decisions/0001 says so.
    assert "matches existing registered type" in off.stderr


def test_whatever_is_imported_first_the_same_classes_are_there(both):
    firsts = FIRST + FIRST_OURS + FIRST_UPSTREAMS
    found = both.probes(*firsts)
    assert len(found) == len(firsts)
    for one in found:
        is_right(one, {OURS, UPSTREAM})


def test_the_hook_loads_nothing_else_at_the_start_of_the_interpreter(both):
    code = "import sys; print(*sorted(sys.modules))"
    loaded = set(both.code(code).split())
    hook = both.site / "prefect_gcp_cloud_run_hook.pth"
    content = hook.read_text()
    try:
        hook.unlink()
        without = set(both.code(code).split())
    finally:
        hook.write_text(content)
    assert loaded - without == {"_prefect_gcp_cloud_run_hook"}


def test_with_the_hook_switched_off_everything_of_prefect_gcp_is_upstreams(both, alone):
    off = {"PREFECT_GCP_CLOUD_RUN_IMPORT_HOOK": "0"}
    is_right(both.probe(**off), {UPSTREAM})
    is_right(both.probe("prefect_gcp_cloud_run", **off), {UPSTREAM})
    code = "import prefect_gcp_cloud_run.workers.cloud_run as w; from prefect.workers.base import BaseWorker as B; "
    code += "print(B.get_worker_class_from_type('cloud-run') is w.CloudRunWorker)\n"
    code += "try: import prefect_gcp\nexcept ModuleNotFoundError: print('none')"
    assert alone.code(code, **off).split() == ["True", "none"]


@pytest.mark.difference("schema-texts")
def test_the_pool_templates_of_both_cases_differ_in_descriptions_only(both, alone):
    code = "import json; from prefect_gcp.workers.cloud_run import CloudRunWorker as W; "
    code += "print(json.dumps(W.get_default_base_job_template()))"
    templates = [json.loads(environment.code(code)) for environment in (both, alone)]
    ours, others = map(without_descriptions, templates)
    assert ours == others
    assert templates[0] != templates[1]


def without_descriptions(value: object) -> object:
    """The value without the texts that a user interface shows for classes and fields."""
    if isinstance(value, list):
        return [without_descriptions(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {key: without_descriptions(one) for key, one in value.items() if key != "description"}


def test_where_no_pth_file_is_read_importing_our_package_installs_the_hook(both):
    # As with `pip install --target` and PYTHONPATH: -S leaves out site-packages.
    path = {"PYTHONPATH": str(both.site)}
    check = "import prefect_gcp_cloud_run, prefect_gcp, prefect_gcp.workers.cloud_run as w, prefect_gcp.workers as ws\n"
    check += "from prefect.workers.base import BaseWorker as B\n"
    check += "assert prefect_gcp.CloudRunWorker is w.CloudRunWorker is B.get_worker_class_from_type('cloud-run')\n"
    check += "assert ws.cloud_run is w; print(w.__name__)"
    assert both.code(check, "-S", **path) == "prefect_gcp_cloud_run.workers.cloud_run"
    # Upstream's worker was registered before: Prefect warns of the second of its type.
    early = "import warnings; warnings.simplefilter('ignore'); import prefect_gcp\n"
    assert both.code(early + check, "-S", **path) == "prefect_gcp_cloud_run.workers.cloud_run"
    assert both.code(check, "-I") == "prefect_gcp_cloud_run.workers.cloud_run"


def test_modules_files_sources_and_reloads_are_the_real_ones(both, alone):
    code = """
import importlib, inspect, pickle, runpy, sys, traceback, warnings
import prefect_gcp.workers.cloud_run as worker
import prefect_gcp_cloud_run.workers.cloud_run as real
assert worker is real and worker.__spec__.name == real.__name__ == "prefect_gcp_cloud_run.workers.cloud_run"
assert worker.__spec__.origin == worker.__file__ == inspect.getsourcefile(worker.CloudRunWorker)
assert inspect.getsource(worker.CloudRunWorker).startswith("class CloudRunWorker")
from prefect_gcp import GcpCredentials
assert inspect.getsource(GcpCredentials).startswith("class GcpCredentials")
from prefect_gcp.exceptions import CloudRunError
old = b"cprefect_gcp.exceptions\\nCloudRunError\\n."
assert pickle.loads(old) is CloudRunError and pickle.loads(pickle.dumps(CloudRunError)) is CloudRunError
spec = importlib.util.find_spec("prefect_gcp.emulator")
assert spec.name == "prefect_gcp.emulator" and spec.origin.endswith("prefect_gcp_cloud_run/emulator.py")
made = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made)
import prefect_gcp.emulator
assert made.Emulator is prefect_gcp.emulator.Emulator and spec.loader.get_source("prefect_gcp.emulator")
try:
    worker.CloudRunWorkerJobConfiguration._contains_the_base_body(None)
except Exception as error:
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    assert any(name.endswith("prefect_gcp_cloud_run/workers/_configuration.py") for name in frames), frames
assert importlib.reload(prefect_gcp.exceptions).__name__ == "prefect_gcp_cloud_run.exceptions"
print("ok")
"""
    assert both.code(code) == "ok"
    assert alone.code(code) == "ok"
    for environment in (both, alone):
        done = environment.run("-m", "prefect_gcp.emulator", "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert "usage: python -m prefect_gcp.emulator" in done.stdout


@pytest.mark.parametrize("public", ["prefect_gcp", "prefect_gcp.workers.cloud_run"])
def test_threads_that_import_both_packages_at_once_get_the_same_classes(both, public):
    """One public name each: CPython before 3.13 can't import a package and a module of it in two threads."""
    code = """
import importlib, sys, threading
names = ["PUBLIC", "prefect_gcp_cloud_run"] * 4
import prefect.workers.base
# Threads meet in the middle of nearly every import.
sys.setswitchinterval(0.0001)
barrier, errors = threading.Barrier(len(names)), []
def load(name):
    barrier.wait()
    try: importlib.import_module(name)
    except BaseException as error: errors.append(f"{name}: {error!r}")
threads = [threading.Thread(target=load, args=(name,)) for name in names]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
assert not errors, errors
import prefect_gcp, prefect_gcp_cloud_run
assert prefect_gcp.GcpCredentials is prefect_gcp_cloud_run.GcpCredentials
assert prefect_gcp.CloudRunWorker is prefect_gcp_cloud_run.CloudRunWorker
print("ok")
"""
    assert both.code(code.replace("PUBLIC", public)) == "ok"


def test_upstream_that_is_installed_into_a_running_process_is_found_by_prefect(wheels, tmp_path):
    """`prefect worker start --install-policy` and the `requires` of a deployment's step do so."""
    environment = Environment(tmp_path / "venv", "uv")
    environment.install(wheels[OURS])
    install = [str(BIN / "uv"), *["pip", "install", "-q", "--offline", "--no-deps", "--python"]]
    install += [str(environment.python), str(wheels[UPSTREAM])]
    code = f"""
import importlib, subprocess, warnings
warnings.simplefilter("ignore")
from prefect.plugins import load_prefect_collections
from prefect.workers.base import BaseWorker
load_prefect_collections()
import prefect_gcp.credentials
ours, block = BaseWorker.get_worker_class_from_type("cloud-run"), prefect_gcp.credentials.GcpCredentials
subprocess.run({install!r}, check=True)
load_prefect_collections(reload=True)
assert BaseWorker.get_worker_class_from_type("cloud-run-v2").__module__ == "prefect_gcp.workers.cloud_run_v2"
assert BaseWorker.get_worker_class_from_type("cloud-run") is ours
import prefect_gcp.deployments.steps, prefect_gcp.bundles.upload, prefect_gcp.workers.cloud_run
assert prefect_gcp.credentials.GcpCredentials is block and prefect_gcp.workers.cloud_run.CloudRunWorker is ours
print("ok")
"""
    assert environment.code(code) == "ok"


def test_an_upstream_that_cannot_be_imported_does_not_stop_our_worker(wheels, tmp_path):
    environment = Environment(tmp_path / "venv", "uv")
    environment.install(wheels[OURS])
    environment.install(wheels[UPSTREAM])
    broken = environment.site / "prefect_gcp/secret_manager.py"
    broken.unlink()
    broken.write_text("import a_module_that_is_not_there")
    code = (
        "from prefect.workers.base import BaseWorker as B; print(B.get_worker_class_from_type('cloud-run').__module__)"
    )
    done = environment.run("-c", code)
    assert done.stdout.split()[-1] == "prefect_gcp_cloud_run.workers.cloud_run"
    assert done.returncode == 0, done.stderr
    examined = environment.run("-m", "prefect_gcp_cloud_run.cli", "doctor", CLOUD_RUN_EMULATOR_HOST="127.0.0.1:1")
    assert "to mend: pip install --force-reinstall --no-deps prefect-gcp==" in examined.stdout, examined.stderr


def test_a_folder_that_an_uninstall_left_behind_is_not_upstream(wheels, tmp_path):
    environment = Environment(tmp_path / "venv", "uv")
    environment.install(wheels[OURS])
    (environment.site / "prefect_gcp/__pycache__").mkdir(parents=True)
    is_right(environment.probe(), {OURS})


# What people import, and what a type checker must know of it.
TYPED = """
from prefect_gcp import CloudRunWorker, GcpCredentials
from prefect_gcp.cli import main
from prefect_gcp.credentials import ClientType
from prefect_gcp.credentials import GcpCredentials as Credentials
from prefect_gcp.emulator import Emulator
from prefect_gcp.exceptions import CloudRunError
from prefect_gcp.models.cloud_run_v2 import SecretKeySelector
from prefect_gcp.utilities import slugify_name
from prefect_gcp.workers.cloud_run import CloudRunWorker as Worker
from prefect_gcp.workers.cloud_run import CloudRunWorkerJobConfiguration, CloudRunWorkerResult, CloudRunWorkerVariables
from prefect_gcp.workers.cloud_run import _get_base_job_body, _get_default_job_body_template

body: int = _get_base_job_body()
template: int = _get_default_job_body_template()
worker: int = Worker
name: int = slugify_name("")
"""


def test_a_type_checker_finds_the_types_of_the_names_that_are_served(both, alone, tmp_path):
    sample = tmp_path / "sample.py"
    sample.write_text(TYPED)
    for environment in (both, alone):
        options = ["--strict", "--follow-imports=silent", "--no-color-output", f"--cache-dir={tmp_path / 'cache'}"]
        command = [str(BIN / "mypy"), *options, f"--python-executable={environment.python}", str(sample)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
        # It knows each type, so that it finds the four mistakes, and finds no other.
        errors = [line.partition("error: ")[2] for line in done.stdout.splitlines() if "error: " in line]
        assert len(errors) == 4, done.stdout + done.stderr
        assert all("[assignment]" in error for error in errors), errors
    # What only upstream has is looked for in upstream's package, as without our stubs.
    assert (both.site / "prefect_gcp-stubs/py.typed").read_text() == "partial\n"
