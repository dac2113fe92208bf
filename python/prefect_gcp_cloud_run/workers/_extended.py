"""The keys of a template's `job_configuration` that this worker understands beside those of the upstream worker.

The configuration declares no fields for them, because the default pool template is made of its fields and equals
upstream's. Prefect ignores keys that a configuration does not declare. So a work pool whose template has these keys
goes on working with upstream's worker, without their effect.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from prefect_gcp_cloud_run._discreet import hide_input
from prefect_gcp_cloud_run._mistakes import shown

if TYPE_CHECKING:
    from collections.abc import Collection

# Also the name of the job variable whose values are merged from the work pool, the deployment and the flow run.
SECRETS = "env_from_secrets"
BLOCK = "credentials_block"
# The names that `BLOCK` may have. A part of the template which job variables can't change.
BLOCKS = "credentials_blocks"

# What Secret Manager allows in the name of a secret. The API allows the same in an alias.
_SECRET = re.compile(r"[A-Za-z0-9_-]{1,255}", re.ASCII)
# `latest`, a number, or an alias of a version.
_VERSION = re.compile(r"[A-Za-z0-9_-]{1,63}", re.ASCII)
# What Prefect allows in the name of a block.
_BLOCK_NAME = re.compile(r"[a-z0-9-]+", re.ASCII)
_FORM = 'The form is {"NAME": {"secret": "SECRET", "version": "latest"}}'


class SecretVersion(BaseModel):
    """A version of a secret in Secret Manager.

    Attributes:
        secret: Name of the secret in the project of the job, or an alias that the execution template's annotation
            `run.googleapis.com/secrets` defines.
        version: Its version: a number, an alias, or `latest`.
    """

    model_config = ConfigDict(frozen=True)

    secret: str
    version: str = "latest"


class Extended(BaseModel):
    """What a template asks for with the keys that upstream's worker does not know.

    Attributes:
        env_from_secrets: The environment variables whose values Cloud Run reads from Secret Manager.
        main_container: Name of the container that runs the flow. None: the first one.
        use_credentials_service_account: Whether the job runs as the service account of the worker's credentials, if the
            job body names no other one.

    Raises:
        pydantic.ValidationError: If a value has the wrong form. The error shows no value.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)
    _hide_input = hide_input()

    env_from_secrets: dict[str, SecretVersion] = Field(default_factory=dict)
    main_container: str | None = Field(default=None, min_length=1)
    use_credentials_service_account: bool = False

    @field_validator("env_from_secrets", mode="before")
    @classmethod
    def _are_secrets(cls, value: Any) -> Any:
        if problem := not_secrets(value):
            raise ValueError(problem)
        return {name: _secret_version(name, given) for name, given in value.items() if given is not None}

    def secrets(self, others: Collection[str]) -> list[tuple[str, str, str]]:
        """Lists the variables that come from secrets: name, secret and version.

        Args:
            others: Names that are left out, because other settings take them from secrets.
        """
        return [
            (name, given.secret, given.version) for name, given in self.env_from_secrets.items() if name not in others
        ]


def extended_of(fields: dict[str, Any], declared: Collection[str]) -> Extended:
    """Takes the keys that upstream's worker does not know out of a rendered `job_configuration`.

    Args:
        fields: The rendered `job_configuration`, which loses these keys.
        declared: Names of the configuration's fields. A subclass may have fields of its own with these names.

    Returns:
        What they ask for. A null counts as absent.

    Raises:
        ValueError: If a value has the wrong form.
    """
    names = [name for name in Extended.model_fields if name in fields and name not in declared]
    taken = {name: fields.pop(name) for name in names}
    return Extended(**{name: value for name, value in taken.items() if value is not None})


def not_secrets(value: object) -> str | None:
    """Says what is wrong with the value of `env_from_secrets`, if it is no mapping."""
    if isinstance(value, dict):
        return None
    kind = "null" if value is None else type(value).__name__
    return f"{SECRETS} must be a mapping, got {kind}. {_FORM}"


def _secret_version(name: Any, given: Any) -> SecretVersion:
    """Reads an entry of `env_from_secrets`. People put secrets themselves there, so that errors show no values."""
    if not isinstance(name, str) or not name or "=" in name or "\0" in name:
        raise ValueError(f"{shown(name)} can't be the name of an environment variable")
    if not isinstance(given, dict) or not {"secret"} <= given.keys() <= {"secret", "version"}:
        raise ValueError(f"{shown(name)} needs the name of a secret, and may have a version. {_FORM}")
    secret, version = given["secret"], given.get("version")
    if isinstance(version, int) and not isinstance(version, bool):
        version = str(version)
    if not isinstance(secret, str) or not _SECRET.fullmatch(secret):
        raise ValueError(
            f"The secret of {shown(name)} must be the name of a secret in the project of the job: letters, digits, "
            "hyphens and underscores. For a secret of another project, define an alias with the annotation "
            "run.googleapis.com/secrets of the execution template, and give the alias"
        )
    if version is None:
        return SecretVersion(secret=secret)
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise ValueError(f"The version of {shown(name)} must be a number, an alias of a version, or 'latest'")
    return SecretVersion(secret=secret, version=version)


def allowed_blocks(configuration: dict[str, Any]) -> list[str]:
    """Reads which credentials blocks the job variables may choose from.

    Args:
        configuration: The template's `job_configuration`, before it is rendered: job variables must not add a name.

    Raises:
        ValueError: If it is not a list of names.
    """
    names = configuration.get(BLOCKS)
    if names is None:
        return []
    if not isinstance(names, list) or not all(isinstance(name, str) and _BLOCK_NAME.fullmatch(name) for name in names):
        raise ValueError(
            f"The work pool's template at job_configuration.{BLOCKS} must be a list of names of credentials blocks, "
            "without placeholders, so that job variables can't add to it"
        )
    return names


def reference_to(block: object, allowed: list[str]) -> str:
    """Makes a reference to the credentials block that job variables have chosen, which Prefect resolves.

    Args:
        block: The chosen name.
        allowed: The names that may be chosen.

    Raises:
        ValueError: If the name is not allowed.
    """
    if block not in allowed:
        if not allowed:
            raise ValueError(
                f"The work pool's template allows no {BLOCK}: its job_configuration.{BLOCKS} would list the names"
            )
        raise ValueError(
            f"{BLOCK} {shown(block)} is none of the credentials blocks that the work pool allows: {', '.join(allowed)}"
        )
    return f"{{{{ prefect.blocks.gcp-credentials.{block} }}}}"
