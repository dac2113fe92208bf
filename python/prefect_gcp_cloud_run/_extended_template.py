"""The extended base job template: the default one, with what only this worker understands.

The default template equals upstream's, and work pools that Prefect's server has made have it stored. So the variables
that only this worker understands are for those pools whose owners want them.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from prefect_gcp_cloud_run.workers._extended import BLOCK, BLOCKS, SECRETS
from prefect_gcp_cloud_run.workers._job_body import TASK
from prefect_gcp_cloud_run.workers._templates import takes
from prefect_gcp_cloud_run.workers._variables import DEFAULT_TIMEOUT, LONGEST_TIMEOUT

# The longest timeout of a task that Cloud Run allows, in seconds: 168 hours.
_LONGEST_TASK = 604_800
# Keys that templates of Prefect's server lack, since they are older than the default template of today.
_OF_THE_DEFAULT = ("prefect_api_key_secret", "prefect_api_auth_string_secret")

_SECRET_VERSION = {
    "type": "object",
    "properties": {
        "secret": {"type": "string", "title": "Secret", "description": "Name of the secret."},
        "version": {
            "anyOf": [{"type": "string"}, {"type": "integer"}],
            "default": "latest",
            "title": "Version",
            "description": "Version of the secret: a number, an alias, or latest.",
        },
    },
    "required": ["secret"],
    "additionalProperties": False,
}
# The variables that a key of `job_configuration` with the same name takes in.
_KEYS: dict[str, dict[str, Any]] = {
    SECRETS: {
        "title": "Environment Variables From Secrets",
        "description": "Environment variables whose values Cloud Run reads from Secret Manager. The work pool's, the "
        "deployment's and the flow run's are merged; null for a name removes it.",
        "type": "object",
        "additionalProperties": {"anyOf": [_SECRET_VERSION, {"type": "null"}]},
    },
    "main_container": {
        "title": "Main Container",
        "description": "Name of the container that runs the flow. Default: the first one of the job body.",
        "anyOf": [{"type": "string"}, {"type": "null"}],
        "default": None,
    },
    BLOCK: {
        "title": "Credentials Block",
        "description": "Name of a GCP credentials block to use, one of those that the template's credentials_blocks "
        "lists. Default: the credentials of the work pool.",
        "anyOf": [{"type": "string"}, {"type": "null"}],
        "default": None,
    },
    "use_credentials_service_account": {
        "title": "Use Credentials' Service Account",
        "description": "Whether the flow runs as the service account of the worker's credentials, if "
        "service_account_name is not set.",
        "type": "boolean",
        "default": False,
    },
}
_READY_TIMEOUT = {
    "title": "Ready Timeout",
    "description": "Seconds that the job may take to become ready.",
    "type": "integer",
    "exclusiveMinimum": 0,
    "maximum": LONGEST_TIMEOUT,
}
_TIMEOUT = "Seconds that each attempt of the task may take, at most 168 hours."
# Null is not among its values: an absent maxRetries means 3 to Cloud Run.
_MAX_RETRIES = {
    "title": "Max Retries",
    "description": "How often Cloud Run repeats a task that failed or was killed. 0 is what most flows want: Prefect "
    "itself repeats flows and tasks, and knows what they have done. Without it, Cloud Run repeats three times.",
    "type": "integer",
    "minimum": 0,
    "maximum": 10,
    "default": 0,
}


@dataclass
class ExtendedTemplate:
    """A template with what it lacked.

    Attributes:
        template: The new template.
        effects: What it changes for flow runs that use no new variable, a sentence each.
        left: What was left as it is, and why, a sentence each.
    """

    template: dict[str, Any]
    effects: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def extend(template: dict[str, Any], default: dict[str, Any]) -> ExtendedTemplate:
    """Adds what a base job template lacks, and leaves what its owner has changed.

    Args:
        template: The template: the default one, that of Prefect's server, or a changed one. It is not changed.
        default: The default template.

    Returns:
        A new template.

    Raises:
        ValueError: If it is no base job template of a Cloud Run work pool.
    """
    made = ExtendedTemplate(copy.deepcopy(template))
    configuration, properties, task = _parts(made.template)
    for name in _OF_THE_DEFAULT:
        if name not in configuration and name not in properties:
            configuration[name] = f"{{{{ {name} }}}}"
            properties[name] = copy.deepcopy(default["variables"]["properties"][name])
            definitions = made.template["variables"].setdefault("definitions", {})
            for definition, schema in default["variables"]["definitions"].items():
                definitions.setdefault(definition, copy.deepcopy(schema))
    for name, schema in _KEYS.items():
        _add_key(made, configuration, properties, name, schema)
    if BLOCK in configuration:
        configuration.setdefault(BLOCKS, [])
    _split_timeout(made, configuration, properties, task)
    _add_max_retries(made, properties, task)
    _free_name(made, configuration)
    return made


def _parts(template: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The parts of a template that are changed: `job_configuration`, the variables' schemas, and the task."""
    configuration = _mapping(template, "job_configuration")
    variables = _mapping(template, "variables")
    variables.setdefault("properties", {})
    task = _mapping(configuration, "job_body", "job_configuration.job_body")
    for depth, step in enumerate(TASK, start=1):
        task = _mapping(task, step, f"job_configuration.job_body.{'.'.join(TASK[:depth])}")
    return configuration, _mapping(variables, "properties", "variables.properties"), task


def _mapping(parent: dict[str, Any], key: str, path: str | None = None) -> dict[str, Any]:
    found = parent.get(key)
    if not isinstance(found, dict):
        raise ValueError(f"The template has no mapping at {path or key}")
    return found


def _add_key(
    made: ExtendedTemplate, configuration: dict[str, Any], properties: dict[str, Any], name: str, schema: dict[str, Any]
) -> None:
    if name not in configuration and name in properties:
        made.left.append(f"{name}: the template has a variable of this name, and uses it in its own way")
        return
    configuration.setdefault(name, f"{{{{ {name} }}}}")
    if takes(configuration[name], name):
        properties.setdefault(name, copy.deepcopy(schema))


def _split_timeout(
    made: ExtendedTemplate, configuration: dict[str, Any], properties: dict[str, Any], task: dict[str, Any]
) -> None:
    """Makes `timeout` the time of the task alone, which may then be long, and `ready_timeout` the patience before."""
    if takes(configuration.get("timeout"), "ready_timeout"):
        properties.setdefault("ready_timeout", _READY_TIMEOUT | {"default": DEFAULT_TIMEOUT})
        return
    variable = properties.get("timeout")
    forms = [variable, *(variable.get("anyOf") or [])] if isinstance(variable, dict) else []
    bounded = [form for form in forms if isinstance(form, dict) and form.get("maximum") == LONGEST_TIMEOUT]
    is_default = takes(configuration.get("timeout"), "timeout") and takes(task.get("timeoutSeconds"), "timeout")
    if not is_default or not bounded or "ready_timeout" in properties:
        made.left.append("timeout: the template uses it, or bounds it, in its own way, so ready_timeout is not added")
        return
    patience = variable.get("default") if isinstance(variable, dict) else None
    if not isinstance(patience, int) or not 0 < patience <= LONGEST_TIMEOUT:
        patience = DEFAULT_TIMEOUT
    configuration["timeout"] = "{{ ready_timeout }}"
    for form in bounded:
        form["maximum"] = _LONGEST_TASK
    properties["timeout"]["description"] = _TIMEOUT
    properties["ready_timeout"] = _READY_TIMEOUT | {"default": patience}
    made.effects.append(
        f"timeout no longer says how long a job may take to become ready: that is ready_timeout, {patience} seconds by "
        "default"
    )


def _add_max_retries(made: ExtendedTemplate, properties: dict[str, Any], task: dict[str, Any]) -> None:
    if "maxRetries" not in task and "max_retries" not in properties:
        task["maxRetries"] = "{{ max_retries }}"
        made.effects.append(
            "Cloud Run no longer repeats a task that failed three times, which is its own default: max_retries is 0"
        )
    if takes(task.get("maxRetries"), "max_retries"):
        properties.setdefault("max_retries", copy.deepcopy(_MAX_RETRIES))
    else:
        made.left.append("max_retries: the template sets maxRetries, or uses max_retries, in its own way")


def _free_name(made: ExtendedTemplate, configuration: dict[str, Any]) -> None:
    """Takes the variable `name` out of the job's name, which then gets a unique end."""
    metadata = configuration["job_body"].get("metadata")
    if not isinstance(metadata, dict) or metadata.get("name") is None:
        return
    if takes(metadata["name"], "name") and takes(configuration.get("name"), "name"):
        del metadata["name"]
        made.effects.append("name is what the job's name begins with; its end differs for every flow run")
    else:
        made.left.append("name: the template names jobs in its own way")
