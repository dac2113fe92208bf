"""Looks at one process of an environment that has this distribution, the upstream one, or both: prints what it finds as
JSON. tests/python/test_beside_upstream.py runs it with the environment's interpreter. It must not import anything else
of the tests.

    python beside.py ["MODULE…"…]   imports these modules first; with several arguments, looks several times
"""

import importlib
import json
import os
import pickle
import sys
import tempfile
import warnings
from pathlib import Path

NAMES = [
    "bigquery",
    "bundles",
    "bundles.execute",
    "bundles.upload",
    "cli",
    "cloud_storage",
    "credentials",
    "decorators",
    "deployments.steps",
    "emulator",
    "exceptions",
    "experimental.bundles.upload",
    "experimental.decorators",
    "models.cloud_run_v2",
    "secret_manager",
    "settings",
    "utilities",
    "workers",
    "workers.cloud_run",
    "workers.cloud_run_v2",
    "workers.vertex",
]


def owner(module):
    """The folder of site-packages that a module's file is in."""
    return str(module.__file__).replace("\\", "/").split("site-packages/")[1].split("/")[0]


def look(key):
    """What each module is, and whether the classes fit together."""
    import prefect_gcp

    found = {"": owner(prefect_gcp)}
    modules = {}
    for name in NAMES:
        try:
            modules[name] = importlib.import_module(f"prefect_gcp.{name}")
        except ModuleNotFoundError:
            found[name] = None
        else:
            found[name] = owner(modules[name])
            assert getattr(sys.modules[f"prefect_gcp.{name}".rpartition(".")[0]], name.split(".")[-1]) is modules[name]
    from prefect.blocks.core import Block
    from prefect.utilities.dispatch import get_registry_for_type
    from prefect.workers.base import BaseWorker

    types = sorted(BaseWorker.get_all_available_worker_types())
    worker = BaseWorker.get_worker_class_from_type("cloud-run")
    assert prefect_gcp.CloudRunWorker is worker is modules["workers.cloud_run"].CloudRunWorker
    credentials = modules["credentials"].GcpCredentials
    assert prefect_gcp.GcpCredentials is credentials
    blocks = set(get_registry_for_type(Block).values())
    slugs = [block.__name__ for block in blocks if block.get_block_type_slug() == "gcp-credentials"]
    for one in (credentials, modules["credentials"].ClientType, worker):
        assert pickle.loads(pickle.dumps(one)) is one
    assert credentials.__module__ == "prefect_gcp.credentials"
    block = credentials(service_account_info=key)
    assert block.project == "from-the-key"
    built = []
    if found["cloud_storage"]:
        built = construct(modules, block, prefect_gcp)
    return {
        "modules": found,
        "types": types,
        "worker": worker.__module__,
        "accepts": accepts(modules["workers.cloud_run"], modules, block) if ours(worker) else None,
        "refused": refused(modules["workers.cloud_run"]) if ours(worker) else None,
        "slugs": slugs,
        "built": built,
    }


def ours(worker):
    return worker.__module__.startswith("prefect_gcp_cloud_run")


def construct(modules, block, prefect_gcp):
    """Makes one of each class of upstream's, with a block of credentials."""
    made = [
        modules["cloud_storage"].GcsBucket(bucket="bucket", gcp_credentials=block),
        modules["bigquery"].BigQueryWarehouse(gcp_credentials=block),
        modules["secret_manager"].GcpSecret(gcp_credentials=block, secret_name="secret"),
        modules["workers.cloud_run_v2"].CloudRunWorkerV2(work_pool_name="pool"),
        modules["workers.vertex"].VertexAIWorker(work_pool_name="pool"),
        modules["workers.cloud_run_v2"].CloudRunWorkerV2Variables(credentials=block, region="r", image="i"),
        modules["models.cloud_run_v2"].SecretKeySelector(secret="s", version="1"),
        modules["settings"].CloudRunV2WorkerSettings(),
    ]
    assert made[0].gcp_credentials is block
    assert prefect_gcp.GcsBucket is type(made[0])
    assert callable(modules["decorators"].cloud_run)
    assert callable(modules["deployments.steps"].push_to_gcs)
    return [type(one).__name__ for one in made]


def accepts(module, modules, block):
    """Our configuration takes blocks and secrets of the shared classes; without credentials, it looks for none."""
    selector = modules["models.cloud_run_v2"].SecretKeySelector(secret="s", version="1")
    body = module._get_base_job_body()
    make = module.CloudRunWorkerJobConfiguration
    key = block.service_account_info.get_secret_value()
    assert make(job_body=body, credentials=block, prefect_api_key_secret=selector).credentials is block
    os.environ["CLOUD_RUN_EMULATOR_HOST"] = "127.0.0.1:1"
    projects = [
        make(job_body=body).project,
        make(job_body=body, credentials=None).project,
        make(job_body=body, credentials={"project": "named"}).project,
        make(job_body=body, credentials={"service_account_info": key}).project,
    ]
    module.CloudRunWorker(work_pool_name="pool")
    # They are looked up when they are needed, also for the variables.
    made = module.CloudRunWorkerVariables
    assert made(credentials={}).credentials.project is None
    assert made(credentials={"project": "named"}).credentials.project == "named"
    return projects


def refused(module):
    """What is said about values of `credentials` that would mean other credentials than are wanted, or would hang."""
    with tempfile.TemporaryDirectory() as folder:
        pipe, no_json = Path(folder, "pipe"), Path(folder, "no-json")
        os.mkfifo(pipe)
        no_json.write_text("{very-private")
        values = [
            {"service_acount_info": {"private_key": "very-private"}},
            {"type": "service_account", "private_key": "very-private"},
            {"service_account_info": ""},
            {"service_account_info": "null"},
            {"service_account_info": "very-private"},
            {"service_account_info": ["very-private"]},
            {"service_account_info": {"private_key": "very-private"}, "service_account_file": str(no_json)},
            {"service_account_file": ""},
            {"service_account_file": str(pipe)},
            {"service_account_file": "/there-is-none"},
            {"service_account_file": "~there-is-no-such-user/key.json"},
            {"service_account_file": "very-private" * 1000},
            {"service_account_file": str(no_json)},
            {"project": 1},
            "very-private",
        ]
        return [error_of(module, value).replace(folder, "FOLDER") for value in values]


def error_of(module, credentials):
    """What the configuration and the variables say, which is the same."""
    said = set()
    for make in (module.CloudRunWorkerJobConfiguration, module.CloudRunWorkerVariables):
        body = {"job_body": module._get_base_job_body()} if make is module.CloudRunWorkerJobConfiguration else {}
        try:
            make(credentials=credentials, **body)
        except ValueError as error:
            shown = f"{error} {error.__context__!r}"
            said.add("a secret" if "very-private" in shown else "; ".join(one["msg"] for one in error.errors()))
        else:
            said.add("accepted")
    (one,) = said
    return one


def main(groups):
    """Looks once for each group, in a child of its own that has imported nothing of both packages."""
    # Prefect warns when a worker type or a block is registered twice.
    warnings.filterwarnings("error", message=".*matches existing registered type.*")
    if len(groups) > 1:
        for name in ("prefect.blocks.core", "prefect.workers.base", "google.auth", "googleapiclient.discovery"):
            importlib.import_module(name)
    for group in groups:
        child = os.fork() if len(groups) > 1 else 0
        if child == 0:
            for first in group.split():
                importlib.import_module(first)
            print(json.dumps(look(json.loads(os.environ["KEY"]))), flush=True)
            if len(groups) > 1:
                os._exit(0)
        elif os.waitpid(child, 0)[1] != 0:
            sys.exit(f"failed when these are imported first: {group}")


if __name__ == "__main__":
    main(sys.argv[1:] or [""])
