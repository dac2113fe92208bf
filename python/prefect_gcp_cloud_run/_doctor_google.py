"""The part of `doctor` that looks at Google's side: credentials, project, the API and the permissions."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from prefect_gcp_cloud_run import _core, _credentials_of, _google_auth
from prefect_gcp_cloud_run._default_project import prepare_project_of
from prefect_gcp_cloud_run._discreet import parse_json
from prefect_gcp_cloud_run._findings import first_line
from prefect_gcp_cloud_run._key_source import key_text
from prefect_gcp_cloud_run.exceptions import CloudRunPermissionError, CloudRunUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect_gcp_cloud_run._doctor_prefect import Wanted
    from prefect_gcp_cloud_run._findings import Findings
    from prefect_gcp_cloud_run.credentials import GcpCredentials
    from prefect_gcp_cloud_run.exceptions import CloudRunError
    from prefect_gcp_cloud_run.settings import CloudRunWorkerSettings

# Longest time for the metadata server or gcloud to say whose credentials these are, in seconds.
_TIME = 20.0
# A worker waits for much longer. Here, somebody waits for the answer.
_AT_MOST = {
    "retry_max_attempts": 2,
    "retry_max_seconds": 10.0,
    "quota_wait_max_seconds": 10.0,
    "request_timeout_seconds": 15.0,
}
_EMAIL = re.compile(r"[\w.+%-]{1,128}@[\w.-]{1,128}", re.ASCII)
_KINDS = {
    "service_account": "service account key",
    "authorized_user": "a user's own credentials",
    "impersonated_service_account": "impersonation of a service account",
    "external_account": "workload identity federation",
    "external_account_authorized_user": "a workforce pool user's credentials",
}
_LOG_IN = "gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS to the path of a key file"
# How the text of an error says which setting ended the attempts.
_SPENT = re.compile(r" \(gave up after [^)]*\)")
_READ_LOGS = "logging.logEntries.list"
_ACT_AS = "iam.serviceAccounts.actAs"


async def check_google(
    findings: Findings,
    wanted: Wanted,
    settings: CloudRunWorkerSettings | None,
    *,
    project: str | None,
    region: str | None,
    reads_logs: bool,
) -> None:
    """Prints whose credentials a worker would use and in which project, whether the API answers, and what is missing.

    Args:
        findings: Gets the lines.
        wanted: What a worker would use.
        settings: The worker's settings. None: they can't be used, so no call is sent.
        project: The project, in the place of the credentials'.
        region: The region, in the place of the work pool's.
        reads_logs: Whether the worker reads the logs of containers that crashed.
    """
    findings.section("Google Cloud")
    region = region or wanted.region
    if wanted.credentials is None:
        findings.note("Not checked: what a worker would use is not known (see above)")
        return
    member = await _show_credentials(findings, wanted)
    project = project or await _find_project(findings, wanted.credentials)
    if project is None:
        return
    findings.note(f"Project {project}, region {region}")
    if settings is None:
        findings.note("Not checked: no call is sent with settings that can't be used (see above)")
        return
    quick = settings.model_copy(update={name: min(getattr(settings, name), most) for name, most in _AT_MOST.items()})
    try:
        client = _core.Client(
            project=project,
            region=region,
            credentials=_core.Credentials(
                service_account_info=key_text(wanted.credentials.service_account_info),
                service_account_file=wanted.credentials.service_account_file,
            ),
            settings=quick,
        )
    except ValueError as error:
        findings.problem(first_line(error), "use a project id and a region as gcloud run regions list shows them")
        return
    access = await client.check_access(service_account=wanted.service_account)
    _show_access(findings, access, project, member, wanted.service_account, reads_logs=reads_logs)


async def _show_credentials(findings: Findings, wanted: Wanted) -> str:
    """Prints whose credentials they are.

    Returns:
        Who they are for gcloud, such as `serviceAccount:E-MAIL`, with `ACCOUNT` for what is not known.
    """
    credentials = wanted.credentials
    if os.environ.get("CLOUD_RUN_EMULATOR_HOST"):
        findings.fine("Credentials: the emulator needs none")
        return "serviceAccount:ACCOUNT"
    try:
        if credentials is not None and credentials.service_account_info is not None:
            facts = credentials.service_account_info.get_secret_value()
            return _show_file(findings, facts, f"in {wanted.origin}")
        file = credentials.service_account_file if credentials is not None else None
        place = f"of {wanted.origin}, in {file}" if file else ""
        if file is None:
            file = await _in_thread(_core.default_credentials_file)
            place = f"application default credentials, in {file}"
        if file is not None:
            key = parse_json(_core.read_key_file(file), f"{file} is not JSON")
            return _show_file(findings, key, place)
    except (OSError, ValueError) as error:
        findings.problem(f"The credentials can't be read: {first_line(error)}", _LOG_IN)
        return "serviceAccount:ACCOUNT"
    return await _show_found(findings)


def _show_file(findings: Findings, facts: Any, place: str) -> str:
    facts = facts if isinstance(facts, dict) else {}
    kind = _KINDS.get(str(facts.get("type")), "credentials of an unknown type")
    account = facts.get("client_email") or facts.get("account") or ""
    url = str(facts.get("service_account_impersonation_url") or "")
    if not account and url:
        account = url.rpartition("/")[2].partition(":")[0]
    # Anything else may be a secret in the wrong place.
    email = account if isinstance(account, str) and _EMAIL.fullmatch(account) else None
    findings.fine(f"Credentials: {kind}, {place}" + (f", of {email}" if email else ""))
    who = "user" if facts.get("type") == "authorized_user" else "serviceAccount"
    return f"{who}:{email or 'ACCOUNT'}"


async def _show_found(findings: Findings) -> str:
    """Prints whose credentials the metadata server has, or that there is none."""
    try:
        email = await asyncio.wait_for(_in_thread(_account_of_machine), _TIME)
    except asyncio.TimeoutError:
        findings.note(f"Credentials: none in files, and the metadata server did not answer within {_TIME:.0f} s")
    except Exception:
        # The search for the project and the first call say why, and what to do.
        found = (
            "gcloud's account is used, if it has one" if shutil.which("gcloud") else "gcloud is not installed either"
        )
        findings.note(f"Credentials: none in files or from a metadata server; {found}")
    else:
        known = email if _EMAIL.fullmatch(email) else None
        findings.fine("Credentials: of this machine, from the metadata server" + (f", of {known}" if known else ""))
        return f"serviceAccount:{known or 'ACCOUNT'}"
    return "serviceAccount:ACCOUNT"


def _account_of_machine() -> str:
    request = _google_auth.transport()
    credentials = _google_auth.load(None, None, request)
    _google_auth.refresh(credentials, request)
    return str(getattr(credentials, "service_account_email", ""))


async def _find_project(findings: Findings, credentials: GcpCredentials) -> str | None:
    try:
        await asyncio.wait_for(prepare_project_of(credentials), _TIME)
        project = _credentials_of.resolve_project(credentials)
    except asyncio.TimeoutError:
        why = f"gcloud or the metadata server did not answer within {_TIME:.0f} s"
    except Exception as error:
        why = first_line(error)
    else:
        if project:
            return project
        why = "the credentials name none"
    findings.problem(
        f"The project is not known: {why}",
        "set 'project' on the work pool's GCP credentials block, or export GOOGLE_CLOUD_PROJECT=PROJECT. Without "
        f"credentials: {_LOG_IN}",
    )
    return None


def _show_access(
    findings: Findings,
    access: _core.Access,
    project: str,
    member: str,
    service_account: str | None,
    *,
    reads_logs: bool,
) -> None:
    error = access.error
    if error is None:
        findings.fine("The Cloud Run API answers, and the jobs can be listed")
    elif not isinstance(error, CloudRunPermissionError):
        _show_error(findings, error)
        return
    else:
        findings.note("The Cloud Run API answers")
    needed = [row for row in access.permissions if row[0] != _READ_LOGS or reads_logs]
    missing: dict[str, list[str]] = {}
    for name, _purpose, role, has in needed:
        if has is False:
            missing.setdefault(role, []).append(name)
    for role, names in missing.items():
        is_on_account = names == [_ACT_AS] and service_account is not None
        where = f"service account {service_account}" if is_on_account else f"project {project}"
        # The template is written by others, and the command is there to be copied.
        account = shlex.quote(service_account or "")
        command = f"iam service-accounts add-iam-policy-binding {account}"
        command = command if is_on_account else f"projects add-iam-policy-binding {project}"
        of_project = f" --project={project}" if is_on_account else ""
        # Google does not tell these two apart.
        or_none = ", or there is no such project" if error is not None and "run.jobs.list" in names else ""
        findings.problem(
            f"The account lacks {', '.join(names)} on {where}{or_none}",
            f"gcloud {command} --member={member} --role={role}{of_project}",
        )
    if error is not None and not any("run.jobs.list" in names for names in missing.values()):
        _show_error(findings, error)
    granted = [name for name, _purpose, _role, has in needed if has]
    unknown = [name for name, _purpose, _role, has in needed if has is None]
    if granted:
        findings.fine(f"The account has {', '.join(granted)}")
    if unknown == [_ACT_AS] and access.not_asked is None:
        findings.note(
            f"Not checked: {_ACT_AS}. The account lacks it on the project, but may have it on the service account that "
            "the jobs run as (job variable service_account_name)"
        )
    elif unknown:
        why = access.not_asked or ""
        enable = f"gcloud services enable cloudresourcemanager.googleapis.com --project {project} lets this command ask"
        findings.note(
            f"Not checked: {', '.join(unknown)}; only reads are sent"
            + (f", since {why}" if why else "")
            + (f". {enable}" if access.is_project_api_disabled else "")
        )


def _show_error(findings: Findings, error: CloudRunError) -> None:
    text = str(error)
    if error.hint:
        text = text.replace(error.hint, "").strip()
    mend = error.hint or "see https://status.cloud.google.com"
    if os.environ.get("CLOUD_RUN_EMULATOR_HOST") and isinstance(error, CloudRunUnavailableError):
        mend = "start the emulator (docs/emulator.md), or unset CLOUD_RUN_EMULATOR_HOST"
    # The limits are this command's, not those of the settings.
    findings.problem(_SPENT.sub("", text), mend)


async def _in_thread(work: Callable[[], Any]) -> Any:
    """Runs what may hang in a thread that does not keep the program from ending."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="cloud-run-doctor", daemon=True).start()
    return await asyncio.wrap_future(future)
