"""What the client sends is what the API's discovery document describes."""

import json
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.python.run_schema import validate_call

# A Rust test shows that these are the client's calls, to the letter.
CALLS = json.loads((Path(__file__).parents[1] / "data/calls.json").read_text())


@pytest.mark.parametrize(("method", "target", "body"), CALLS)
def test_a_call_is_one_that_googles_schema_knows(method, target, body):
    url = urlsplit(target)
    assert validate_call(method, url.path, parse_qsl(url.query), body).startswith("run.namespaces.")
