"""The environment variables of Prefect's settings, which every container gets: made once, not for each flow run.

Prefect makes them for each flow run, and writes all of its settings out for that, which takes tens of milliseconds.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from prefect.settings import get_current_settings
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# The last environment, with what it was made from. One is enough: a worker's settings hardly ever change.
_kept: tuple[object, list[Any], dict[str, str]] | None = None


def settings_environment(make: Callable[[], dict[str, str]], maker: object) -> dict[str, str]:
    """Returns the environment variables of the current settings, made anew only after the settings have changed.

    Args:
        make: Makes them, as Prefect does.
        maker: Who makes them. Another maker may make others of the same settings.

    Returns:
        Names and values, for the caller alone.
    """
    global _kept
    settings = get_current_settings()
    origin = (maker, os.getpid(), id(settings))
    values = list(_values(settings))
    kept = _kept
    # The values hold what the id stands for.
    if kept is None or kept[0] != origin or kept[1] != values:
        kept = _kept = origin, values, make()
    return dict(kept[2])


def _values(settings: BaseModel) -> Iterator[Any]:
    """Iterates over all values, and over which of them are set: somebody may change the settings where they are."""
    yield settings
    yield frozenset(settings.model_fields_set)
    for value in settings.__dict__.values():
        if isinstance(value, BaseModel):
            yield from _values(value)
        elif isinstance(value, (list, dict, set)):
            yield value.copy()
        else:
            yield value
