"""The database of the bench's Prefect server: a PostgreSQL cluster of its own, or SQLite where there is none."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Where Debian puts the programs of PostgreSQL, which are not on its PATH.
DEBIAN = Path("/usr/lib/postgresql")
# PostgreSQL refuses to run as root. These accounts own nothing.
UNPRIVILEGED = "nobody"
START_SECONDS = 60.0
ABSENT = (
    "There is no PostgreSQL here: install it (Debian: apt-get install postgresql), or pass --sqlite. SQLite serves for "
    "50 flow runs: concurrent writers lock it for seconds, and its figures say little about a server as people run it"
)


def programs() -> Path | None:
    """The directory of PostgreSQL's newest programs; None if there are none."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    places = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda place: int(place.parts[-3]))
    return places[-1].parent if places else None


@contextmanager
def postgres(home: Path, port: int) -> Iterator[str]:
    """Runs a PostgreSQL cluster, and removes nothing: its directory belongs to the caller.

    Args:
        home: A directory for it.
        port: A free port of loopback.

    Yields:
        The URL for Prefect's server.

    Raises:
        RuntimeError: If PostgreSQL is not installed, or does not start.
    """
    place = programs()
    if place is None:
        raise RuntimeError(ABSENT)
    data, log = home / "postgres", home / "postgres.log"
    data.mkdir()
    as_whom: dict[str, str] = {}
    if os.geteuid() == 0:
        as_whom = {"user": UNPRIVILEGED}
        shutil.chown(data, UNPRIVILEGED)
        # The temporary directory is its owner's alone.
        home.chmod(0o755)
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(data)}
    with log.open("w") as output:
        make = [place / "initdb", "-D", data, "-U", "bench", "--auth=trust", "--no-sync"]
        subprocess.run(make, env=env, cwd=data, stdout=output, stderr=output, check=True, timeout=120, **as_whom)  # type: ignore[call-overload]  # noqa: S603
        command = [place / "postgres", "-D", data, "-p", str(port), "-k", data, "-c", "listen_addresses=127.0.0.1"]
        server = subprocess.Popen(command, env=env, cwd=data, stdout=output, stderr=output, **as_whom)  # type: ignore[call-overload]  # noqa: S603
    try:
        address = ["-h", "127.0.0.1", "-p", str(port), "-U", "bench"]
        deadline = time.monotonic() + START_SECONDS
        while subprocess.run([place / "createdb", *address, "bench"], env=env, capture_output=True).returncode:  # noqa: S603
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield f"postgresql+asyncpg://bench@127.0.0.1:{port}/bench"
    finally:
        # A fast shutdown: SIGTERM would wait for the clients.
        server.send_signal(signal.SIGINT)
        server.wait(30)
