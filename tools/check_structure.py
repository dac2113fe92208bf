"""Checks the structure of the sources: no circles of files, no two types of one name, no long modules, layers in order.

    python tools/check_structure.py [ROOT]

Rules, for Rust in `src/` and, where it says so, for Python in `python/`:

- Files do not import each other in a circle (Rust and Python). An edge is an import, or a qualified path such as
  `crate::api::ApiError` or `api::ApiError`, to the file that *defines* the name: a re-export is followed to the
  definition, and a `mod.rs` counts only for what it defines itself.
- No two structs, enums, unions, traits or type aliases have the same name, unless `SAME_NAME` says why.
- A module has at most `MAX_LINES` lines, its test module not counted (Rust and Python).
- A top-level module uses only those that come later in `LAYERS`, and only what `NARROW` allows.

Code under `#[cfg(test)]` is exempt from all rules. The script reads text and knows no types: what a macro generates and
what a method call reaches does not count.

Why not cargo-modules: it would be compiled from source in every clean build (minutes, rust-analyzer included), and it
knows modules but neither `mod.rs` files apart from their children nor the other rules.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

MAX_LINES = 400
# Each may use only what comes after it.
LAYERS = ["python", "emulator", "lifecycle", "api", "job", "template", "schema", "limits", "path", "secret"]
# (user, used): the only files of `used` that `user` may use.
NARROW = {("emulator", "api"): ["api/types/", "api/method.rs"]}
# Names that several types may have, and why.
SAME_NAME: dict[str, str] = {}

Module = tuple[str, ...]

NAME = r"[A-Za-z_]\w*"
VISIBILITY = r"(?:pub\s*(?:\([^)]*\)\s*)?)?"
ITEM = re.compile(
    rf"(?<![\w$]){VISIBILITY}(?:(?:unsafe|async|default|const(?=\s+(?:unsafe|async|extern|fn)\b)|extern(?:\s*\"\s*\")?)\s+)*"
    rf"(?P<kind>struct|enum|union|trait|type|fn|const|static|mod|macro_rules!)\s+(?:mut\s+)?(?P<name>{NAME})"
)
USE = re.compile(rf"(?<![\w$]){VISIBILITY}use\s+([^;]+);")
PATH = re.compile(rf"(?<![\w:$'.]){NAME}(?:\s*::\s*{NAME})+")
TYPES = ("struct", "enum", "union", "trait", "type")
# A comment, a string or a character: what is in it is not code. A lifetime (`'a`) is none of these.
NO_CODE = re.compile(
    r"""//[^\n]*|/\*|\b(?:br|cr|r)(?P<hashes>\#*)"|(?:\bb|\bc)?"(?:[^"\\]|\\.)*"|(?:\bb)?'(?:[^'\\\n]|\\[^\n][^'\n]*)'""",
    re.DOTALL,
)


def blank(text: str) -> str:
    """The text as spaces, its lines kept."""
    return re.sub(r"[^\n]", " ", text)


def without_comments(source: str) -> str:
    """The source with comments and the contents of strings made blank, so that only code is left."""
    out, at = [], 0
    while match := NO_CODE.search(source, at):
        out.append(source[at : match.start()])
        end = match.end()
        if match[0] == "/*":
            depth = 1
            while depth and (mark := re.compile(r"/\*|\*/").search(source, end)):
                depth += 1 if mark[0] == "/*" else -1
                end = mark.end()
            end = len(source) if depth else end
        elif match["hashes"] is not None:
            closing = source.find('"' + match["hashes"], end)
            end = len(source) if closing < 0 else closing + 1 + len(match["hashes"])
        # Quotes stay, so that what was a string is not taken for something else.
        text = source[match.start() : end]
        out.append(blank(text) if text.startswith("/") else f'"{blank(text[1:-1])}"')
        at = end
    return "".join([*out, source[at:]])


def closing(code: str, opening: int) -> int:
    """Where the bracket at this place is closed."""
    pairs = {"{": "}", "(": ")", "[": "]"}
    depth, up, down = 0, code[opening], pairs[code[opening]]
    for at in range(opening, len(code)):
        depth += (code[at] == up) - (code[at] == down)
        if depth == 0:
            return at
    return len(code) - 1


def test_parts(code: str) -> Iterator[tuple[int, int]]:
    """Where items under `#[cfg(test)]` begin and end."""
    end = 0
    for match in re.finditer(r"#!?\[\s*cfg\s*\(\s*(?:all\s*\(\s*)?test\b[^\]]*\]", code):
        if match.start() < end:
            continue
        if match[0].startswith("#!"):
            end = len(code)
        else:
            mark = re.compile(r"[;{]").search(code, match.end())
            end = len(code) if not mark else mark.end() if mark[0] == ";" else closing(code, mark.start()) + 1
            # `use a::{b, c};` ends with the semicolon after its braces.
            if re.match(rf"\s*(?:#\[[^\]]*\]\s*)*{VISIBILITY}use\b", code[match.end() :]):
                end = code.find(";", match.end()) + 1
        yield match.start(), end


def use_tree(text: str, before: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The names that a use tree brings in, each with its path; `*` for all names of a module."""
    text = text.strip().removeprefix("::").strip()
    if "{" in text:
        head, _, rest = text.partition("{")
        path = (*before, *(part.strip() for part in head.split("::") if part.strip()))
        depth, start, inside = 0, 0, rest[: rest.rindex("}")]
        for at, letter in enumerate(inside + ","):
            depth += (letter == "{") - (letter == "}")
            if letter == "," and depth == 0:
                if inside[start:at].strip():
                    yield from use_tree(inside[start:at], path)
                start = at + 1
        return
    text, *alias = re.split(r"\s+as\s+", text)
    path = (*before, *(part.strip() for part in text.split("::") if part.strip()))
    if len(path) > 1 and path[-1] == "self":
        path = path[:-1]
    yield (alias[0].strip() if alias else path[-1]), path


@dataclass
class Edge:
    """A file uses a name of another."""

    source: str
    target: str
    name: str
    line: int


@dataclass
class Scope:
    """A Rust module: what it defines and brings in."""

    file: str
    defined: set[str] = field(default_factory=set)
    imported: dict[str, tuple[str, ...]] = field(default_factory=dict)
    globs: list[tuple[str, ...]] = field(default_factory=list)


@dataclass
class Paths:
    """A path that stands in a file, and the module in which it does."""

    file: str
    module: Module
    path: tuple[str, ...]
    line: int


class Rust:
    """The modules of a crate, from its files."""

    def __init__(self, root: Path) -> None:
        self.scopes: dict[Module, Scope] = {}
        self.paths: list[Paths] = []
        self.types: dict[str, list[str]] = {}
        self.lengths: dict[str, int] = {}
        for path in sorted(root.rglob("*.rs")):
            self._read(path.relative_to(root).as_posix(), path.read_text())

    def _read(self, file: str, source: str) -> None:
        code = without_comments(source)
        lines = len(source.splitlines())
        for start, end in list(test_parts(code)):
            if re.search(r"\bmod\b[^;]*$", code[start:end].partition("{")[0]):
                lines -= code.count("\n", start, end) + 1
            code = code[:start] + blank(code[start:end]) + code[end:]
        self.lengths[file] = lines
        parts = file.removesuffix(".rs").split("/")
        if parts[-1] in ("mod", "lib", "main"):
            parts.pop()
        self._module(file, tuple(parts), code, 0, len(code))

    def _module(self, file: str, module: Module, code: str, start: int, end: int) -> None:
        """Reads a module that is a file, or a part of one."""
        scope = self.scopes.setdefault(module, Scope(file))
        at = start
        rest = []
        while at < end:
            brace = code.find("{", at, end)
            match = ITEM.search(code, at, end)
            if use := USE.search(code, at, end):
                begins = use.start()
                if (brace < 0 or begins < brace) and (not match or begins < match.start()):
                    rest.append(code[at:begins])
                    self._use(file, module, scope, use[1], code.count("\n", 0, begins) + 1)
                    rest.append(blank(use[0]))
                    at = use.end()
                    continue
            if match and (brace < 0 or match.start() < brace):
                kind, name = match["kind"], match["name"]
                scope.defined.add(name)
                if kind in TYPES:
                    self.types.setdefault(name, []).append(file)
                after = re.compile(r"\s*\{").match(code, match.end())
                rest.append(code[at : match.end()])
                at = match.end()
                if kind == "mod":
                    scope.defined.discard(name)
                    if after:
                        closed = closing(code, after.end() - 1)
                        self._module(file, (*module, name), code, after.end(), closed)
                        rest.append(blank(code[at : closed + 1]))
                        at = closed + 1
                continue
            if brace < 0:
                break
            # A body: what it defines is its own; what it uses, its file uses.
            closed = closing(code, brace)
            rest.append(code[at:brace])
            body = code[brace : closed + 1]
            for use in USE.finditer(body):
                self._use(file, module, scope, use[1], code.count("\n", 0, brace + use.start()) + 1)
            rest.append(USE.sub(lambda use: blank(use[0]), body))
            at = closed + 1
        rest.append(code[at:end])
        text = re.sub(r"\bpub\s*\([^)]*\)", lambda found: blank(found[0]), "".join(rest))
        first = code.count("\n", 0, start) + 1
        for match in PATH.finditer(text):
            path = tuple(part.strip() for part in match[0].split("::"))
            self.paths.append(Paths(file, module, path, first + text.count("\n", 0, match.start())))

    def _use(self, file: str, module: Module, scope: Scope, tree: str, line: int) -> None:
        for name, path in use_tree(tree):
            if name == "*":
                scope.globs.append(path[:-1])
                self.paths.append(Paths(file, module, path, line))
            else:
                if name != "_":
                    scope.imported[name] = path
                self.paths.append(Paths(file, module, path, line))

    def _look_up(self, module: Module, name: str, seen: frozenset[tuple[Module, str]]) -> Module | str | None:
        """What a name is in a module: a module, or something that a file defines."""
        if (module, name) in seen:
            return None
        seen |= {(module, name)}
        scope = self.scopes[module]
        if (*module, name) in self.scopes:
            return (*module, name)
        if name in scope.defined:
            return scope.file
        if name in scope.imported:
            return self._resolve(module, scope.imported[name], seen)
        for path in scope.globs:
            target = self._resolve(module, path, seen)
            if isinstance(target, tuple) and (found := self._look_up(target, name, seen)) is not None:
                return found
        return None

    def _resolve(
        self, module: Module, path: tuple[str, ...], seen: frozenset[tuple[Module, str]] = frozenset()
    ) -> Module | str | None:
        """What a path in a module leads to: a module, or the file that defines it. None for other crates."""
        at: Module = module
        for index, name in enumerate(path):
            if name == "crate":
                at = ()
            elif name == "super":
                at = at[:-1]
            elif name != "self":
                found = self._look_up(at, name, seen)
                if found is None:
                    return None if index == 0 else self.scopes[at].file
                if isinstance(found, str):
                    return found
                at = found
        return at

    def _each(self, use: Paths) -> Iterator[Paths]:
        """The path; for all names of a module, a path to each of them."""
        if use.path[-1] != "*":
            yield use
        elif isinstance(module := self._resolve(use.module, use.path[:-1]), tuple):
            for name in [*self.scopes[module].defined, *self.scopes[module].imported]:
                yield Paths(use.file, use.module, (*use.path[:-1], name), use.line)

    def edges(self) -> Iterator[Edge]:
        """What uses what, each once."""
        seen = set()
        for use in (one for path in self.paths for one in self._each(path)):
            target = self._resolve(use.module, use.path)
            if isinstance(target, tuple):
                file = self.scopes[target].file
                # A folder's head is only used for what it defines.
                target = None if file.endswith(("mod.rs", "lib.rs")) else file
            if target and target != use.file and (use.file, target) not in seen:
                seen.add((use.file, target))
                yield Edge(use.file, target, "::".join(use.path), use.line)


class Python:
    """The modules of Python packages, from their files."""

    def __init__(self, root: Path) -> None:
        self.files: dict[str, str] = {}
        self.imported: dict[str, dict[str, tuple[str, str, int]]] = {}
        for path in sorted(root.rglob("*.py")):
            file = path.relative_to(root).as_posix()
            name = file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
            self.files[name] = file
        self.lengths: dict[str, int] = {}
        for name, file in self.files.items():
            source = (root / file).read_text()
            self.lengths[file] = len(source.splitlines())
            self.imported[name] = dict(self._imports(name, file, ast.parse(source)))
        # An extension module, of which only the stub is here.
        for path in root.rglob("*.pyi"):
            file = path.relative_to(root).as_posix()
            name = file.removesuffix(".pyi").replace("/", ".")
            if name not in self.files:
                self.files[name], self.imported[name] = file, {}

    def _imports(self, module: str, file: str, tree: ast.Module) -> Iterator[tuple[str, tuple[str, str, int]]]:
        """Names that a module brings in, wherever in it, each with its module, its name there and a line."""
        package = module if file.endswith("__init__.py") else module.rpartition(".")[0]
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield f"{alias.asname or alias.name} {node.lineno}", (alias.name, "", node.lineno)
            elif isinstance(node, ast.ImportFrom):
                above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
                source = ".".join([*above, *([node.module] if node.module else [])])
                for alias in node.names:
                    yield alias.asname or alias.name, (source, alias.name, node.lineno)

    def _resolve(self, module: str, name: str, seen: frozenset[tuple[str, str]] = frozenset()) -> str | None:
        """The module that defines a name of a module."""
        if f"{module}.{name}" in self.files:
            return f"{module}.{name}"
        if module not in self.files or (module, name) in seen:
            return None
        if name in self.imported[module]:
            source, there, _ = self.imported[module][name]
            if found := self._resolve(source, there, seen | {(module, name)}):
                return found
        return module

    def edges(self) -> Iterator[Edge]:
        """What imports what, each once."""
        seen = set()
        for module, names in self.imported.items():
            for source, name, line in names.values():
                target = self._resolve(source, name) if name else source if source in self.files else None
                if target and target != module and (module, target) not in seen:
                    seen.add((module, target))
                    yield Edge(self.files[module], self.files[target], f"{source}.{name}".rstrip("."), line)


def circles(edges: Iterable[Edge]) -> Iterator[list[Edge]]:
    """The edges inside each set of files that reach each other."""
    edges = list(edges)
    nexts: dict[str, list[str]] = {}
    for edge in edges:
        nexts.setdefault(edge.source, []).append(edge.target)
    reached = {file: _reach(nexts, file) for file in nexts}
    done: set[str] = set()
    for file in sorted(nexts):
        ring = {other for other in reached[file] if file in reached.get(other, ())}
        if ring and file not in done:
            done |= ring
            yield sorted(
                (edge for edge in edges if {edge.source, edge.target} <= ring),
                key=lambda edge: (edge.source, edge.target),
            )


def _reach(nexts: dict[str, list[str]], file: str) -> set[str]:
    found: set[str] = set()
    queue = list(nexts[file])
    while queue:
        if (one := queue.pop()) not in found:
            found.add(one)
            queue += nexts.get(one, [])
    return found


def circle_problems(folder: str, edges: Iterable[Edge]) -> Iterator[str]:
    """Circles in words."""
    for ring in circles(edges):
        files = sorted({edge.source for edge in ring})
        lines = [f"    {folder}/{edge.source}:{edge.line} uses {edge.name} of {folder}/{edge.target}" for edge in ring]
        yield "\n".join(
            [
                f"circle: {len(files)} files import each other in a circle. Move what both sides need to a file that"
                " imports neither:",
                *lines,
            ]
        )


def layer_problems(edges: Iterable[Edge], files: Iterable[str]) -> Iterator[str]:
    """Uses against the order of the layers, in words."""
    tops = {file.removesuffix(".rs").split("/")[0] for file in files} - {"lib", "main"}
    for top in sorted(tops - set(LAYERS)):
        yield f"layer: src/{top} has no place in the order of layers. Add it to LAYERS in tools/check_structure.py"
    for edge in edges:
        source, target = (file.removesuffix(".rs").split("/")[0] for file in (edge.source, edge.target))
        if source == target or source not in LAYERS or target not in LAYERS:
            continue
        where = f"src/{edge.source}:{edge.line} uses {edge.name} of src/{edge.target}"
        if LAYERS.index(source) > LAYERS.index(target):
            yield f"layer: {where}, but {source} may not use {target}. Move it down, or pass it in from above"
        elif (allowed := NARROW.get((source, target))) and not edge.target.startswith(tuple(allowed)):
            yield f"layer: {where}, but {source} may use only {' and '.join(allowed)} of {target}"


def type_problems(types: dict[str, list[str]]) -> Iterator[str]:
    """Types of one name, in words."""
    for name, files in sorted(types.items()):
        if len(files) > 1 and name not in SAME_NAME:
            places = ", ".join(f"src/{file}" for file in files)
            yield (
                f"name: {len(files)} types are called {name} ({places}). Rename all but one, or add the name with a"
                " reason to SAME_NAME in tools/check_structure.py"
            )
    for name in SAME_NAME:
        if len(types.get(name, [])) < 2:
            yield f"name: {name} is the name of one type only. Remove it from SAME_NAME in tools/check_structure.py"


def length_problems(folder: str, lengths: dict[str, int]) -> Iterator[str]:
    """Modules that are too long, in words."""
    for file, lines in sorted(lengths.items()):
        if lines > MAX_LINES:
            yield f"length: {folder}/{file} has {lines} lines without its tests; at most {MAX_LINES}. Split it by topic"


def problems(root: Path) -> list[str]:
    """All problems of the tree, in words."""
    rust, python = Rust(root / "src"), Python(root / "python")
    edges = list(rust.edges())
    return [
        *circle_problems("src", edges),
        *layer_problems(edges, rust.lengths),
        *type_problems(rust.types),
        *length_problems("src", rust.lengths),
        *circle_problems("python", python.edges()),
        *length_problems("python", python.lengths),
    ]


def main() -> int:
    """Prints the problems and returns the exit status."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    found = problems(root)
    for problem in found:
        sys.stdout.write(f"{problem}\n")
    if found:
        kinds = [problem.partition(":")[0] for problem in found]
        counts = ", ".join(f"{kind} {kinds.count(kind)}" for kind in dict.fromkeys(kinds))
        sys.stdout.write(f"check_structure: {len(found)} problems ({counts})\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
