"""The default job body template of work pools, and the rendering of a work pool's template."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from prefect.utilities.annotations import NotSet
from prefect.utilities.collections import deep_merge, set_in_dict
from prefect.utilities.templating import (
    apply_values,
    find_placeholders,
    resolve_block_document_references,
    resolve_variables,
)

from prefect_gcp_cloud_run import _core
from prefect_gcp_cloud_run._mistakes import nearest, not_an_environment
from prefect_gcp_cloud_run.workers._extended import (
    BLOCK,
    BLOCKS,
    SECRETS,
    allowed_blocks,
    not_secrets,
    reference_to,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import DeploymentResponse

# The template's mappings that take job variables in, name by name.
_MERGED = ("env", SECRETS)
# How errors name the work pool's base job template.
_TEMPLATE = "The work pool's template"


def _get_default_job_body_template() -> dict[str, Any]:
    """Makes the job body of the default pool template.

    Returns:
        A `Job` of the API with placeholders for job variables. It contains the base body.
    """
    base = _core.base_job_body()
    resources = {"cpu": "{{ cpu }}", "memory": "{{ memory }}"}
    container = {
        "image": "{{ image }}",
        "command": "{{ command }}",
        "resources": {"limits": dict(resources), "requests": dict(resources)},
    }
    task = {
        "containers": [container],
        "timeoutSeconds": "{{ timeout }}",
        "serviceAccountName": "{{ service_account_name }}",
    }
    return {
        "apiVersion": base["apiVersion"],
        "kind": base["kind"],
        "metadata": {"name": "{{ name }}", **base["metadata"]},
        "spec": {
            "template": {
                "spec": {"template": {"spec": task}},
                "metadata": {"annotations": {"run.googleapis.com/vpc-access-connector": "{{ vpc_connector_name }}"}},
            }
        },
    }


def _get_base_job_body() -> dict[str, Any]:
    """Returns the base body: the minimal job body, which every job body must contain.

    Returns:
        A new `Job` of the API.
    """
    return _core.base_job_body()


# Whether `a.1` finds a mapping's key "1", as in Prefect 3.9 and later.
_EXACT_KEYS = str(apply_values("{{ a.1 }}", {"a": {"1": "found"}})) == "found"


def takes(value: object, variable: str) -> bool:
    """Whether a value of a template is a placeholder for this variable and nothing else, so that it takes its value."""
    if not isinstance(value, str):
        return False
    return [(found.full_match, found.name) for found in find_placeholders(value)] == [(value, variable)]


def render(template: object, values: dict[str, Any]) -> Any:
    """Renders a template as the installed Prefect's `apply_values` does.

    Args:
        template: Mappings, lists, strings, numbers, booleans and nulls.
        values: Values for the placeholders, of any type.

    Returns:
        The rendered template, or `NotSet` if the template is a placeholder without a value.

    Raises:
        ValueError: The template contains a value of another type, or is nested deeper than 500 levels.
    """
    return _core.render_template(template, values, unset=NotSet, exact_keys=_EXACT_KEYS)


async def render_configuration(
    base_job_template: dict[str, Any],
    job_variables: dict[str, Any],
    defaults_of: Callable[[dict[str, Any]], dict[str, Any]],
    client: PrefectClient | None,
) -> dict[str, Any]:
    """Renders a work pool's template with a flow run's job variables, as Prefect's base configuration does.

    Args:
        base_job_template: The work pool's template, with `job_configuration` and `variables`.
        job_variables: Values of variables. A dotted name such as `env.FOO` sets one key of a mapping.
        defaults_of: Takes the schemas of the variables, and returns the default values.
        client: The Prefect client that looks up blocks and variables.

    Returns:
        The fields of a job configuration.

    Raises:
        ValueError: The template is malformed, or two job variables conflict.
    """
    template = _mapping(base_job_template, _TEMPLATE)
    configuration = dict(_mapping(template.get("job_configuration"), f"{_TEMPLATE} at job_configuration"))
    schema = _mapping(template.get("variables"), f"{_TEMPLATE} at variables")
    place = f"{_TEMPLATE} at variables.properties"
    properties = _mapping(schema.get("properties", {}), place)
    for name, variable in properties.items():
        _mapping(variable, f"{place}.{name}")
    values = defaults_of(properties)
    if env := values.get("env"):
        own = configuration.get("env")
        configuration["env"] = own | _mapping(env, f"{place}.env.default") if isinstance(own, dict) else env
    given = _nested(_mapping(job_variables, "The job variables"))
    if given.get(BLOCK, "") is None:
        # Absent, so that the variable's default value holds, and not whatever credentials the template has besides.
        del given[BLOCK]
    secrets = _chosen_secrets(configuration, values.get(SECRETS), given.get(SECRETS))
    values |= given
    if isinstance(configuration.get("env"), dict) and (env := values.get("env")):
        if problem := not_an_environment(env):
            raise ValueError(f"The job variable {problem}")
        configuration["env"] = configuration["env"] | env
    allowed = allowed_blocks(configuration)
    configuration.pop(BLOCKS, None)
    rendered = render(configuration, values)
    if secrets is not None:
        rendered[SECRETS] = rendered.get(SECRETS, {}) | secrets
    if (block := rendered.pop(BLOCK, None)) is not None:
        rendered["credentials"] = reference_to(block, allowed)
    try:
        rendered = await resolve_block_document_references(template=rendered, client=client)
        resolved: dict[str, Any] = await resolve_variables(template=rendered, client=client)
    except RecursionError as error:
        raise ValueError(f"{_TEMPLATE} or a job variable is nested too deeply or contains itself") from error
    return resolved


def unknown_variables(base_job_template: dict[str, Any], job_variables: dict[str, Any]) -> dict[str, str | None]:
    """Finds the job variables that have no effect, because the work pool's template knows nothing of them.

    Args:
        base_job_template: The work pool's template, which can be rendered.
        job_variables: Values of variables.

    Returns:
        The names of those variables, each with the nearest name that the template knows, or None.
    """
    configuration = base_job_template["job_configuration"]
    known = set(base_job_template["variables"].get("properties", {}))
    names = {_variable(name) for name in job_variables} - known
    if not names:
        return {}
    known |= {_root(placeholder.name) for text in _texts(configuration) for placeholder in find_placeholders(text)}
    # The template's own mapping takes them in, without a placeholder.
    known |= {name for name in _MERGED if isinstance(configuration.get(name), dict)}
    return {name: nearest(name, known) for name in sorted(names - known)}


def _names_secrets(job_variables: dict[str, Any] | None) -> bool:
    """Whether there is a job variable `env_from_secrets`, in any form."""
    return any(_variable(str(name)) == SECRETS for name in job_variables or {})


async def with_secrets_of_both(
    flow_run: FlowRun, deployment: DeploymentResponse | None, client: PrefectClient
) -> tuple[FlowRun, DeploymentResponse | None]:
    """Merges the `env_from_secrets` of a deployment into that of its flow run, name by name, as Prefect merges `env`.

    Args:
        flow_run: The flow run, whose values win.
        deployment: Its deployment, if it was read already.
        client: Client of the Prefect API.

    Returns:
        The two, or copies of them of which only the flow run has the variable.

    Raises:
        ValueError: If one of the variables is not a mapping.
    """
    if deployment is None and flow_run.deployment_id is not None and _names_secrets(flow_run.job_variables):
        deployment = await client.read_deployment(flow_run.deployment_id)
    of_run = flow_run.job_variables or {}
    of_deployment = getattr(deployment, "job_variables", None) or {}
    if not _names_secrets(of_run) or not _names_secrets(of_deployment):
        return flow_run, deployment
    merged: dict[str, Any] = {}
    for variables in (of_deployment, of_run):
        given = _nested({name: value for name, value in variables.items() if _variable(str(name)) == SECRETS})
        merged |= _secrets(given.get(SECRETS))
    others, others_of_deployment = (
        {name: value for name, value in variables.items() if _variable(str(name)) != SECRETS}
        for variables in (of_run, of_deployment)
    )
    deployment = copy(deployment)
    deployment.job_variables = others_of_deployment  # type: ignore[union-attr]
    return flow_run.model_copy(update={"job_variables": others | {SECRETS: merged}}), deployment


def _chosen_secrets(configuration: dict[str, Any], default: Any, given: Any) -> dict[str, Any] | None:
    """Merges the default value and the job variable `env_from_secrets`, whose values are not rendered.

    Returns:
        What comes on top of the template's own mapping. None if the template takes no job variable there.
    """
    own = configuration.get(SECRETS)
    if takes(own, SECRETS):
        del configuration[SECRETS]
    elif not isinstance(own, dict):
        return None
    return _secrets(default) | _secrets(given)


def _secrets(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if problem := not_secrets(value):
        raise ValueError(f"The job variable {problem}")
    found: dict[str, Any] = value
    return found


def _variable(name: str) -> str:
    """The variable of a job variable's dotted name, such as `env` of `env.FOO`. Prefect nests no name without a dot."""
    return _root(name) if "." in name else name


def _root(name: str) -> str:
    """The variable of a placeholder's name, such as `env` of `env.FOO` and `env[FOO]`."""
    return name.replace("[", ".").replace("]", "").split(".")[0]


def _texts(template: Any) -> Iterator[str]:
    """Iterates over the strings of a template. Does not recurse, because templates may be nested deeply."""
    waiting = [template]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


def _nested(job_variables: dict[str, Any]) -> dict[str, Any]:
    """Merges job variables with dotted names into mappings. A plain name wins over a dotted one."""
    nested: dict[str, Any] = {}
    for name, value in job_variables.items():
        if not isinstance(name, str):
            raise ValueError(f"The name of a job variable must be a string, got {name!r} ({_type_of(name)})")
        if "." in name:
            try:
                set_in_dict(nested, name, value)
            except TypeError as error:
                message = f"Job variable {name!r} conflicts with job variable {_conflict(nested, name)!r}"
                raise ValueError(f"{message}, which is not a mapping") from error
    for name, value in job_variables.items():
        if "." not in name:
            both = isinstance(value, dict) and isinstance(nested.get(name), dict)
            nested[name] = deep_merge(nested[name], value) if both else value
    return nested


def _conflict(nested: dict[str, Any], name: str) -> str:
    """The longest prefix of a dotted name that another job variable has set, and not to a mapping."""
    # The same syntax as that of Prefect's `set_in_dict`.
    keys = name.replace("[", ".").replace("]", "").split(".")
    value: Any = nested
    for depth, key in enumerate(keys[:-1], start=1):
        value = value.get(key, {})
        if not isinstance(value, dict):
            return ".".join(keys[:depth])
    return name


def _mapping(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be a mapping, got {_type_of(value)}")
    return value


def _type_of(value: object) -> str:
    return "null" if value is None else type(value).__name__
