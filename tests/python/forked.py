"""Runs programs in processes of their own without the seconds that each would take to import Prefect.

A server imports Prefect and the worker once. For each program it forks a child. The child gets its own environment,
arguments and folder, and runs the module as `python -m` does. One thing differs from a new process: Prefect reads its
own settings when it is imported, so the child has those of the server's start.

The fork is safe because the server only imports: it has one thread and has never used the core.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import runpy
import selectors
import subprocess
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(
    module: str, *arguments: str, env: dict[str, str] | None = None, cwd: Path = ROOT, timeout: float = 100
) -> subprocess.CompletedProcess[str]:
    """Runs a module to its end. `env` is its whole environment; by default it is that of this process."""
    return _server().run(module, arguments, dict(os.environ) if env is None else env, cwd, timeout)


@cache
def _server() -> Server:
    return Server()


class Server:
    """Starts the server and sends it requests, one at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._lock = threading.Lock()

    def run(
        self, module: str, arguments: tuple[str, ...], env: dict[str, str], cwd: Path, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Asks the server to run a module, and waits for its end."""
        assert self._process.stdin
        assert self._process.stdout
        with self._lock, tempfile.TemporaryDirectory(prefix="forked-") as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            request = {"argv": [module, *arguments], "env": env, "cwd": str(cwd), "out": str(out), "err": str(err)}
            self._process.stdin.write(f"{json.dumps(request)}\n")
            self._process.stdin.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(self._process.stdout, selectors.EVENT_READ)
                if not selector.select(timeout):
                    # The child goes with it, and the next call starts another server.
                    self._process.kill()
                    _server.cache_clear()
                    said = (out.read_text() + err.read_text()) if err.exists() else ""
                    raise subprocess.TimeoutExpired([module, *arguments], timeout, said)
            status = int(self._process.stdout.readline())
            return subprocess.CompletedProcess([module, *arguments], status, out.read_text(), err.read_text())


def serve() -> None:
    """Forks a child for each request until standard input ends."""
    for name in ("prefect.cli", "prefect_gcp.workers.cloud_run", "requests"):
        importlib.import_module(name)

    assert "google.auth" not in sys.modules, "the children look whether they need it"
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(**request)
            return
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _become(argv: list[str], env: dict[str, str], cwd: str, out: str, err: str) -> None:
    """Makes this process the program that was asked for."""
    if sys.platform == "linux":
        # A child of a server that is killed does not stay.
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    for path, number in ((os.devnull, 0), (out, 1), (err, 2)):
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    # Children would all draw the same numbers.
    random.seed()
    sys.argv = argv[:]
    runpy.run_module(argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve()
