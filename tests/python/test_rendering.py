"""The rendering of templates, held against Prefect's own functions."""

from __future__ import annotations

import asyncio
import copy
import datetime
import os
import uuid
from pathlib import PurePosixPath
from types import SimpleNamespace
from unittest import mock

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from prefect.utilities.annotations import NotSet
from prefect.utilities.templating import PLACEHOLDER_CAPTURE_REGEX, apply_values, find_placeholders
from prefect.workers.base import BaseJobConfiguration
from pydantic import ConfigDict

from prefect_gcp import _core
from prefect_gcp.workers.cloud_run import CloudRunWorkerJobConfiguration


class Opaque:
    """A value that is nothing but itself, with items of its own."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return f"<{self.name}>"

    __repr__ = __str__

    def __getitem__(self, key):
        if key == "item":
            return self.name
        raise KeyError(key)


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
# Characters whose class differs between Python and Rust, or between versions of Unicode, beside plain ones.
ODD = "é²½Ⅷ٠߀一\u0301\u200d\u1680\u2003\u3000\x85\xa0\x1c\x1f\u180e\ud800\udfff😀\u0378\U0001e030"
SPACE = st.sampled_from(["", " ", "  ", "\t\n", "\x1c", "\x85", "\u2003", "\u200b"])
SEGMENT = st.sampled_from(["a", "b", "c", "env", "FOO", "0", "1", "-1", "٠", "1_0", "_1", "x-y", "é", "²", "item", "", "$"])
NAME = st.one_of(
    SEGMENT,
    st.lists(SEGMENT, min_size=1, max_size=4).map(".".join),
    st.builds("{}[{}]".format, SEGMENT, SEGMENT),
    st.builds("{}[{}].{}]".format, SEGMENT, SEGMENT, SEGMENT),
    st.sampled_from(["$HYPOTHESIS_SET", "$$HYPOTHESIS_SET", "$HYPOTHESIS_UNSET", "$", "ctx.flow.name", "]", "[", ".", "-"]),
    st.sampled_from(["prefect.variables.x", "prefect.blocks.secret.x", "prefect.blocks", "prefect"]),
    st.text(alphabet=f"ab.-[]$ {{}}{ODD}", max_size=6),
)
PLACEHOLDER = st.builds("{{{{{}{}{}}}}}".format, SPACE, NAME, SPACE)
TEXT = st.one_of(
    PLACEHOLDER,
    st.lists(st.one_of(PLACEHOLDER, st.text(alphabet=f"ab {{}}%${ODD}", max_size=4)), max_size=4).map("".join),
    st.text(max_size=6),
)
SCALAR = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT)
KEY = st.one_of(SEGMENT, PLACEHOLDER, st.text(max_size=4), st.sampled_from(["a.b", "env.FOO", 1, None]))


def trees(leaf, most):
    return st.recursive(
        leaf,
        lambda below: st.one_of(st.lists(below, max_size=4), st.dictionaries(KEY, below, max_size=4)),
        max_leaves=most,
    )


TEMPLATE = trees(SCALAR, 12)
VALUES = st.dictionaries(
    st.one_of(SEGMENT, st.sampled_from(["ctx", "prefect"])), trees(st.one_of(SCALAR, st.sampled_from(ODD_LEAVES)), 8)
)


def outcome(render, *arguments):
    """What a renderer makes of its arguments, so that it can be compared: what is not rebuilt counts by identity."""
    try:
        return frozen(render(*arguments))
    except Exception as error:  # noqa: BLE001 - any exception is an outcome
        return type(error)


def frozen(value):
    if type(value) is dict:
        return ("dict", [(frozen(key), frozen(item)) for key, item in value.items()])
    if type(value) is list:
        return ("list", [frozen(item) for item in value])
    return (type(value), value) if isinstance(value, str) else (type(value), id(value) if is_odd(value) else repr(value))


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
    """Prefect's order of several placeholders in one text is a set's: a value with braces gives either result."""
    crowded = any(len(find_placeholders(text)) > 1 for text in texts(template))
    return not crowded or not any("{{" in str(part) or "}}" in str(part) for part in (values, os.environ["HYPOTHESIS_SET"]))


@pytest.fixture(autouse=True, scope="module")
def _environment():
    with mock.patch.dict(os.environ, {"HYPOTHESIS_SET": "from the environment"}):
        os.environ.pop("HYPOTHESIS_UNSET", None)
        yield


@settings(max_examples=20_000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(TEMPLATE, VALUES)
def test_templates_render_as_with_prefects_own_function(template, values):
    assume(has_one_answer(template, values))
    expected = outcome(apply_values, template, values)
    assert outcome(_core.render_template, template, values, NotSet) == expected
