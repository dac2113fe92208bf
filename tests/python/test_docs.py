"""What the documents promise of the code."""

import importlib
import inspect
import re
import runpy
from pathlib import Path

import pytest

from prefect_gcp.settings import CloudRunObserverSettings, CloudRunWorkerSettings
from prefect_gcp_cloud_run import _commands, emulator, exceptions
from tools import site

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")),
]


def anchors(text: str) -> list[str]:
    """The anchors that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_each_claim_of_the_security_notes_names_a_test_that_exists():
    text = (ROOT / "SECURITY.md").read_text()
    (section,) = re.findall(r"## What it defends against\n(.*?)\n## ", text, re.DOTALL)
    claims = [claim for claim in re.split(r"\n\n|\n- ", section) if claim.strip() and not claim.endswith(".**")]
    assert len(claims) > 12
    for claim in claims:
        assert re.search(r"`(tests|src)/[\w/.]+(::\w+)?`", claim), claim


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_test_that_a_document_names_exists(document):
    for file, test in re.findall(r"`((?:src|tests)/[\w/.]+)::(\w+)`", (ROOT / document).read_text()):
        assert re.search(rf"\b(def|fn) {test}\(", (ROOT / file).read_text()), f"{file}::{test}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_files_that_a_document_names_exist(document):
    path = ROOT / document
    text = path.read_text()
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    files = re.findall(r"`((?:src|tests|docs|python|benches|demo|tools)/[\w/.]+)(?:`|::)", text)
    for link in links:
        assert (path.parent / link).exists(), link
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", text):
        assert anchor in anchors((path.parent / target if target else path).read_text()), f"{target}#{anchor}"
    for file in files:
        assert (ROOT / file).exists(), file


def test_every_target_that_a_document_names_is_in_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        for target in re.findall(r"`make ([a-z-]+)", (ROOT / document).read_text()):
            assert target in targets, f"{document}: make {target}"


def test_the_table_of_settings_is_that_of_the_code():
    tool = runpy.run_path(str(ROOT / "tools/settings_table.py"))
    text = (ROOT / "docs/settings.md").read_text()
    assert text == tool["written"](text), "run .venv/bin/python tools/settings_table.py"


def test_each_setting_says_when_to_change_it():
    (section,) = re.findall(
        r"## When to change a setting\n(.*?)\n## ", (ROOT / "docs/settings.md").read_text(), re.DOTALL
    )
    headings = "".join(re.findall(r"^### .*$", section, re.MULTILINE))
    described = re.findall(r"`(\w+)`", headings)
    settings = [*CloudRunWorkerSettings.model_fields, *CloudRunObserverSettings.model_fields]
    assert described == [name.upper() for name in settings]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


def test_the_architecture_shows_the_states_and_transitions_of_the_machine():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    source = (ROOT / "src/lifecycle/machine/mod.rs").read_text()
    (original,) = re.findall(r"//! ```mermaid\n(.*?)//! ```\n", source, re.DOTALL)
    (copy,) = re.findall(r"```mermaid\n(stateDiagram.*?)```\n", text, re.DOTALL)
    assert copy == re.sub(r"^//! ", "", original, flags=re.MULTILINE)
    (table,) = re.findall(r"\| state \|.*?\n\n", text, re.DOTALL)
    states = set(re.findall(r"^    (\w+) --> ", copy, re.MULTILINE))
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == states


def documented_log_lines() -> dict[str, list[str]]:
    """The lines in the tables of log lines, each with its parts that do not vary."""
    (section,) = re.findall(r"## The flow run's log\n(.*?)\n## ", (ROOT / "docs/running.md").read_text(), re.DOTALL)
    lines = [line for line in re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE) if line not in ("line", "---")]
    # What stands in italics varies. A line of the code may be put together at a semicolon.
    return {line: [part for part in re.split(r"; | ?\*[^*]+\* ?", line.replace("**", "")) if part] for line in lines}


def worded(source: str) -> str:
    """The source with each text in one piece: without breaks in literals, and with X for what is filled in."""
    in_one_piece = re.sub(r"\\\n\s*", "", re.sub(r"\"\n\s*f?\"", "", source))

    def filled_in(literal: re.Match[str]) -> str:
        return re.sub(r"\{[^{}]*\}", "X", re.sub(r"\{[^{}]*!r\}", "'X'", literal[0]))

    return re.sub(r"\"[^\"]*\"", filled_in, in_one_piece)


def arms_of_log_lines() -> list[tuple[str, str]]:
    """The variants of `Progress`, in the order of the match that words them, each with the texts of the arm."""
    source = (ROOT / "src/lifecycle/progress/wording.rs").read_text()
    (match,) = re.findall(r"fn fmt\(.*?match self \{\n(.*?)\n    \}\n\}\n", source, re.DOTALL)
    arms = re.split(r"^ {12}Self::(?=\w+ \{)", match, flags=re.MULTILINE)[1:]
    return [(arm.split(" ")[0], worded(arm)) for arm in arms]


def python_sources() -> str:
    package = ROOT / "python/prefect_gcp_cloud_run"
    paths = [*(package / "workers").glob("*.py"), package / "_default_project.py"]
    return "".join(worded(path.read_text()) for path in sorted(paths))


def test_the_log_lines_in_the_docs_are_those_of_the_code():
    sources = worded((ROOT / "src/lifecycle/progress/wording.rs").read_text()) + python_sources()
    assert len(documented_log_lines()) > 30
    for line, parts in documented_log_lines().items():
        assert parts, line
        for part in parts:
            assert part in sources, line


def test_every_log_line_of_the_code_is_in_the_docs():
    lines = documented_log_lines().values()
    update = (ROOT / "src/lifecycle/progress/update.rs").read_text()
    (variants,) = re.findall(r"pub enum Progress \{\n(.*?)\n\}", update, re.DOTALL)
    arms = arms_of_log_lines()
    assert {variant for variant, _ in arms} == set(re.findall(r"^    (\w+) \{", variants, re.MULTILINE))
    for variant, texts in arms:
        assert any(all(part in texts for part in parts) for parts in lines), f"{variant}: {texts}"
    # The warnings of the Python layer.
    source = python_sources()
    warnings = re.findall(r"\.warning\(\s*f\"([^\"]*)\"", source)
    problems = re.findall(r"\bproblem = f\"([^\"]*)\"", source)
    assert len(warnings) == 17
    assert len(problems) == 2
    for text in warnings + problems:
        assert any(part in text for parts in lines for part in parts if len(part) > 1), text


def levels_of_log_lines() -> dict[str, str]:
    """The level of each variant of `Progress`, as the code gives it."""
    source = (ROOT / "src/lifecycle/progress/update.rs").read_text()
    (match,) = re.findall(r"fn level\(&self\) -> Level \{\n(.*?)\n    \}\n\}", source, re.DOTALL)
    levels: dict[str, str] = {}
    for arm, level in re.findall(r"((?:Self::|_ )(?:(?!=>).)*)=>[\s{]*Level::(\w+)", match, re.DOTALL):
        levels |= dict.fromkeys(re.findall(r"Self::(\w+)", arm) or ["_"], level.lower())
    return levels


def test_the_levels_of_log_lines_in_the_docs_are_those_of_the_code():
    (section,) = re.findall(r"## The flow run's log\n(.*?)\n## ", (ROOT / "docs/running.md").read_text(), re.DOTALL)
    documented = dict(re.findall(r"^\| ([^|]+) \| ((?:debug|info|error)[^|]*) \|$", section, re.MULTILINE))
    assert len(documented) > 20
    levels = levels_of_log_lines()
    assert levels.pop("_") == "info"
    # It depends on the condition, and on how long it has lasted.
    assert levels.pop("AwaitingReady") == "debug"
    compared = 0
    for variant, texts in arms_of_log_lines():
        for line, parts in documented_log_lines().items():
            if not all(part in texts for part in parts) or variant == "AwaitingReady":
                continue
            compared += 1
            raw = next((raw for raw in documented if raw == line), None)
            assert (documented[raw] if raw is not None else "warning") == levels.get(variant, "info"), line
    assert compared > 30


def test_the_decisions_of_the_observer_in_the_docs_are_those_of_the_code():
    text = (ROOT / "docs/observer.md").read_text()
    source = (ROOT / "src/lifecycle/observer/decision.rs").read_text()
    (table,) = re.findall(r"\| executions of the job \|.*?\n\n", text, re.DOTALL)
    documented = re.findall(r"\| ([^|]+) \|$", table, re.MULTILINE)[1:]
    reasons = set(re.findall(r"\"((?:it|its|this) [^\"]+)\"", source))
    assert len(reasons) > 20
    assert set(documented) - {"the same two"} == reasons


def test_the_mark_in_the_docs_is_that_of_the_code():
    text = (ROOT / "docs/observer.md").read_text()
    source = (ROOT / "src/job/mark.rs").read_text()
    rows = re.findall(r"^\| `([^`]+)` \| (label|annotation) \|", text, re.MULTILINE)
    keys = set(re.findall(r"const \w+: &str = \"(prefect-gcp-cloud-run[^\"]*)\";", source))
    assert len(keys) == 7
    assert {key for key, _ in rows} == keys
    # Lists can be filtered by labels only.
    assert all((kind == "annotation") == ("/" in key) for key, kind in rows)


def test_the_log_lines_of_the_observer_in_the_docs_are_those_of_the_code():
    sources = python_sources()
    (table,) = re.findall(r"\| line \| level \|\n(.*?)\n\n", (ROOT / "docs/observer.md").read_text(), re.DOTALL)
    lines = re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)[1:]
    assert len(lines) > 5
    for line in lines:
        for part in re.split(r": \*[^*]+\*|\*[^*]+\* ?", line):
            assert part in sources, part


def test_the_exit_codes_of_the_sweep_are_in_the_docs():
    (section,) = re.findall(r"\n## By hand: sweep\n(.*?)\n## ", (ROOT / "docs/observer.md").read_text(), re.DOTALL)
    codes = re.findall(r"^\| (\d) \|", section, re.MULTILINE)
    assert codes == ["0", str(_commands.EXIT_NOT_DONE), str(_commands.EXIT_WRONG_USAGE)]
    assert set(re.findall(r"--[a-z][a-z-]*", section)) == {"--pool", "--dry-run", "--project", "--region"}


def test_the_documented_exceptions_are_those_of_the_code():
    documented = re.findall(r"^\| `(CloudRun\w+)` \|", (ROOT / "docs/running.md").read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(kind.__name__ for kind in exceptions.CloudRunError.__subclasses__())


def test_the_documented_kinds_of_errors_are_those_of_the_code():
    (kinds,) = re.findall(r"pub enum ErrorKind \{(.*?)\n\}", (ROOT / "src/api/error_kind.rs").read_text(), re.DOTALL)
    (table,) = re.findall(r"\| `ErrorKind` \|.*?\n\n", (ROOT / "ARCHITECTURE.md").read_text(), re.DOTALL)
    documented = [kind for row in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)[1:] for kind in row.split(", ")]
    assert sorted(documented) == sorted(f"`{kind}`" for kind in re.findall(r"^    (\w+),$", kinds, re.MULTILINE))


def test_the_documented_options_of_the_emulator_are_those_of_the_code():
    text = (ROOT / "docs/emulator.md").read_text()
    rows = re.findall(r"^\| (?:`(--[\w-]+)[^|]*)? ?\| `(\w+)` \|", text, re.MULTILINE)
    options = {option for action in emulator._parser()._actions for option in action.option_strings}
    assert {option for option, _ in rows if option} == options - {"-h", "--help"}
    assert {name for _, name in rows} == inspect.signature(emulator.Emulator).parameters.keys()


def test_the_reference_of_the_site_has_the_public_names_of_the_public_modules():
    for name, file in site.MODULES.items():
        module = importlib.import_module(".".join(["prefect_gcp_cloud_run", *Path(file).with_suffix("").parts]))
        assert importlib.import_module(name) is module
        found = site.public_names(site.PACKAGE / file)
        assert found, file
        assert all(hasattr(module, public) for public in found)
        assert sorted(getattr(module, "__all__", found)) == sorted(found)
        assert all(f"::: {module.__name__}.{public}" in site.reference() for public in found)
