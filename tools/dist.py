"""Makes what a release consists of, checks it, and tries it: `make dist`.

1. The sdist, from which a wheel is built, so that it has all it needs.
2. A wheel for each target whose standard library the Rust toolchain has, linked by zig for an old glibc.
3. Checks: metadata (twine), the stable ABI (abi3audit), the platform (auditwheel), the names of the files, and the
   Dockerfile (hadolint).
4. The wheel of this machine in a fresh environment for each Python, with the oldest and the newest Prefect.

The files are in dist/release/. With `--only NAME` it does one of the steps: sdist, wheels, check, smoke.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.release_notes import release_notes, version

ROOT = Path(__file__).parents[1]
OUT = ROOT / "dist" / "release"
# Programs of tools/dist.lock, and those of the project.
TOOLS = ROOT / ".tools" / "dist"
BIN = Path(sys.executable).parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
PREFECTS = ("oldest", "newest")
# Prefect 3.9 does not run on the others. There, the one of requirements.lock takes the place of the newest.
NEWEST_RUNS_ON = ("3.11", "3.12", "3.13")
STEPS = ("sdist", "wheels", "check", "smoke")


@dataclass(frozen=True)
class Target:
    """A platform that gets a wheel.

    Attributes:
        triple: Rust's name.
        compatibility: The platform tag that maturin is to give, without the processor.
        machine: The processor, as Python names it.
    """

    triple: str
    compatibility: str
    machine: str

    @property
    def is_here(self) -> bool:
        """Whether its wheel can be used on this machine."""
        has_glibc = platform.libc_ver()[0] == "glibc"
        return self.machine == platform.machine() and ("manylinux" in self.compatibility) == has_glibc


# manylinux2014 is glibc 2.17: RHEL 7, Debian 8 and later. It is the oldest that Rust's standard library supports.
TARGETS = (
    Target("x86_64-unknown-linux-gnu", "manylinux2014", "x86_64"),
    Target("aarch64-unknown-linux-gnu", "manylinux2014", "aarch64"),
    Target("x86_64-unknown-linux-musl", "musllinux_1_2", "x86_64"),
    Target("aarch64-unknown-linux-musl", "musllinux_1_2", "aarch64"),
)


class DistError(Exception):
    """A step failed."""


def main() -> int:
    """Does the steps and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=STEPS, action="append", help="do only this step; may be repeated")
    parser.add_argument("--pythons", default=",".join(PYTHONS), help="versions to try the wheel with")
    options = parser.parse_args()
    if sys.platform != "linux":
        sys.stderr.write("dist: these wheels are made on Linux. 'make wheel' makes one for this machine\n")
        return 1
    steps: dict[str, Callable[[], None]] = {
        "sdist": make_sdist,
        "wheels": make_wheels,
        "check": check,
        "smoke": lambda: smoke(options.pythons.split(",")),
    }
    try:
        notes = release_notes((ROOT / "CHANGELOG.md").read_text(), version())
        for name in options.only or STEPS:
            say(f"{name} of version {version()}")
            steps[name]()
    except (DistError, ValueError) as error:
        sys.stderr.write(f"dist: {error}\n")
        return 1
    (OUT.parent / "release-notes.md").write_text(notes)
    say(f"{OUT.relative_to(ROOT)}/ has {', '.join(sorted(file.name for file in OUT.iterdir()))}")
    return 0


def make_sdist() -> None:
    """Makes the sdist, and builds a wheel from it alone, quickly."""
    shutil.rmtree(OUT, ignore_errors=True)
    run(BIN / "maturin", "sdist", "--out", OUT)
    (sdist,) = OUT.glob("*.tar.gz")
    work = ROOT / "target" / "from-sdist"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with tarfile.open(sdist) as archive:
        # Of our own making, a minute ago.
        archive.extractall(work)  # noqa: S202
    (tree,) = work.iterdir()
    # The crates are built already, for the tests.
    env = {"CARGO_TARGET_DIR": str(ROOT / "target")}
    run(BIN / "maturin", "build", "--profile", "dev", "--out", work / "wheel", cwd=tree, env=env)
    (wheel,) = (work / "wheel").glob("*.whl")
    lacks = modules() - contents(wheel)
    if lacks:
        raise DistError(f"the wheel that was built from {sdist.name} lacks {', '.join(sorted(lacks))}")


def make_wheels() -> None:
    """Makes a wheel for each target that the Rust toolchain has a standard library for."""
    for file in OUT.glob("*.whl"):
        file.unlink()
    possible = targets_of(sysroot())
    for target in TARGETS:
        if target not in possible:
            say(f"no wheel for {target.triple}: the Rust toolchain lacks it (rustup target add {target.triple})")
    if not possible:
        raise DistError("the Rust toolchain has no target that gets a wheel")
    for target in possible:
        arguments = ["--target", target.triple, "--compatibility", target.compatibility]
        # Apart from the builds of the machine's own linker: the flags differ, and would rebuild everything each time.
        env = {"CARGO_TARGET_DIR": str(ROOT / "target" / "dist")}
        run(BIN / "maturin", "build", "--release", "--zig", *arguments, "--out", OUT, env=env)


def check() -> None:
    """Checks all files of the release.

    Raises:
        DistError: One is not as it should be.
    """
    files = sorted(OUT.iterdir()) if OUT.is_dir() else []
    wheels = [file for file in files if file.suffix == ".whl"]
    if not wheels:
        raise DistError(f"{OUT.relative_to(ROOT)}/ has no wheel")
    run(TOOLS / "bin" / "hadolint", ROOT / "Dockerfile")
    run(TOOLS / "bin" / "twine", "check", "--strict", *files)
    for wheel in wheels:
        check_wheel(wheel)
        run(TOOLS / "bin" / "abi3audit", "--strict", wheel)
        shown = run(TOOLS / "bin" / "auditwheel", "show", wheel, quiet=True)
        wanted = platform_tags(wheel)
        # auditwheel names the oldest platform that the symbols allow.
        if not any(tag in shown for tag in wanted):
            raise DistError(f"auditwheel does not find {wheel.name} consistent with {' or '.join(wanted)}:\n{shown}")


def check_wheel(wheel: Path) -> None:
    """Checks the name of a wheel, and that it has each module and nothing that does not belong into it.

    Raises:
        DistError: It has not, or has more.
    """
    if f"-{version()}-cp310-abi3-" not in wheel.name:
        raise DistError(f"{wheel.name} is not of version {version()} for the stable ABI of Python 3.10")
    found = contents(wheel)
    lacks = modules() - found
    if lacks:
        raise DistError(f"{wheel.name} lacks {', '.join(sorted(lacks))}")
    more = {name for name in found - modules() if not re.search(r"\.dist-info/|/_core\.abi3\.so$", name)}
    if more:
        raise DistError(f"{wheel.name} has {', '.join(sorted(more))}, which do not belong into it")


def smoke(pythons: list[str]) -> None:
    """Tries the wheel of this machine with each Python, with the oldest and the newest Prefect.

    Raises:
        DistError: There is no such wheel or Python, or it does not work.
    """
    here = [target for target in TARGETS if target.is_here]
    wheels = [wheel for target in here for wheel in OUT.glob(f"*{target.compatibility}_{target.machine}*.whl")]
    if not wheels:
        raise DistError("there is no wheel for this machine")
    found = {name: find_python(name) for name in pythons}
    missing = sorted(name for name, python in found.items() if python is None)
    if missing:
        raise DistError(f"Python {', '.join(missing)} is not here. Try the others with ARGS='--only smoke --pythons …'")
    for name, python in found.items():
        for prefect in PREFECTS:
            venv = ROOT / "target" / "smoke" / f"{name}-{prefect}"
            uv = (BIN / "uv", "pip", "install", "--quiet", "--python", venv)
            run(BIN / "uv", "venv", "--quiet", "--clear", "--no-project", "--python", python or "", venv)
            locks = ["requirements.lock", f"tests/prefect-{prefect}.lock"]
            if prefect == "newest" and name not in NEWEST_RUNS_ON:
                locks.pop()
            for lock in locks:
                run(*uv, "--no-deps", "--require-hashes", "--requirement", ROOT / lock, quiet=True)
            run(*uv, "--no-deps", wheels[0], quiet=True)
            # Away from the clone, so that only what is installed is found.
            run(venv / "bin" / "python", ROOT / "tools" / "smoke.py", version(), cwd=venv)


def sysroot() -> Path:
    """Where the Rust toolchain is: that of `RUSTC`, or else the usual one."""
    return Path(run(os.environ.get("RUSTC", "rustc"), "--print", "sysroot", quiet=True).strip())


def targets_of(root: Path) -> list[Target]:
    """The targets whose standard library a toolchain has."""
    libraries = root / "lib" / "rustlib"
    return [target for target in TARGETS if any((libraries / target.triple / "lib").glob("libstd-*.rlib"))]


def modules() -> set[str]:
    """The files of the Python packages, and those beside them in site-packages, as they are in a wheel."""
    python, data = ROOT / "python", ROOT / "python-data"
    files = (file for file in python.rglob("*") if file.suffix in (".py", ".pyi") or file.name == "py.typed")
    # maturin puts the folder `data` of pyproject.toml there. An installer copies its platlib into site-packages.
    beside = (file for file in (data / "platlib").rglob("*") if file.is_file())
    folder = f"prefect_gcp_cloud_run-{version()}.data"
    return {str(file.relative_to(python)) for file in files} | {f"{folder}/{file.relative_to(data)}" for file in beside}


def contents(wheel: Path) -> set[str]:
    """The names of the files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def platform_tags(wheel: Path) -> list[str]:
    """The platform tags in the name of a wheel."""
    return wheel.stem.rpartition("-")[2].split(".")


def find_python(name: str) -> str | None:
    """Finds a Python of this version: on the path, of pyenv, or this one. None: there is none."""
    if sysconfig.get_python_version() == name:
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [f"python{name}", *map(str, sorted(pyenv.glob(f"{name}.*/bin/python")))]
    code = "import sys; print('{}.{}'.format(*sys.version_info))"
    for candidate in candidates:
        try:
            done = subprocess.run([candidate, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
        except OSError:
            continue
        # What pyenv puts on the path may answer that there is no such version.
        if done.stdout.strip() == name:
            return candidate
    return None


def run(*words: object, cwd: Path = ROOT, env: dict[str, str] | None = None, quiet: bool = False) -> str:
    """Runs a program, and returns its output if that is not shown.

    Raises:
        DistError: It failed.
    """
    command = [str(word) for word in words]
    # maturin finds cargo-zigbuild and zig there.
    path = f"{TOOLS / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    done = subprocess.run(  # noqa: S603
        command,
        cwd=cwd,
        env={**os.environ, "PATH": path, **(env or {})},
        stdout=subprocess.PIPE if quiet else None,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise DistError(f"{Path(command[0]).name} ended with status {done.returncode}: {' '.join(command)}")
    return done.stdout or ""


def say(text: str) -> None:
    """Prints the heading of a step."""
    sys.stdout.write(f"== {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
