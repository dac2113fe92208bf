"""The command lines of the documents: each is one that the program understands.

Nobody can ask gcloud here. Its commands are compared with a list whose entries follow Google's reference, so that a
mistyped one is noticed.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import re
import shlex
from typing import TYPE_CHECKING

import jsonpatch
import pytest
from cyclopts import MissingArgumentError
from prefect.cli._app import _app

from prefect_gcp.emulator import Emulator
from prefect_gcp.workers.cloud_run import CloudRunWorker
from prefect_gcp_cloud_run import _core, cli, emulator
from prefect_gcp_cloud_run.settings import CloudRunWorkerSettings
from tests.python.test_docs import DOCUMENTS, ROOT

if TYPE_CHECKING:
    import argparse

# Commands of gcloud (https://cloud.google.com/sdk/gcloud/reference) and those of their options that the documents use.
GCLOUD = {
    "artifacts docker images list": "--include-tags",
    "artifacts repositories add-iam-policy-binding": "--location --member --role",
    "artifacts repositories create": "--location --repository-format",
    "auth application-default login": "--impersonate-service-account",
    "auth configure-docker": "",
    "auth login": "",
    "auth print-access-token": "",
    "config get": "",
    "config set": "",
    "iam service-accounts add-iam-policy-binding": "--member --role",
    "iam service-accounts create": "",
    "projects add-iam-policy-binding": "--member --role",
    "run deploy": "--allow-unauthenticated --args --cpu --cpu-throttling --image --ingress --liveness-probe "
    "--max-instances --memory --min-instances --port --region --service-account --set-env-vars --set-secrets "
    "--startup-probe",
    "run jobs create": "--args --command --image",
    "run jobs delete": "",
    "run jobs describe": "--format --region",
    "run jobs execute": "--wait",
    "run jobs executions describe": "",
    "run jobs executions list": "--job",
    "run jobs list": "--filter",
    "secrets add-iam-policy-binding": "--member --role",
    "secrets create": "--data-file",
    "services enable": "",
}
# Programs of others, whose options nobody can ask here.
OTHERS = {".", "cargo", "curl", "docker", "export", "git", "mktemp", "pip", "printf"}
PROGRAMS = re.compile(r"`((?:prefect|prefect-gcp-cloud-run|gcloud|python\s-m)\s[^`]+)`")


def lines_of(document: str) -> list[tuple[str, bool]]:
    """The command lines in a document, and whether each is whole. A text may name the beginning of one."""
    text = (ROOT / document).read_text()
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in lines_of_block(block)]
    named = PROGRAMS.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [(line, True) for line in lines] + [(" ".join(line.split()), False) for line in named if "…" not in line]


def lines_of_block(block: str) -> list[str]:
    """The command lines of a block, each with those that it goes on in."""
    lines, begun = [], ""
    for line in block.replace("\\\n", " ").splitlines():
        begun += line + "\n"
        try:
            if shlex.split(begun, comments=True):
                lines.append(begun)
        except ValueError:
            # A quotation goes on in the next line.
            continue
        begun = ""
    assert not begun
    return lines


def commands_of(line: str) -> list[list[str]]:
    """The commands of a line: those of a pipe, and those in `$(…)`, without variables that are set in front."""
    inner = re.findall(r"\$\(([^)]*)\)", line)
    words = shlex.split(re.sub(r"\$\([^)]*\)", "VALUE", line), comments=True)
    assert not {";", "||", "&", "<"} & set(words), f"no test looks behind this: {line}"
    commands: list[list[str]] = [[]]
    for word in words:
        if word in ("|", "&&"):
            commands.append([])
        elif commands[-1] or word == ">" or not re.match(r"\w+=", word):
            commands[-1].append(word)
    plain = [command[: command.index(">")] if ">" in command else command for command in commands]
    return [command for command in plain if command] + [command for part in inner for command in commands_of(part)]


def is_understood_by_prefect(words: list[str], *, is_whole: bool) -> str | None:
    try:
        _app.parse_args(words, exit_on_error=False, print_error=False)
    except MissingArgumentError as error:
        return str(error) if is_whole else None
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def is_understood_by(parser: argparse.ArgumentParser, words: list[str], *, is_whole: bool) -> str | None:
    if not is_whole:
        for command in parser._subparsers._group_actions[0].choices.values() if parser._subparsers else []:
            for action in command._actions:
                action.required = False
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            parser.parse_args(words)
    except SystemExit as end:
        return None if end.code == 0 else said.getvalue()
    return None


def options_of(words: list[str]) -> set[str]:
    return {word.partition("=")[0].replace("--no-", "--") for word in words if word.startswith("--")}


def is_understood_by_gcloud(words: list[str]) -> str | None:
    known = [name for name in GCLOUD if words[: len(name.split())] == name.split()]
    if not known:
        return "no command of the list GCLOUD"
    wrong = options_of(words) - set(GCLOUD[max(known, key=len)].split())
    return f"not in the list GCLOUD: {wrong}" if wrong else None


def problem_of(command: list[str], *, is_whole: bool = True) -> str | None:
    """What is wrong with a command, if anything is. The beginning of one may lack what has to follow."""
    program, *words = command
    if program == "prefect":
        return is_understood_by_prefect(words, is_whole=is_whole)
    if program == "prefect-gcp-cloud-run":
        return is_understood_by(cli._parser(), words, is_whole=is_whole)
    if program == "gcloud":
        return is_understood_by_gcloud(words)
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return None if words[0] in targets else "no such target"
    if program in ("python", ".venv/bin/python"):
        if words[:2] == ["-m", "prefect_gcp.emulator"]:
            return is_understood_by(emulator._parser(), words[2:], is_whole=is_whole)
        if words[0] == "-m":
            return None if importlib.util.find_spec(words[1]) else "no such module"
        return None if (ROOT / words[0]).exists() or words[0] in ("flow.py", "-S", "app.pyz") else "no such file"
    return None if program in OTHERS else "no known program: add it to OTHERS, or check its commands"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_command_line_of_a_document_is_understood(document):
    for line, is_whole in lines_of(document):
        for command in commands_of(line):
            problem = problem_of(command, is_whole=is_whole)
            assert problem is None, f"{line}: {problem}"


@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.parametrize(
    "line",
    [
        "prefect work-pool creat my-pool --type cloud-run",
        "prefect worker start --poool my-pool",
        "prefect-gcp-cloud-run docter",
        "prefect-gcp-cloud-run template --upgrade",
        "prefect-gcp-cloud-run sweep --poool x",
        "python -m prefect_gcp.emulator --prot 8080",
        "python -m prefect_gcp.emulater",
        "gcloud run job list",
        "gcloud run jobs list --fliter x",
        "make tset",
        "true && make tset",
        "echo x",
    ],
)
def test_a_wrong_command_line_is_noticed(line, is_whole):
    assert any(problem_of(command, is_whole=is_whole) for command in commands_of(line))


def test_the_beginning_of_a_command_line_may_lack_the_rest():
    for line in ("prefect flow-run cancel", "prefect-gcp-cloud-run sweep"):
        (command,) = commands_of(line)
        assert problem_of(command)
        assert problem_of(command, is_whole=False) is None


def test_the_list_of_gclouds_commands_has_those_of_the_documents_and_no_others():
    lines = [line for document in DOCUMENTS for line, _is_whole in lines_of(document)]
    commands = [command[1:] for line in lines for command in commands_of(line) if command[0] == "gcloud"]
    for name, options in GCLOUD.items():
        used = [command for command in commands if command[: len(name.split())] == name.split()]
        assert used, name
        assert set(options.split()) <= {option for command in used for option in options_of(command)}, name


@pytest.mark.anyio
async def test_the_roles_of_the_page_about_google_are_those_that_the_doctor_asks_for():
    with Emulator() as running:
        credentials = _core.Credentials(service_account_info=None, service_account_file=None)
        settings = CloudRunWorkerSettings(api_endpoint=running.url)
        access = await _core.Client(project="p", region="r", credentials=credentials, settings=settings).check_access()
    page = (ROOT / "docs/google.md").read_text()
    (table,) = re.findall(r"\| permission of the worker \|.*?\n\n", page, re.DOTALL)
    rows = [row.split(" | ") for row in table.splitlines()[2:]]
    documented = {name: row[2].strip("`") for row in rows for name in re.findall(r"`([\w.]+)`", row[0])}
    assert documented == {name: role for name, _purpose, role, _has in access.permissions}
    for role in set(documented.values()):
        assert f" --role={role}\n" in page


def variables_of_programs(document: str) -> list[dict[str, object]]:
    """The `job_variables` in the Python programs of a document, all of which must be Python."""
    found = []
    for block in re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.keyword) and node.arg == "job_variables":
                found.append(ast.literal_eval(node.value))
    return found


def test_the_programs_of_the_documents_set_variables_that_the_template_has():
    known = CloudRunWorker.get_default_base_job_template()["variables"]["properties"]
    found = {document: variables_of_programs(document) for document in DOCUMENTS}
    assert found["README.md"]
    assert found["docs/google.md"]
    for document, uses in found.items():
        assert {name for variables in uses for name in variables} <= known.keys(), document


def test_the_default_values_of_the_page_about_google_are_those_of_its_accounts_and_secret():
    page = (ROOT / "docs/google.md").read_text()
    (patch,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    template = jsonpatch.apply_patch(CloudRunWorker.get_default_base_job_template(), patch)
    defaults = {name: field.get("default") for name, field in template["variables"]["properties"].items()}
    assert f" REGION={defaults['region']}\n" in page
    account, _, domain = defaults["service_account_name"].partition("@")
    assert f" JOBS={account}@$PROJECT.{domain.partition('.')[2]}\n" in page
    assert f"gcloud secrets create {defaults['prefect_api_key_secret']['secret']} " in page


@pytest.mark.parametrize("documents", [["docs/google.md"], ["docs/google.md", "docs/cloud-run-service.md"]])
def test_each_variable_of_a_command_line_is_exported_before(documents):
    exported: set[str] = set()
    for document in documents:
        for line, is_whole in lines_of(document):
            if is_whole:
                # A line may use what it exports itself.
                exported |= set(re.findall(r"(\w+)=", line)) if line.startswith("export ") else set()
                assert set(re.findall(r"\$\{?([A-Z_]+)", line)) <= exported, line
