"""Problems of the observer, which come again in each pass."""

from __future__ import annotations

import logging
import time

# A problem is a warning again after this time, in seconds.
_QUIET = 3600.0


class Problems:
    """Logs a problem as a warning, at most once an hour, and at debug meanwhile.

    Args:
        logger: Gets the lines.
    """

    def __init__(self, logger: logging.Logger | logging.LoggerAdapter[logging.Logger]) -> None:
        self._logger = logger
        self._told: dict[tuple[object, type], float] = {}

    def tell(self, subject: object, error: BaseException, line: str) -> None:
        """Logs a problem.

        Args:
            subject: What it is about. There must not be a new one in each pass.
            error: The problem. One of another type is another problem of the same subject.
            line: The text.
        """
        key, now = (subject, type(error)), time.monotonic()
        is_new = now - self._told.get(key, -_QUIET) >= _QUIET
        if is_new:
            self._told[key] = now
        self._logger.log(logging.WARNING if is_new else logging.DEBUG, line)
