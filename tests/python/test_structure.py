"""The structure script finds what it is there to find, in small made-up trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import check_structure
from tools.check_structure import problems


@pytest.fixture
def tree(tmp_path: Path):
    """Writes files and returns the problems that the script has with them."""
    (tmp_path / "python").mkdir()
    (tmp_path / "src").mkdir()

    def make(files: dict[str, str]) -> list[str]:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return problems(tmp_path)

    return make


SOUND = {
    "src/lib.rs": "//! Head.\npub mod api;\nmod job;\npub use api::Client;\n",
    "src/api/mod.rs": "mod client;\nmod error;\npub use {client::Client, error::{Error, Kind as ErrorKind}};\n",
    "src/api/client.rs": "use super::{Error, ErrorKind};\nuse crate::job::Body;\npub struct Client;\n",
    "src/api/error.rs": "pub struct Error;\npub enum Kind { A }\n",
    "src/job.rs": "pub struct Body;\n",
    "python/p/__init__.py": "from p.worker import Worker\n",
    "python/p/worker.py": "from . import _core\nfrom p.settings import Settings\n\n\nclass Worker: ...\n",
    "python/p/settings.py": "class Settings: ...\n",
    "python/p/_core.pyi": "",
}


def test_a_sound_tree_has_no_problems(tree):
    assert tree(SOUND) == []


@pytest.mark.parametrize(
    "use",
    [
        "use super::client::Client;",
        "use super::Client;",
        "use crate::api::Client as Other;",
        "use crate::{api::{self, Client}, job};",
        "use crate::api::*; struct A(Client);",
        "use crate::api; fn f() -> api::Client { panic!() }",
        "fn f() -> crate::api::Client { panic!() }",
        "fn f() { use super::Client; }",
        "mod inner { use super::super::Client; }",
        "pub use super::Client as Again;",
        'const A: &str = "\\"{"; const B: char = \'"\'; /* /* */ { */ use super::Client; // {',
    ],
)
def test_a_circle_is_found_however_the_name_is_imported(tree, use):
    (problem,) = tree(SOUND | {"src/api/error.rs": f"{use}\npub struct Error;\npub enum Kind {{ A }}\n"})
    assert problem.startswith("circle: 2 files import each other in a circle. Move what both sides need")
    assert "src/api/client.rs:1 uses super::Error of src/api/error.rs" in problem
    assert "src/api/error.rs:1 uses " in problem
    assert " of src/api/client.rs" in problem


@pytest.mark.parametrize(
    "text",
    [
        "// use super::Client;",
        'const A: &str = "use super::Client;";',
        'const A: &str = r#"" use super::Client;"#;',
        "#[cfg(test)]\nmod tests {\n    use super::super::Client;\n}",
        "#[cfg(test)]\nuse super::{Client, ErrorKind};",
        "pub(in crate::api) struct Inner<'a>(&'a str); use std::{fmt, io::Error as IoError};",
        "fn f() -> Option<serde_json::Value> { client::none() }",
    ],
)
def test_what_is_no_import_is_no_edge(tree, text):
    assert tree(SOUND | {"src/api/error.rs": f"{text}\npub struct Error;\npub enum Kind {{ A }}\n"}) == []


def test_what_a_folders_head_defines_is_an_import_of_the_head(tree):
    head = SOUND["src/api/mod.rs"] + "pub struct Own;\n"
    (problem,) = tree(SOUND | {"src/api/mod.rs": head, "src/api/error.rs": "use super::Own;\npub struct Error;\n"})
    assert "src/api/error.rs:1 uses super::Own of src/api/mod.rs" in problem
    assert "src/api/mod.rs:3 uses error::Error of src/api/error.rs" in problem


def test_circles_of_three_and_of_folders_are_found_once(tree):
    files = {
        "src/api/a.rs": "use super::b::B;\npub struct A;\n",
        "src/api/b.rs": "use super::c::C;\npub struct B;\n",
        "src/api/c.rs": "use super::a::A;\npub struct C;\n",
        "src/api/mod.rs": "mod a;\nmod b;\nmod c;\n",
    }
    (problem,) = tree(files)
    assert problem.startswith("circle: 3 files")


def test_two_types_of_one_name_are_found(tree, monkeypatch):
    twice = {
        "src/job.rs": "pub struct Body;\npub(crate) type Error<T> = Option<T>;\n",
        "src/api/client.rs": "pub struct Client;\nimpl Iterator for Client {\n    type Body = u8;\n}\n"
        "#[cfg(test)]\nmod tests {\n    struct Body;\n}\n",
    }
    (problem,) = tree(SOUND | twice)
    assert problem.startswith("name: 2 types are called Error (src/api/error.rs, src/job.rs). Rename all but one")
    monkeypatch.setitem(check_structure.SAME_NAME, "Error", "one is the wire form of the other")
    assert tree({}) == []
    (problem,) = tree({"src/job.rs": SOUND["src/job.rs"]})
    assert problem.startswith("name: Error is the name of one type only")


def test_a_long_module_is_found_and_its_tests_do_not_count(tree):
    lines = "const A: u8 = 1;\n" * 399
    tests = "#[cfg(test)]\nmod tests {\n" + "    fn f() {}\n" * 100 + "}\n"
    assert tree(SOUND | {"src/job.rs": f"pub struct Body;\n{lines}{tests}"}) == []
    (problem,) = tree({"src/job.rs": f"pub struct Body;\n{lines}\n{tests}"})
    assert problem == "length: src/job.rs has 401 lines without its tests; at most 400. Split it by topic"


def test_a_generated_module_may_be_long(tree):
    generated = "//! Tables.\n//!\n//! Generated by `make schema`. Do not edit.\n" + "// one line\n" * 400
    assert tree(SOUND | {"src/job.rs": generated}) == []


def test_a_long_python_module_is_found(tree):
    assert tree(SOUND | {"python/package/a.py": "a = 1\n" * 400}) == []
    (problem,) = tree({"python/package/a.py": "a = 1\n" * 401})
    assert problem == "length: python/package/a.py has 401 lines without its tests; at most 400. Split it by topic"


def test_layers_are_used_downwards_only(tree):
    files = {
        "src/job.rs": "use crate::api::Client;\npub struct Body;\n",
        "src/api/client.rs": "pub struct Client;\n",
        "src/path/mod.rs": "mod below;\n",
        "src/path/below.rs": "fn f() { crate::job::Body; }\n",
        "src/cellar.rs": "",
    }
    assert tree(SOUND | files) == [
        "layer: src/cellar has no place in the order of layers. Add it to LAYERS in tools/check_structure.py",
        "layer: src/job.rs:1 uses crate::api::Client of src/api/client.rs, but job may not use api."
        " Move it down, or pass it in from above",
        "layer: src/path/below.rs:1 uses crate::job::Body of src/job.rs, but path may not use job."
        " Move it down, or pass it in from above",
    ]


def test_the_emulator_uses_little_of_the_api(tree):
    files = {
        "src/emulator.rs": "use crate::api::{Client, types::Job};\n",
        "src/api/mod.rs": SOUND["src/api/mod.rs"] + "pub mod types;\n",
        "src/api/types/mod.rs": "mod job;\npub use job::Job;\n",
        "src/api/types/job.rs": "pub struct Job;\n",
    }
    (problem,) = tree(SOUND | files)
    assert problem.startswith("layer: src/emulator.rs:1 uses crate::api::Client of src/api/client.rs, but emulator may")


@pytest.mark.parametrize(
    "line", ["from p.worker import Worker", "from p import Worker", "from .worker import Worker", "import p.worker"]
)
@pytest.mark.parametrize("indent", ["", "def late():\n    "])
def test_a_circle_of_python_files_is_found(tree, line, indent):
    (problem,) = tree(SOUND | {"python/p/settings.py": f"{indent}{line}\n\n\nclass Settings: ...\n"})
    assert problem.startswith("circle: 2 files")
    assert " of python/p/worker.py" in problem
    assert "python/p/worker.py:2 uses p.settings.Settings of python/p/settings.py" in problem


def test_the_script_says_what_it_found_and_fails(tree, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["check_structure.py", str(tmp_path)])
    tree(SOUND)
    assert check_structure.main() == 0
    tree({"src/job.rs": "pub struct Client;\n"})
    assert check_structure.main() == 1
    assert capsys.readouterr().out.endswith("check_structure: 1 problems (name 1)\n")
