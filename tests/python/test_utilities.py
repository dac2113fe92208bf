"""Names and labels that Google Cloud accepts."""

import pytest

from prefect_gcp import utilities
from prefect_gcp.utilities import merge_labels_for_gcp, sanitize_labels_for_gcp, slugify_name


@pytest.mark.parametrize(
    ("name", "slug"),
    [("My Flow_Run!", "my-flow-run"), ("Ähre", "ahre"), ("...", None), ("", None), ("x" * 40, "x" * 30)],
)
def test_slugs(name, slug):
    assert slugify_name(name) == slug


def test_a_slug_can_be_shorter():
    assert slugify_name("abcdef", max_length=3) == "abc"


def test_labels_become_valid_and_keep_their_order():
    labels = {"prefect.io/flow-run-name": "Nice Run", "0": "x", "B": "É"}
    assert list(sanitize_labels_for_gcp(labels).items()) == [("prefect-io-flow-run-name", "nice-run"), ("b", "-")]
    assert labels["B"] == "É"


def test_existing_labels_win():
    merged = merge_labels_for_gcp({"team": "prefect", "a": "b"}, {"team": "MINE"})
    assert merged == {"team": "MINE", "a": "b"}


def test_labels_fill_up_to_64():
    existing = {f"own{n}": "" for n in range(60)}
    merged = merge_labels_for_gcp({f"p{n}": "" for n in range(10)}, existing)
    assert len(merged) == 64
    assert list(merged)[60:] == ["p0", "p1", "p2", "p3"]


@pytest.mark.difference("gone-names")
@pytest.mark.parametrize("name", ["Job", "Execution"])
def test_names_that_need_googles_client_are_gone(name):
    assert not hasattr(utilities, name)
