"""The Rust core, as Python sees it."""

from pathlib import Path
from typing import Any, final

__all__ = ["EmulatorServer", "__version__"]

__version__: str

@final
class EmulatorServer:
    """A running Cloud Run emulator. Use `prefect_gcp.emulator.Emulator`, which has defaults.

    All times are in seconds. `address` is `IP:PORT`, `simulated` a duration and an outcome, or None for processes.

    Raises:
        ValueError: A value is not what it should be.
        OSError: The address can't be listened on, or the log directory not be used.
    """

    def __new__(
        cls,
        *,
        address: str,
        path: str,
        projects: list[str],
        secrets: dict[str, str],
        ready_after: float,
        start_after: float,
        delete_after: float,
        kill_grace: float,
        log_dir: Path | None,
        simulated: tuple[float, str] | None,
        page_size: int,
        record_calls: bool,
    ) -> EmulatorServer: ...
    @property
    def address(self) -> str:
        """`IP:PORT` that it listens on."""
    @property
    def log_dir(self) -> Path:
        """Directory of the executions' logs."""
    def stop(self) -> None:
        """Stop it; returns when no process is left. Blocks, without holding the GIL."""
    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, oldest first, as the API shows them."""
    def executions(self) -> list[dict[str, Any]]:
        """All executions, oldest first, as the API shows them."""
    def history(self) -> list[dict[str, Any]]:
        """The lives of all jobs, also of deleted ones."""
    def calls(self) -> list[dict[str, Any]]:
        """The calls so far, if they are recorded."""
