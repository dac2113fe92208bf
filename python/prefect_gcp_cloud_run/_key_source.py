"""Where a credentials block has its key from: the checks that hold for this package's class and for upstream's.

Nothing here may wait: the worker makes blocks of job variables on its event loop.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect_gcp_cloud_run import _core
from prefect_gcp_cloud_run._discreet import parse_json

if TYPE_CHECKING:
    from prefect.types import SecretDict


def existing_file(file: Path) -> Path:
    """Finds a key file. Does not open it.

    Args:
        file: The path, which may begin with `~`.

    Returns:
        The path without `~`.

    Raises:
        ValueError: There is no regular file. Devices and pipes are none: their reads may never end.
    """
    try:
        found = file.expanduser()
    except RuntimeError:
        # There is no such user.
        found = file
    # Unlike Path.is_file, it has no errors of its own, for example about a name that is too long.
    if not os.path.isfile(found):  # noqa: PTH113
        raise ValueError("The provided path to the service account is invalid")
    return found


def decoded_info(info: Any) -> Any:
    """Decodes the content of a key file, if it is JSON text.

    Args:
        info: The value of `service_account_info`, which is secret.

    Returns:
        The decoded value, or the value itself if it is not text.

    Raises:
        ValueError: The text is not JSON, or is null, which would mean other credentials.
    """
    if not isinstance(info, (str, bytes)):
        return info
    message = "Unable to decode service_account_info"
    decoded = parse_json(info, message)
    if decoded is None:
        raise ValueError(message)
    return decoded


def key_text(info: SecretDict | None) -> str | None:
    """Writes a key as JSON text. Equal keys have equal texts.

    Args:
        info: A block's `service_account_info`.

    Returns:
        The text, which is secret, or None if there is no key.
    """
    return json.dumps(info.get_secret_value(), sort_keys=True) if info else None


def project_of_key(info: Any, file: Path | None) -> str | None:
    """Finds the project that a key names.

    Args:
        info: The key, or None or an empty mapping if there is none.
        file: The key file, or None. Counts if there is no `info`.

    Returns:
        The project id, or None if there is no key or it names no project.

    Raises:
        ValueError: The file cannot be read, or is not JSON.
    """
    return _text_of_key("project_id", info, file)


def account_of_key(info: Any, file: Path | None) -> str | None:
    """Finds the service account that a key names, as `project_of_key` finds the project.

    Returns:
        Its e-mail address, or None if there is no key or it names no service account.
    """
    return _text_of_key("client_email", info, file)


def _text_of_key(name: str, info: Any, file: Path | None) -> str | None:
    key = info
    if not info:
        if file is None:
            return None
        try:
            text = _core.read_key_file(file)
        except OSError:
            text = b""
        key = parse_json(text, f"{file} is not a readable JSON key file")
    value = key.get(name) if isinstance(key, dict) else None
    return value if isinstance(value, str) else None
