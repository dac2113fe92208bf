"""What a release is made of: the tools that make it, the image, and what is said where a machine lacks something."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools import dist, image, release_notes

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())

# Release notes and version


def test_the_notes_of_a_release_are_its_part_of_the_changelog():
    text = "# Changelog\n\n## Unreleased\n\n- soon\n\n## [1.2.0] - 2026-11-26\n\n### Added\n\n- a\n\n## 1.1.0\n\n- b\n"
    assert release_notes.release_notes(text, "1.2.0") == "### Added\n\n- a\n"
    assert release_notes.release_notes(text, "1.1.0") == "- b\n"
    assert release_notes.release_notes(text, "1.3.0") == "- soon\n"
    with pytest.raises(ValueError, match="says nothing about version 2: add a heading '## 2'"):
        release_notes.release_notes("# Changelog\n\n## 1.1.0\n\n- b\n", "2")
    assert release_notes.release_notes((ROOT / "CHANGELOG.md").read_text(), release_notes.version())


def test_the_version_stands_in_one_place():
    version = release_notes.version()
    assert f"ARG VERSION={version}\n" in DOCKERFILE
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text()


# The machine


def program(folder: Path, name: str, script: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def need(what: str, name: str) -> str:
    """What is said about a program; empty if it will do."""
    done = subprocess.run(["sh", ROOT / "tools/need.sh", what, name], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (not done.stderr), done
    return done.stderr.strip()


@pytest.mark.parametrize(
    ("version", "is_enough"),
    [
        ("1.63.0", False),
        ("1.87.9", False),
        ("1.88.0", True),
        ("1.100.0", True),
        ("2.0.0", True),
        ("1.88.0-nightly", True),
    ],
)
def test_a_rust_that_is_too_old_is_named(tmp_path, version, is_enough):
    said = need("rust", program(tmp_path, "cargo", f"echo 'cargo {version} (abc 2026-01-01)'"))
    words = f"Rust {version} is older than 1.88, which is needed: https://rustup.rs installs a current one"
    assert said == "" if is_enough else said.startswith(words)


@pytest.mark.parametrize(("version", "is_enough"), [("2.7", False), ("3.9", False), ("3.10", True), ("3.14", True)])
def test_a_python_that_is_too_old_is_named(tmp_path, version, is_enough):
    said = need("python", program(tmp_path, "python3", f"echo {version}"))
    assert said == "" if is_enough else f"is Python {version}, which is older than 3.10: " in said


def test_what_is_not_there_or_does_not_run_is_named(tmp_path):
    assert need("rust", "no-such-cargo").startswith(
        "There is no no-such-cargo on the path. Rust 1.88 or later is needed"
    )
    assert need("python", "no-such-python").startswith("There is no no-such-python on the path. Python 3.10 or later")
    broken = program(tmp_path, "broken", "exit 127")
    assert "does not say its version. Rust 1.88 or later" in need("rust", broken)
    assert "does not run. Python 3.10 or later is needed" in need("python", broken)
    without_venv = program(tmp_path, "debians", 'case "$2" in *ensurepip*) exit 1;; *) echo 3.12;; esac')
    assert "apt-get install python3-venv" in need("python", without_venv)
    assert need("python", sys.executable) == ""


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_two_commands_say_it_before_they_do_anything(tmp_path, target):
    (tmp_path / "tools").mkdir()
    (tmp_path / "src").mkdir()
    (tmp_path / "python").mkdir()
    for name in ("Makefile", "Cargo.toml", "Cargo.lock", "pyproject.toml", "requirements.lock", "tools/need.sh"):
        shutil.copy(ROOT / name, tmp_path / name)
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    cargo = program(tmp_path, "cargo", 'echo "cargo 1.63.0 (Debian 12)"')
    old_rust = ["make", target, f"CARGO={cargo}", f"PYTHON={program(tmp_path, 'python3', 'echo 3.9')}"]
    done = subprocess.run(old_rust, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    said = "is Python 3.9, which is older than 3.10" if target == "demo" else "Rust 1.63.0 is older than 1.88"
    assert said in done.stderr, done.stderr
    assert not (tmp_path / ".venv").exists()


# Wheels


def test_only_targets_that_the_toolchain_has_get_a_wheel(tmp_path):
    assert dist.targets_of(tmp_path) == []
    (tmp_path / "lib/rustlib/aarch64-unknown-linux-gnu/lib").mkdir(parents=True)
    assert dist.targets_of(tmp_path) == []
    (tmp_path / "lib/rustlib/aarch64-unknown-linux-gnu/lib/libstd-1.rlib").touch()
    assert [target.machine for target in dist.targets_of(tmp_path)] == ["aarch64"]


def test_a_wheel_has_each_module_and_nothing_else(tmp_path):
    def wheel(names: set[str], name: str = "") -> Path:
        path = tmp_path / (name or f"prefect_gcp_cloud_run-{release_notes.version()}-cp310-abi3-any.whl")
        with zipfile.ZipFile(path, "w") as archive:
            for file in names:
                archive.writestr(file, "")
        return path

    modules = dist.modules()
    package = "prefect_gcp_cloud_run"
    hook = f"{package}-{release_notes.version()}.data/platlib/{package}_hook.pth"
    assert hook in modules, "without it, Python does not run the import hook"
    whole = modules | {f"{package}/_core.abi3.so", "prefect_gcp_cloud_run-1.dist-info/METADATA"}
    dist.check_wheel(wheel(whole))
    with pytest.raises(dist.DistError, match=r"lacks .*cli\.py"):
        dist.check_wheel(wheel({name for name in whole if not name.endswith("/cli.py")}))
    with pytest.raises(dist.DistError, match=r"lacks .*_hook\.pth"):
        dist.check_wheel(wheel(whole - {hook}))
    with pytest.raises(dist.DistError, match=r"has tests/secret\.py, which do not belong"):
        dist.check_wheel(wheel(whole | {"tests/secret.py"}))
    with pytest.raises(dist.DistError, match="is not of version"):
        dist.check_wheel(wheel(whole, "prefect_gcp_cloud_run-0.0.0-cp310-abi3-any.whl"))


def test_a_python_is_found_by_its_version(tmp_path, monkeypatch):
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert dist.find_python(here) == sys.executable
    assert dist.find_python("3.999") is None
    # As pyenv does it: the name on the path answers that there is no such version here.
    program(tmp_path, "python3.998", "exit 127")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    assert dist.find_python("3.998") is None
    folder = tmp_path / "pyenv/versions/3.998.1/bin"
    folder.mkdir(parents=True)
    assert dist.find_python("3.998") is None
    program(folder, "python", "echo 3.998")
    assert dist.find_python("3.998") == str(folder / "python")


# The image


def last_stage() -> image.Stage:
    return image.stages(DOCKERFILE)[-1]


def test_the_stages_of_the_dockerfile_are_read_as_they_stand():
    wheel, packages, last = image.stages(DOCKERFILE)
    assert (wheel.name, packages.name, last.name) == ("wheel", "packages", "")
    assert packages.base == last.base, "the packages are for the Python that runs them"
    (rust,) = re.findall(r"^rust:(\d+)\.(\d+)-", wheel.base)
    (wanted,) = re.findall(r'^rust-version = "(\d+)\.(\d+)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    assert tuple(map(int, rust)) >= tuple(map(int, wanted))


def test_what_the_image_is_built_from_is_there_and_not_ignored():
    rules = (ROOT / ".dockerignore").read_text()
    wheel, packages, _last = image.stages(DOCKERFILE)
    sources = [
        source
        for stage in (wheel, packages)
        for keyword, text in stage.steps
        if keyword == "COPY" and "--from" not in text
        for source in text.split()[:-1]
    ]
    (data,) = re.findall(r'^data = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert {"src", "python", data, "docker/worker.lock"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not image.ignored(source, rules), source
    for source in ("target", ".venv/bin/python", ".git/config", "tests/data/calls.json", "python/a/__pycache__/b.pyc"):
        assert image.ignored(source, rules), source
    for source in ("python/prefect_gcp_cloud_run/cli.py", f"{data}/platlib/prefect_gcp_cloud_run_hook.pth"):
        assert (ROOT / source).exists(), source
        assert not image.ignored(source, rules), source


def test_the_image_runs_as_a_user_and_installs_nothing():
    last = last_stage()
    assert last.last("USER") == "10001:10001"
    assert not any("pip install" in text for _, text in last.steps)
    entrypoint = json.loads(last.last("ENTRYPOINT"))
    assert entrypoint[entrypoint.index("--install-policy") + 1] == "never"
    labels = last.last("LABEL")
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in labels


def test_prefect_knows_the_options_of_the_image():
    words = json.loads(last_stage().last("ENTRYPOINT"))
    command = [sys.executable, "-m", *words, "--pool", "p", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for option in (word for word in words if word.startswith("--")):
        assert option in done.stdout


@pytest.mark.parametrize(("status", "is_healthy"), [(200, True), (503, False)])
def test_the_health_check_of_the_image_asks_the_worker(status, is_healthy):
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        (_python, *words) = json.loads(last_stage().last("HEALTHCHECK").partition(" CMD ")[2].strip())
        env = {"PREFECT_WORKER_WEBSERVER_PORT": str(server.server_port)}
        done = subprocess.run([sys.executable, *words], env=env, capture_output=True, timeout=60, check=False)
        server.shutdown()
    assert (done.returncode == 0, asked) == (is_healthy, ["/health"])


def test_the_image_has_the_versions_that_are_tested():
    tested = pinned(ROOT / "requirements.lock")
    for lock in ("worker", "build"):
        versions = pinned(ROOT / f"docker/{lock}.lock")
        assert versions
        assert versions.items() <= tested.items()
    assert "prefect" in pinned(ROOT / "docker/worker.lock")


def pinned(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==([^ \n]+)", lock.read_text(), re.MULTILINE))


# The compose file


def test_the_compose_file_has_the_prefect_of_the_image():
    version = pinned(ROOT / "docker/worker.lock")["prefect"]
    assert COMPOSE["services"]["server"]["image"].startswith(f"prefecthq/prefect:{version}-python3.")


def test_the_compose_file_hangs_together():
    services = COMPOSE["services"]
    assert set(services) == {"database", "server", "emulator", "worker", "deploy"}
    for name, service in services.items():
        for other in service.get("depends_on", {}):
            # A service that is waited for says when it is ready: the worker's image does.
            assert "healthcheck" in services[other] or other == "worker", f"{name}: {other}"
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name}: the emulator runs commands, and passwords stand in the file"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (ROOT / source).is_dir(), f"{name}: {volume}"
    (pool,) = re.findall(r'work_pool_name="([^"]+)"', (ROOT / "demo/flow.py").read_text())
    assert services["worker"]["command"] == ["--pool", pool]
    assert services["worker"]["environment"]["CLOUD_RUN_EMULATOR_HOST"] == "emulator:8080"


def test_the_emulator_knows_the_options_of_the_compose_file():
    from prefect_gcp.emulator import _parser

    program, flag, module, *options = COMPOSE["services"]["emulator"]["entrypoint"]
    assert (program, flag, module) == ("python", "-m", "prefect_gcp.emulator")
    parsed = _parser().parse_args(options)
    assert (parsed.host, parsed.port) == ("0.0.0.0", 8080)


# The page about the service


def test_the_page_about_the_service_uses_what_the_page_that_it_names_has_made():
    page, first = ((ROOT / "docs" / name).read_text() for name in ("cloud-run-service.md", "google.md"))
    assert "(google.md), steps 1 to 4" in page
    uses = {
        "iam": "gcloud iam service-accounts create",
        "iamcredentials": "--impersonate-service-account",
        "secretmanager": "gcloud secrets create",
        "artifactregistry": "gcloud artifacts repositories create",
    }
    for api, use in uses.items():
        assert first.index(f" {api}.googleapis.com") < first.index(use)
    secrets = re.findall(
        r"gcloud secrets add-iam-policy-binding (\S+)|--set-secrets PREFECT_API_KEY=([^:]+):", page + first
    )
    assert {name for pair in secrets for name in pair if name} == {"prefect-api-key"}
    assert first.index("gcloud secrets create prefect-api-key ") < first.index("gcloud secrets add-iam-policy-binding")


def test_the_sdist_has_what_a_build_needs_and_nothing_else(tmp_path):
    # The tests have a home of their own, in which rustup finds no toolchain.
    env = os.environ | {"HOME": pwd.getpwuid(os.getuid()).pw_dir}
    command = [Path(sys.executable).with_name("maturin"), "sdist", "--out", tmp_path]
    subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    command = ["git", "ls-files", "src", "python", "python-data"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    needed = {"Cargo.toml", "Cargo.lock", "LICENSE", "README.md", "pyproject.toml", "PKG-INFO", *listed}
    assert needed <= names
    # A checkout may hold what nobody has committed yet.
    assert not [name for name in names - needed if not name.startswith(("src/", "python/", "python-data/"))]
