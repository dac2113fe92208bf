"""Rendering of templates, compared with Prefect's own functions."""

from __future__ import annotations

import asyncio
import copy
import datetime
import functools
import os
import random
import uuid
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import ClassVar
from unittest import mock

import pytest
from prefect.utilities.annotations import NotSet
from prefect.utilities.templating import apply_values, find_placeholders
from prefect.workers.base import BaseJobConfiguration

from prefect_gcp.workers.cloud_run import CloudRunWorkerJobConfiguration
from prefect_gcp_cloud_run.workers._templates import render


class Opaque:
    """A value of a type that no template can contain. It has one item."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return f"<{self.name}>"

    __repr__ = __str__

    def __getitem__(self, key):
        if key == "item":
            return self.name
        raise KeyError(key)


LOOP = asyncio.new_event_loop()

ODD_LEAVES = [
    Opaque("opaque"),
    datetime.datetime(2026, 11, 24, tzinfo=datetime.timezone.utc),
    uuid.UUID(int=7),
    PurePosixPath("/tmp/x"),
    b"bytes",
    (1, "two"),
    {3},
    2**70,
    float("nan"),
    float("inf"),
    1e300,
    -0.0,
    NotSet,
]
# Characters that Python and Rust, or versions of Unicode, classify differently; and plain ones.
ODD = "é²½Ⅷ\u0660\u07c0一\u0301\u200d\u1680\u2003\u3000\x85\xa0\x1c\x1f\u180e\ud800\udfff😀\u0378\U0001e030"
SPACES = ["", " ", " ", "  ", "\t\n", "\x1c", "\x85", "\u2003", "\u200b"]
SEGMENTS = [
    "a",
    "b",
    "c",
    "env",
    "FOO",
    "0",
    "1",
    "-1",
    "\u0660",
    "1_0",
    "_1",
    "x-y",
    "é",
    "²",
    "item",
    "",
    "$",
    "9" * 5000,
]
WHOLE_NAMES = ["$RENDERING_SET", "$$RENDERING_SET", "$RENDERING_UNSET", "$", "ctx.flow.name", "]", "[", ".", "-"]
PREFECTS_NAMES = ["prefect.variables.x", "prefect.blocks.secret.x", "prefect.blocks", "prefect"]
SCALARS = [None, True, False, 0, -7, 2**70, 1.5, -0.0, 1e300, float("nan"), ""]
ODD_KEYS = ["a.b", "env.FOO", "{{ a }}", "{{ none }}", 1, None, True, ("t", 1)]


class Generator:
    """Makes templates and values from one random source. That is many times faster than a strategy for each part."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def any_of(self, *makers):
        return self.random.choice(makers)()

    def letters(self, alphabet: str, most: int) -> str:
        return "".join(self.random.choices(alphabet, k=self.random.randint(0, most)))

    def segment(self) -> str:
        return self.random.choice(SEGMENTS)

    def name(self) -> str:
        return self.any_of(
            self.segment,
            self.segment,
            lambda: ".".join(self.segment() for _ in range(self.random.randint(1, 4))),
            lambda: f"{self.segment()}[{self.segment()}]",
            lambda: f"{self.segment()}[{self.segment()}].{self.segment()}]",
            lambda: self.random.choice(WHOLE_NAMES),
            lambda: self.random.choice(PREFECTS_NAMES),
            lambda: self.letters(f"ab.-[]$ {{}}{ODD}", 6),
        )

    def placeholder(self) -> str:
        return "{{" + self.random.choice(SPACES) + self.name() + self.random.choice(SPACES) + "}}"

    def text(self) -> str:
        return self.any_of(
            self.placeholder,
            self.placeholder,
            lambda: self.letters(f"ab {{}}%${ODD}", 4) + self.placeholder() + self.letters(f"ab {{}}{ODD}", 3),
            lambda: "".join(self.any_of(self.placeholder, lambda: self.letters("ab {}", 3)) for _ in range(4)),
            lambda: self.letters(f"ab{ODD}", 6),
        )

    def key(self):
        return self.any_of(self.segment, self.segment, self.text, lambda: self.random.choice(ODD_KEYS))

    def tree(self, leaf, depth: int):
        if depth == 0 or self.random.random() < 0.3:
            return leaf()
        if self.random.random() < 0.05:
            # A deep and narrow tree.
            return functools.reduce(lambda below, _: [below] if depth % 2 else {"a": below}, range(60), leaf())
        size = self.random.randint(0, 3)
        if self.random.random() < 0.5:
            return [self.tree(leaf, depth - 1) for _ in range(size)]
        return {self.key(): self.tree(leaf, depth - 1) for _ in range(size)}

    def template(self):
        leaf = functools.partial(self.any_of, self.text, self.text, lambda: self.random.choice(SCALARS))
        if self.random.random() < 0.03:
            leaf = functools.partial(self.any_of, leaf, lambda: self.random.choice(ODD_LEAVES))
        return self.tree(leaf, 5)

    def values(self):
        leaf = functools.partial(
            self.any_of, self.text, lambda: self.letters("xyz", 3), lambda: self.random.choice(SCALARS + ODD_LEAVES)
        )
        names = [*SEGMENTS, "ctx", "prefect"]
        return {name: self.tree(leaf, 3) for name in self.random.sample(names, self.random.randint(0, 6))}


def outcome(function, *arguments):
    """The result of a renderer in a comparable form, or the class of its exception. Values count by identity."""
    try:
        return frozen(function(*arguments))
    except Exception as error:
        return type(error)


def frozen(value):
    if type(value) is dict:
        return ("dict", [(frozen(key), frozen(item)) for key, item in value.items()])
    if type(value) is list:
        return ("list", [frozen(item) for item in value])
    return (
        (type(value), value) if isinstance(value, str) else (type(value), id(value) if is_odd(value) else repr(value))
    )


def is_odd(value):
    return any(value is leaf for leaf in ODD_LEAVES)


def texts(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def has_one_answer(template, values):
    """Whether Prefect gives a single result.

    Prefect replaces several placeholders of one string in the order of a set, so a value with braces has two possible
    results.
    """
    crowded = any(len(find_placeholders(text)) > 1 for text in texts(template))
    return not crowded or not any(
        "{{" in str(part) or "}}" in str(part) for part in (values, os.environ["RENDERING_SET"])
    )


@pytest.fixture(autouse=True, scope="module")
def _environment():
    with mock.patch.dict(os.environ, {"RENDERING_SET": "from the environment"}):
        os.environ.pop("RENDERING_UNSET", None)
        yield


def test_templates_render_as_with_prefects_apply_values():
    compared: list[object] = []
    seed = 0
    while len(compared) < 22_000:
        seed += 1
        generator = Generator(seed)
        template, values = generator.template(), generator.values()
        if not has_one_answer(template, values):
            continue
        expected = outcome(apply_values, template, values)
        assert outcome(render, template, values) == expected, f"seed {seed}"
        compared.append(expected)
    # Guards the comparison: most of the templates rendered without an error.
    errors = sum(isinstance(result, type) for result in compared)
    assert 50 < errors < len(compared) / 10
    found = "".join(map(repr, compared))
    for part in ["from the environment", "<opaque>", "{{", "prefect.blocks", "datetime", "\\ud800"]:
        assert part in found, part


class Client:
    """A client of Prefect's API that knows one variable and one block."""

    async def read_variable_by_name(self, name):
        return SimpleNamespace(value={"of": "a variable"}) if name == "x" else None

    async def read_block_document_by_name(self, name, block_type_slug):
        return SimpleNamespace(data={"value": f"{block_type_slug}/{name}"})


class Captured:
    """A configuration that only keeps its fields."""

    model_fields: ClassVar[dict] = {}
    _get_base_config_defaults = staticmethod(BaseJobConfiguration._get_base_config_defaults)

    def __init__(self, **fields) -> None:
        self.fields = fields


async def configured(by, template, values):
    """The fields that a configuration class passes to its constructor."""
    made = await by.from_template_and_values.__func__(Captured, template, values, client=Client())
    return frozen(made.fields)


def pool_template(generator):
    """Makes a pool template, and job variables for it."""
    chance = generator.random.random
    names = ["a", "b", "c", "env", "command", "labels", "name"]
    defaults = generator.values()
    properties = {name: {"default": defaults.get(name)} if chance() < 0.6 else {"type": "x"} for name in names}
    configuration = {name: generator.template() for name in names if chance() < 0.6}
    job_variables = generator.values()
    if chance() < 0.5:
        # In practice, `env` is nearly always a mapping.
        configuration["env"] = "{{ env }}" if chance() < 0.5 else {"A": "{{ a }}", "B": "template"}
        properties["env"]["default"] = {"B": "default", "FOO": "{{ b }}"}
        job_variables["env"] = {"B": "variable"} if chance() < 0.5 else {}
    for name in ["env.FOO", "labels.team", "a.b.c", "a.b", "c[0].x"]:
        if chance() < 0.2:
            job_variables[name] = generator.text()
    return {"job_configuration": configuration, "variables": {"properties": properties}}, job_variables


def test_pool_templates_are_configured_as_by_prefects_base_class():
    results: list[object] = []
    seed = 0
    while len(results) < 3_000:
        seed += 1
        template, values = pool_template(Generator(seed))
        if not has_one_answer([template, values], [template, values]):
            continue
        before = frozen([template, values])
        ours = outcome(LOOP.run_until_complete, configured(CloudRunWorkerJobConfiguration, template, values))
        assert frozen([template, values]) == before, f"seed {seed}"
        theirs = outcome(LOOP.run_until_complete, configured(BaseJobConfiguration, template, values))
        # If Prefect raises an exception, so does ours; the class may differ.
        assert ours == theirs or (isinstance(ours, type) and isinstance(theirs, type)), f"seed {seed}"
        results.append(theirs)
    # Guards the comparison: most of the templates were valid.
    answers = [result for result in results if not isinstance(result, type)]
    assert len(answers) > len(results) / 2


def test_a_lone_placeholder_becomes_the_value_itself():
    for value in [*ODD_LEAVES[:-1], [1], {"a": {}}, "text"]:
        rendered = render({"x": ["{{ a.b }}"]}, {"a": {"b": value}})
        assert rendered["x"][0] is value


def test_a_number_in_a_name_finds_keys_as_in_the_installed_prefect():
    values = {"a": {"1": "text", 2: "number", "\u0663": "digit"}}
    template = ["{{ a.1 }}", "{{ a[2] }}", "{{ a.\u0663 }}", "{{ a.02 }}"]
    assert render(template, values) == apply_values(template, values)


def test_rendering_does_not_change_the_template():
    template = {"a": ["{{ x }}", {"b": "y{{ x }}"}], "c": "{{ x }}"}
    before = copy.deepcopy(template)
    rendered = render(template, {})
    assert template == before
    assert rendered == {"a": [{"b": "y"}]}
    assert rendered["a"] is not template["a"]


def nested(levels):
    return functools.reduce(lambda below, _: {"a": below}, range(levels), "{{ x }}")


@pytest.mark.difference("rendering-errors")
def test_a_template_nested_too_deeply_is_an_error():
    render(nested(500), {})
    circle = {}
    circle["again"] = [circle]
    for template in [nested(501), nested(50_000), circle]:
        with pytest.raises(ValueError, match="nested deeper than 500 levels or contains itself"):
            render(template, {})


@pytest.mark.parametrize("odd", [b"x", (1,), {1}, object(), datetime.date(2026, 1, 1)], ids=type)
def test_an_unexpected_type_in_a_template_is_an_error_with_its_path(odd):
    place = r"\(at job_body\.list\[1\]\[\"a/b\"\]\)"
    with pytest.raises(ValueError, match=f"Unexpected template type '{type(odd).__name__}' {place}"):
        render({"job_body": {"list": [1, {"a/b": odd}]}}, {})


class Shrinking:
    """A value whose `__str__` empties the template."""

    def __init__(self, template) -> None:
        self.template = template

    def __str__(self) -> str:
        self.template.clear()
        return "gone"


def test_a_value_that_changes_the_template_in_str_is_harmless():
    template = {"a": "x{{ v }}", "b": "{{ v }}", "c": 1}
    rendered = render(template, {"v": Shrinking(template)})
    assert rendered["a"] == "xgone"
    assert rendered["c"] == 1


class Failing:
    """A value whose methods raise exceptions."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __getitem__(self, key):
        raise RuntimeError("no item")


@pytest.mark.parametrize("text", ["{{ v }}!", "{{ v.a }}"])
def test_an_exception_of_a_value_is_passed_on(text):
    with pytest.raises(RuntimeError, match="no"):
        render([text], {"v": Failing()})


GOOD = {"job_configuration": {}, "variables": {"properties": {}}}


@pytest.mark.difference("rendering-errors")
@pytest.mark.parametrize(
    ("template", "values", "message"),
    [
        ([], {}, "The work pool's template must be a mapping, got list"),
        (None, {}, "The work pool's template must be a mapping, got null"),
        ({"variables": {}}, {}, "The work pool's template at job_configuration must be a mapping, got null"),
        (GOOD | {"job_configuration": "x"}, {}, "at job_configuration must be a mapping, got str"),
        ({"job_configuration": {}}, {}, "at variables must be a mapping, got null"),
        (GOOD | {"variables": {"properties": []}}, {}, "at variables.properties must be a mapping, got list"),
        (
            GOOD | {"variables": {"properties": {"x": 1}}},
            {},
            "at variables.properties.x must be a mapping",
        ),
        (
            {"job_configuration": {"env": {}}, "variables": {"properties": {"env": {"default": ["A"]}}}},
            {},
            "at variables.properties.env.default must be a mapping, got list",
        ),
        (
            GOOD | {"job_configuration": {"env": {}}},
            {"env": "A"},
            "The job variable env must be a mapping",
        ),
        (GOOD, [], "The job variables must be a mapping, got list"),
        (GOOD, {1: 2}, r"The name of a job variable must be a string, got 1 \(int\)"),
        (
            GOOD,
            {"a.b": 1, "a.b.c": 2},
            "Job variable 'a.b.c' conflicts with job variable 'a.b', which is not a mapping",
        ),
        (GOOD | {"job_configuration": {"job_body": {"a": {1}}}}, {}, r"template type 'set' \(at job_body\.a\)"),
    ],
)
def test_a_malformed_pool_template_is_an_error_that_names_the_place(template, values, message):
    with pytest.raises(ValueError, match=message):
        LOOP.run_until_complete(configured(CloudRunWorkerJobConfiguration, template, values))


def test_a_value_that_contains_itself_is_an_error():
    circle = []
    circle.append(circle)
    template = GOOD | {"job_configuration": {"x": "{{ c }}"}}
    with pytest.raises(ValueError, match="nested too deeply or contains itself"):
        LOOP.run_until_complete(configured(CloudRunWorkerJobConfiguration, template, {"c": circle}))


@pytest.mark.difference("one-pass")
def test_values_are_not_rendered_again():
    for names in ["ab", "ba", "abc", "cba"]:
        text = " ".join(f"{{{{ {name} }}}}" for name in names)
        values = {name: f"{{{{ {other} }}}}" for name, other in zip("abc", "bca", strict=True)}
        assert render(text, values) == " ".join(values[name] for name in names)
