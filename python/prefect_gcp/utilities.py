"""Names and labels that Google accepts."""

from slugify import slugify

from prefect_gcp import _core


def slugify_name(name: str, max_length: int = 30) -> str | None:
    """Turns a name into lower-case letters, digits and dashes.

    Args:
        name: Any text.
        max_length: Most characters of the result.

    Returns:
        The slug, or None when nothing is left of the name.
    """
    return slugify(name, max_length=max_length, regex_pattern=r"[^a-zA-Z0-9-]+") or None


def sanitize_labels_for_gcp(labels: dict[str, str]) -> dict[str, str]:
    """Makes labels valid for Google.

    Lower case, `-` for every character outside `[a-z0-9_-]`, keys from their first letter on, both cut at 63
    characters. A key with nothing left is dropped; of equal keys the last one's value stays.

    Args:
        labels: Prefect's labels.

    Returns:
        New labels; the argument is left as it is.
    """
    return _core.sanitize_labels(labels)


def merge_labels_for_gcp(prefect_labels: dict[str, str], existing_labels: dict[str, str]) -> dict[str, str]:
    """Puts Prefect's labels, made valid, beside those that are there.

    Args:
        prefect_labels: Prefect's labels, valid or not.
        existing_labels: Labels that win, and are neither changed nor dropped.

    Returns:
        New labels: at most 64, unless `existing_labels` alone are more.
    """
    return existing_labels | _core.added_labels(prefect_labels, existing_labels)
