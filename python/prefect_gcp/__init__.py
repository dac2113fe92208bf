"""The Prefect worker that runs flow runs as Google Cloud Run jobs."""

from prefect_gcp._core import __version__

__all__ = ["__version__"]
