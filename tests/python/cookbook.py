"""The recipes of docs/templates.md: where they are, how they are applied, and what each promises of the job."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonpatch
import jsonpointer

from prefect_gcp_cloud_run._template_command import with_its_list

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/templates.md"
FOLDER = ROOT / "docs/templates"

# Places in a job.
EXECUTION = "/spec/template"
ANNOTATIONS = f"{EXECUTION}/metadata/annotations/run.googleapis.com~1"
TASK = f"{EXECUTION}/spec/template/spec"
CONTAINER = f"{TASK}/containers/0"
# What a promise says of a place that must not be there.
ABSENT = object()


@dataclass
class Recipe:
    """What a recipe promises.

    Attributes:
        defaults: Values in the job when the flow run sets no job variable, by JSON pointer.
        variables: Job variables that the recipe adds or widens.
        job: Values in the job with these variables, by JSON pointer.
    """

    defaults: Mapping[str, Any]
    variables: Mapping[str, Any] = field(default_factory=dict)
    job: Mapping[str, Any] = field(default_factory=dict)


def _volume(name: str, path: str, **source: Any) -> dict[str, Any]:
    return {
        f"{TASK}/volumes/0": {"name": name, **source},
        f"{CONTAINER}/volumeMounts": [{"name": name, "mountPath": path}],
    }


def _bucket(name: str, *, read_only: bool) -> dict[str, Any]:
    source = {"driver": "gcsfuse.run.googleapis.com", "readOnly": read_only, "volumeAttributes": {"bucketName": name}}
    return _volume("bucket", "/mnt/bucket", csi=source)


def _secret_file(name: str, version: str) -> dict[str, Any]:
    items = [{"key": version, "path": name}]
    return _volume("secret", "/secrets", secret={"secretName": name, "items": items})


def _secret_variable(name: str, version: str) -> dict[str, Any]:
    return {"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": name, "key": version}}}


def _of_tasks(command: str, others: str) -> list[str]:
    script = f'if [ "$CLOUD_RUN_TASK_INDEX" = 0 ]; then exec {command} "$@"; else exec {others}; fi'
    return ["sh", "-c", script, "sh"]


SIDECAR_LIMITS = {"limits": {"cpu": "1000m", "memory": "512Mi"}}

RECIPES: dict[str, Recipe] = {
    "new-variable": Recipe(
        {f"{CONTAINER}/workingDir": ABSENT}, {"working_dir": "/app"}, {f"{CONTAINER}/workingDir": "/app"}
    ),
    "fixed-value": Recipe({f"{TASK}/serviceAccountName": "flows@my-project.iam.gserviceaccount.com"}),
    "gpu": Recipe(
        {
            f"{TASK}/nodeSelector": {"run.googleapis.com/accelerator": "nvidia-l4"},
            f"{CONTAINER}/resources/limits": {"cpu": "4000m", "memory": "16Gi", "nvidia.com/gpu": "1"},
            f"{CONTAINER}/resources/requests": {"cpu": "4000m", "memory": "16Gi"},
            f"{TASK}/timeoutSeconds": 3600,
        },
        {"gpu_type": "nvidia-rtx-pro-6000", "cpu": "20000m", "memory": "80Gi"},
        {
            f"{TASK}/nodeSelector": {"run.googleapis.com/accelerator": "nvidia-rtx-pro-6000"},
            f"{CONTAINER}/resources/limits": {"cpu": "20000m", "memory": "80Gi", "nvidia.com/gpu": "1"},
        },
    ),
    "gcs-volume": Recipe(
        _bucket("my-bucket", read_only=False),
        {"bucket": "b", "bucket_read_only": True},
        _bucket("b", read_only=True),
    ),
    "nfs-volume": Recipe(
        _volume("nfs", "/mnt/nfs", nfs={"server": "10.0.0.2", "path": "/share"}),
        {"nfs_server": "files", "nfs_path": "/p"},
        _volume("nfs", "/mnt/nfs", nfs={"server": "files", "path": "/p"}),
    ),
    "secret-files": Recipe(
        _secret_file("my-secret", "latest"),
        {"secret_file": "tls-key", "secret_file_version": "3"},
        _secret_file("tls-key", "3"),
    ),
    "secret-env": Recipe(
        {f"{CONTAINER}/env/0": _secret_variable("db-password", "latest")},
        {"db_password_secret": "other-password", "db_password_version": "3"},
        {f"{CONTAINER}/env/0": _secret_variable("other-password", "3")},
    ),
    "direct-vpc": Recipe(
        {
            f"{ANNOTATIONS}network-interfaces": '[{"network": "default", "subnetwork": "default"}]',
            f"{ANNOTATIONS}vpc-access-egress": "private-ranges-only",
            f"{ANNOTATIONS}vpc-access-connector": ABSENT,
        },
        {"vpc_network": "n", "vpc_subnetwork": "s", "vpc_egress": "all-traffic"},
        {
            f"{ANNOTATIONS}network-interfaces": '[{"network": "n", "subnetwork": "s"}]',
            f"{ANNOTATIONS}vpc-access-egress": "all-traffic",
        },
    ),
    "vpc-connector": Recipe(
        {
            f"{ANNOTATIONS}vpc-access-connector": "projects/my-project/locations/us-central1/connectors/my-connector",
            f"{ANNOTATIONS}vpc-access-egress": "private-ranges-only",
        },
        {"vpc_connector_name": "c", "vpc_egress": "all-traffic"},
        {f"{ANNOTATIONS}vpc-access-connector": "c", f"{ANNOTATIONS}vpc-access-egress": "all-traffic"},
    ),
    "cloud-sql": Recipe(
        {f"{ANNOTATIONS}cloudsql-instances": "my-project:us-central1:my-database"},
        {"cloud_sql_instances": "p:r:a,p:r:b"},
        {f"{ANNOTATIONS}cloudsql-instances": "p:r:a,p:r:b"},
    ),
    "cmek": Recipe(
        {f"{ANNOTATIONS}encryption-key": "projects/my-project/locations/us-central1/keyRings/my-ring/cryptoKeys/my-key"}
    ),
    "binary-authorization": Recipe({"/metadata/annotations/run.googleapis.com~1binary-authorization": "default"}),
    "second-generation": Recipe({f"{ANNOTATIONS}execution-environment": "gen2"}),
    "sidecar": Recipe(
        {
            f"{CONTAINER}/name": "flow",
            f"{TASK}/containers/1": {
                "name": "sidecar",
                "image": "us-docker.pkg.dev/my-project/images/collector:1",
                "resources": SIDECAR_LIMITS,
            },
        },
        {"sidecar_image": "i", "sidecar_args": ["--quiet"]},
        {f"{TASK}/containers/1": {"name": "sidecar", "image": "i", "args": ["--quiet"], "resources": SIDECAR_LIMITS}},
    ),
    "tasks": Recipe(
        {
            f"{EXECUTION}/spec/taskCount": 1,
            f"{EXECUTION}/spec/parallelism": 0,
            f"{CONTAINER}/command": _of_tasks("prefect flow-run execute", "true"),
        },
        {"task_count": 3, "parallelism": 2, "command": "a", "other_tasks_command": "b c"},
        {
            f"{EXECUTION}/spec/taskCount": 3,
            f"{EXECUTION}/spec/parallelism": 2,
            f"{CONTAINER}/command": _of_tasks("a", "b c"),
        },
    ),
    "retries": Recipe({f"{TASK}/maxRetries": 0}, {"max_retries": 2}, {f"{TASK}/maxRetries": 2}),
    "long-timeout": Recipe({f"{TASK}/timeoutSeconds": 86400}, {"timeout": 604800}, {f"{TASK}/timeoutSeconds": 604800}),
    "delayed-execution": Recipe(
        {f"{EXECUTION}/spec/delayExecution": True},
        {"delay_execution": False},
        {f"{EXECUTION}/spec/delayExecution": False},
    ),
    "billing-labels": Recipe(
        {
            "/metadata/labels/cost-center": "unassigned",
            f"{EXECUTION}/metadata/labels/cost-center": "unassigned",
        },
        {"cost_center": "team-7"},
        {"/metadata/labels/cost-center": "team-7", f"{EXECUTION}/metadata/labels/cost-center": "team-7"},
    ),
    "from-v2": Recipe(
        {f"{TASK}/maxRetries": 0, f"{TASK}/timeoutSeconds": 600, f"{CONTAINER}/args": ABSENT},
        {"max_retries": 1, "timeout": 604800, "args": ["--a"]},
        {f"{TASK}/maxRetries": 1, f"{TASK}/timeoutSeconds": 604800, f"{CONTAINER}/args": ["--a"]},
    ),
}


def patch_of(name: str) -> list[dict[str, Any]]:
    """Reads a recipe's file."""
    patch: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text())
    return patch


def patched(template: dict[str, Any], *names: str) -> dict[str, Any]:
    """Applies recipes to a base job template, in this order, as the command `template` does."""
    for name in names:
        template = patched_by(template, patch_of(name))
    return copy.deepcopy(template)


def patched_by(template: dict[str, Any], patch: list[dict[str, Any]]) -> dict[str, Any]:
    """Applies a patch to a base job template."""
    for operation in patch:
        template = jsonpatch.apply_patch(with_its_list(template, operation), [operation])
    return template


def broken_promises(job: Any, promises: Mapping[str, Any]) -> Iterable[str]:
    """Yields what a job has in the place of what was promised."""
    for pointer, promised in promises.items():
        found = jsonpointer.resolve_pointer(job, pointer, ABSENT)
        # The API answers 64-bit integers as strings.
        if found != promised and not (pointer.endswith("timeoutSeconds") and found == str(promised)):
            yield f"{pointer}: promised {shown(promised)}, found {shown(found)}"


def shown(value: Any) -> str:
    return "nothing" if value is ABSENT else json.dumps(value)
