"""What the worker needs of a credentials block, whether its class is ours or upstream's.

Beside the upstream package, `GcpCredentials` is upstream's: the block's slug is registered once, and a block that one
package loads is accepted by the other. Upstream's class looks up the application default credentials when a block is
made, and fails without any. The worker must not: it looks them up when a run needs them, and the emulator needs none.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from prefect_gcp_cloud_run._default_project import project_of
from prefect_gcp_cloud_run._key_source import account_of_key, decoded_info, existing_file, project_of_key
from prefect_gcp_cloud_run._mistakes import not_credentials, unknown_block_fields
from prefect_gcp_cloud_run.credentials import GcpCredentials

_FILE, _INFO = "service_account_file", "service_account_info"


def is_our_class() -> bool:
    """Whether `GcpCredentials` is this package's class in this process."""
    return hasattr(GcpCredentials, "resolve_project")


def environments() -> GcpCredentials:
    """Makes a block that stands for the application default credentials, without looking them up."""
    return GcpCredentials() if is_our_class() else _upstreams({})


def from_value(value: Any) -> Any:
    """Makes a block of a mapping, with the same checks for both classes. Waits for nothing.

    Upstream's class itself takes a mistyped field for none, which means other credentials, opens a key file that may be
    a pipe, and looks up the application default credentials if there is no key.

    Args:
        value: What the work pool's template or a job variable gives as `credentials`.

    Returns:
        The block, or the value itself if pydantic is to validate it.

    Raises:
        ValueError: A field is mistyped or of the wrong type, the key file does not exist, or the key is not JSON.
    """
    if problem := not_credentials(value):
        raise ValueError(problem)
    if is_our_class() or not isinstance(value, dict):
        return value
    if problem := unknown_block_fields(value, GcpCredentials.model_fields):
        raise ValueError(problem)
    fields = dict(value)
    if _INFO in fields:
        fields[_INFO] = decoded_info(fields[_INFO])
    if isinstance(file := fields.get(_FILE), (str, bytes, os.PathLike)):
        # Before upstream's class looks at it, which reports not all that can be wrong with a path.
        fields[_FILE] = existing_file(Path(os.fsdecode(file)))
    return _upstreams(fields)


def _upstreams(fields: dict[str, Any]) -> GcpCredentials:
    """Makes a block of upstream's class as pydantic does, but without `block_initialization`, which looks things up.

    Raises:
        ValueError: A field has the wrong type, or the key file is not JSON.
    """
    made = GcpCredentials.__new__(GcpCredentials)
    GcpCredentials.__pydantic_validator__.validate_python(fields, self_instance=made)
    if made.project is None:
        info = made.service_account_info.get_secret_value() if made.service_account_info else None
        made.project = project_of_key(info, made.service_account_file)
    return made


def service_account(credentials: GcpCredentials) -> str | None:
    """Finds the service account whose key a credentials block has. Waits for nothing.

    Returns:
        Its e-mail address, or None if the block has no key, or a key that names no service account.

    Raises:
        ValueError: The key file can't be read, or is not JSON.
    """
    info = credentials.service_account_info.get_secret_value() if credentials.service_account_info else None
    return account_of_key(info, credentials.service_account_file)


def resolve_project(credentials: GcpCredentials) -> str | None:
    """Finds the project to work in, as `GcpCredentials.resolve_project` of this package does. May block.

    Returns:
        The project id, or None if the credentials name no project.

    Raises:
        google.auth.exceptions.GoogleAuthError: The application default credentials do not exist or cannot be read.
    """
    return credentials.resolve_project() if is_our_class() else project_of(credentials)
