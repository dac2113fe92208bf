"""The search for the job of a flow run that is to be killed: it may not be where the configuration says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect.exceptions import InfrastructureNotFound

from prefect_gcp_cloud_run.exceptions import CloudRunError, CloudRunNotFoundError

if TYPE_CHECKING:
    import logging

    from prefect.logging.loggers import PrefectLogAdapter

    from prefect_gcp_cloud_run import _core
    from prefect_gcp_cloud_run.workers._places import JobPlace


class Search:
    """Looks for a job in one place after the other, and deletes it where it is.

    Args:
        job: The job's name.
        owner_label: Key and value of the label that the job has if it belongs to the flow run.
        logger: The flow run's logger.
    """

    def __init__(
        self, job: str, owner_label: tuple[str, str] | None, logger: logging.Logger | PrefectLogAdapter
    ) -> None:
        self._job = job
        self._owner_label = owner_label
        self._logger = logger
        self._looked: dict[JobPlace, CloudRunNotFoundError] = {}
        self._failures: list[Exception] = []
        self._is_where_it_was = False

    async def finds(self, place: JobPlace, client: _core.Client, *, is_recorded: bool) -> bool:
        """Looks in a place, and deletes the job if it is there.

        Args:
            place: The place.
            client: A client for this place.
            is_recorded: Whether the job was created there, as far as is known.

        Returns:
            Whether the job was there, and is deleted.
        """
        if place in self._looked:
            return False
        try:
            with client.kill_job(self._job, owner_label=self._owner_label) as kill:
                async for event in kill:
                    self._logger.log(event.level, event.message)
        except CloudRunNotFoundError as error:
            self._looked[place] = error
            self._is_where_it_was = self._is_where_it_was or is_recorded
            return False
        except CloudRunError as error:
            self.failed(error)
            return False
        return True

    def failed(self, error: Exception) -> None:
        """Notes that it was not possible to look in a place."""
        self._failures.append(error)

    def nowhere(self) -> Exception:
        """Says in the flow run's log where the job was looked for. Returns the error of the search.

        A place where it was not possible to look counts, unless the place where the job was created was looked at.
        """
        if self._failures and not self._is_where_it_was:
            self._logger.warning(
                f"Cloud Run Job {self._job!r} of this flow run could not be killed: {self._failures[0]}"
            )
            return self._failures[0]
        places = " and ".join(f"project {place.project!r}, region {place.region!r}" for place in self._looked)
        self._logger.warning(
            f"Cloud Run Job {self._job!r} of this flow run was not found in {places}. If its container still runs "
            "elsewhere, delete the job there: gcloud run jobs delete"
        )
        error = InfrastructureNotFound(f"Cloud Run Job {self._job!r} not found in {places}")
        error.__cause__ = next(reversed(self._looked.values()))
        return error
