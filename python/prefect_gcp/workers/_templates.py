"""Job bodies of the pool template, and the rendering of a pool's template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect.utilities.annotations import NotSet
from prefect.utilities.collections import deep_merge, set_in_dict
from prefect.utilities.templating import apply_values, resolve_block_document_references, resolve_variables

from prefect_gcp import _core

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect.client.orchestration import PrefectClient


def get_default_job_body_template() -> dict[str, Any]:
    """The job body of the default pool template: a `Job` of the API with placeholders."""
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
        "apiVersion": "run.googleapis.com/v1",
        "kind": "Job",
        "metadata": {
            "name": "{{ name }}",
            "annotations": {"run.googleapis.com/launch-stage": "BETA"},
        },
        "spec": {
            "template": {
                "spec": {"template": {"spec": task}},
                "metadata": {"annotations": {"run.googleapis.com/vpc-access-connector": "{{ vpc_connector_name }}"}},
            }
        },
    }


def get_base_job_body() -> dict[str, Any]:
    """The least that every job body holds."""
    return {
        "apiVersion": "run.googleapis.com/v1",
        "kind": "Job",
        "metadata": {"annotations": {"run.googleapis.com/launch-stage": "BETA"}},
        "spec": {"template": {"spec": {"template": {"spec": {"containers": [{}]}}}}},
    }


# Since Prefect 3.9, `a.1` finds what a mapping has at "1".
_EXACT_KEYS = str(apply_values("{{ a.1 }}", {"a": {"1": "found"}})) == "found"


def render(template: object, values: dict[str, Any]) -> Any:
    """Renders a template as the installed Prefect's `apply_values` does.

    Args:
        template: Mappings, lists, texts, numbers, booleans and nulls.
        values: Values for its placeholders.

    Returns:
        What it becomes; `NotSet` for a template that is a placeholder without a value.

    Raises:
        ValueError: When the template holds something else, or is nested too deeply.
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
        base_job_template: The pool's template, with `job_configuration` and `variables`.
        job_variables: Values of variables; a dotted name (`env.FOO`) sets one key of a mapping.
        defaults_of: Takes the variables' schemas and returns the defaults.
        client: Looks up blocks and variables of Prefect.

    Returns:
        Fields of a job configuration.

    Raises:
        ValueError: When the template has another shape, holds what no template can, or a job variable has no place.
    """
    template = _mapping(base_job_template, "The pool's template")
    configuration = dict(_mapping(template.get("job_configuration"), "The pool's template at job_configuration"))
    schema = _mapping(template.get("variables"), "The pool's template at variables")
    place = "The pool's template at variables.properties"
    properties = _mapping(schema.get("properties", {}), place)
    for name, variable in properties.items():
        _mapping(variable, f"{place}.{name}")
    values = defaults_of(properties)
    if env := values.get("env"):
        own = configuration.get("env")
        configuration["env"] = own | _mapping(env, f"{place}.env.default") if isinstance(own, dict) else env
    values |= _nested(_mapping(job_variables, "The job variables"))
    if isinstance(configuration.get("env"), dict) and (env := values.get("env")):
        configuration["env"] = configuration["env"] | _mapping(env, "The job variable env")
    rendered = render(configuration, values)
    try:
        rendered = await resolve_block_document_references(template=rendered, client=client)
        resolved: dict[str, Any] = await resolve_variables(template=rendered, client=client)
    except RecursionError as error:
        raise ValueError("The pool's template or a job variable is nested too deeply, or holds itself") from error
    return resolved


def _nested(job_variables: dict[str, Any]) -> dict[str, Any]:
    """Job variables with dotted names as mappings. Plain names win over dotted ones."""
    nested: dict[str, Any] = {}
    for name, value in job_variables.items():
        if not isinstance(name, str):
            raise ValueError(f"The job variable {name!r}: expected a string as name, found {_type_of(name)}")
        if "." in name:
            try:
                set_in_dict(nested, name, value)
            except TypeError as error:
                message = f"The job variable {name!r} sets a key of what another one sets to something else"
                raise ValueError(message) from error
    for name, value in job_variables.items():
        if "." not in name:
            both = isinstance(value, dict) and isinstance(nested.get(name), dict)
            nested[name] = deep_merge(nested[name], value) if both else value
    return nested


def _mapping(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what}: expected a mapping, found {_type_of(value)}")
    return value


def _type_of(value: object) -> str:
    return "nothing" if value is None else type(value).__name__
