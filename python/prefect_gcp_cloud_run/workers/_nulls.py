"""Nulls in a job body: a job variable that is null counts as absent."""

from __future__ import annotations

from typing import Any

# Fields that choose a kind of volume or of probe by being there, also without content.
_MEANT_WHEN_EMPTY = frozenset({"emptyDir", "exec", "grpc", "httpGet", "tcpSocket"})
# A list in which the positions of items have a meaning: the first container runs the flow, if the template names none.
_POSITIONS = "containers"
# Nothing is looked for further down. The check of the finished body refuses what is nested as deep.
_MAX_DEPTH = 100


def without_nulls(body: dict[str, Any]) -> dict[str, Any]:
    """Removes the nulls of a job body, with their keys, and the mappings that only they kept.

    A mapping that becomes empty goes with its key, unless the API needs it: an `emptyDir` and the check of a probe
    stay. So do containers, and mappings that were empty before.

    Args:
        body: The job body. It is not changed.

    Returns:
        The body without nulls. Parts without nulls are the same objects as before.
    """
    cleaned: dict[str, Any] = _mapping(body, 0)
    return cleaned


def _cleaned(value: Any, key: object, depth: int) -> Any:
    if depth < _MAX_DEPTH and isinstance(value, dict):
        return _mapping(value, depth)
    if depth < _MAX_DEPTH and isinstance(value, list):
        return _list(value, key, depth)
    return value


def _mapping(mapping: dict[Any, Any], depth: int) -> dict[Any, Any]:
    cleaned = {key: _cleaned(value, key, depth + 1) for key, value in mapping.items() if value is not None}
    kept = {
        key: value for key, value in cleaned.items() if key in _MEANT_WHEN_EMPTY or not _is_emptied(value, mapping[key])
    }
    is_same = len(kept) == len(mapping) and all(value is mapping[key] for key, value in kept.items())
    return mapping if is_same else kept


def _list(items: list[Any], key: object, depth: int) -> list[Any]:
    cleaned = [(_cleaned(item, None, depth + 1), item) for item in items if item is not None]
    kept = [value for value, item in cleaned if key == _POSITIONS or not _is_emptied(value, item)]
    is_same = len(kept) == len(items) and all(value is item for value, item in zip(kept, items, strict=True))
    return items if is_same else kept


def _is_emptied(cleaned: object, before: object) -> bool:
    return isinstance(cleaned, dict) and not cleaned and cleaned is not before
