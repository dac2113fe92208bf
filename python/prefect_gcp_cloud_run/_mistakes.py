"""Errors about common mistakes. They show names, and never a value, which may be a secret."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import ValidationError

# A name as people choose them. Anything else may be a value that got into the place of a name.
_NAME = re.compile(r"[A-Za-z_$][\w.$-]{0,39}", re.ASCII)
# Fields of Google's credential files, which a block has only inside `service_account_info`.
_OF_A_KEY = frozenset(
    {"type", "private_key", "private_key_id", "client_email", "client_id", "refresh_token", "audience"}
)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Finds the known name that a mistyped name most likely stands for.

    Args:
        name: The mistyped name.
        known: The names that exist.

    Returns:
        The nearest of the known names, or None if none is near.
    """
    by_folded = {one.lower(): one for one in known}
    found = difflib.get_close_matches(name.lower(), by_folded, n=1)
    return by_folded[found[0]] if found else None


def shown(name: object) -> str:
    """Shows a name in an error or a log line.

    Args:
        name: The name, as a person wrote it.

    Returns:
        The name in quotes, or "(not shown)" if it does not look like a name.
    """
    return repr(name) if isinstance(name, str) and _NAME.fullmatch(name) else "(not shown)"


def mistakes_of(error: ValidationError) -> list[tuple[str, str]]:
    """Lists what pydantic found wrong, without any value.

    Args:
        error: The error.

    Returns:
        For each mistake, where it is, which may be empty, and what it is.
    """
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return [(".".join(map(str, mistake["loc"])), mistake["msg"]) for mistake in found]


def in_words(mistakes: Iterable[tuple[str, str]]) -> str:
    """Writes mistakes, each with its place, in one line."""
    return "; ".join(f"{place}: {what}" if place else what for place, what in mistakes)


def unknown_block_fields(data: dict[Any, Any], fields: Iterable[str]) -> str | None:
    """Says what is wrong with the fields that are given to a credentials block.

    A field that is like none of the block's is no mistake: a newer version of prefect-gcp may have saved it.

    Args:
        data: The given fields, with values that may be secret.
        fields: The names of the block's own fields.

    Returns:
        A sentence, or None if nothing looks like a mistake.
    """
    known = list(fields)
    # Prefect's own begin with an underscore.
    unknown = [name for name in data if name not in known and not str(name).startswith("_")]
    unknown = [name for name in unknown if name != "block_type_slug"]
    if not unknown:
        return None
    if _OF_A_KEY.intersection(name for name in unknown if isinstance(name, str)):
        return (
            "These are the fields of a key file. Put the key into 'service_account_info': "
            '{"service_account_info": {"type": "service_account", …}}'
        )
    near = {name: found for name in unknown if isinstance(name, str) and (found := nearest(name, known))}
    if not near:
        return None
    described = " No field ".join(f"{shown(name)}; did you mean {found!r}?" for name, found in near.items())
    return f"GCP credentials have no field {described} The fields are: {', '.join(known)}"


def not_credentials(value: object) -> str | None:
    """Says what is wrong with the value of `credentials`, if it is text.

    Args:
        value: The value, which may be secret.

    Returns:
        A sentence, or None if the value is not text.
    """
    if not isinstance(value, (str, bytes)):
        return None
    return (
        'credentials must be a mapping, such as {"service_account_info": {"type": "service_account", …}}, or a '
        "reference to a block, such as {{ prefect.blocks.gcp-credentials.NAME }}. For the text of a key file, use "
        '{"service_account_info": "TEXT"}'
    )


def not_an_environment(env: object) -> str | None:
    """Says what is wrong with the value of `env`, if it is not a mapping.

    Args:
        env: The value, which may hold secrets.

    Returns:
        A sentence, or None if the value is a mapping.
    """
    if isinstance(env, dict):
        return None
    kind = "null" if env is None else type(env).__name__
    return (
        f'env must be a mapping of names to values, such as {{"NAME": "value"}}, got {kind}. A list of entries with '
        "'name' and 'value' or 'valueFrom' belongs into the template, as the env of a container in job_body"
    )


def other_api(job_body: dict[str, Any]) -> str | None:
    """Says that a job body is written for the second version of Google's API, if it is.

    Args:
        job_body: The job body of a work pool's template.

    Returns:
        A sentence, or None.
    """
    execution = job_body.get("template")
    if "spec" in job_body or not isinstance(execution, dict) or not ({"template", "containers"} & execution.keys()):
        return None
    return (
        "This is the template of a cloud-run-v2 work pool, but the work pool has the type cloud-run. Either take the "
        "template of this type (prefect work-pool get-default-base-job-template --type cloud-run), or use a work pool "
        "of the type cloud-run-v2, with a worker of that type"
    )
