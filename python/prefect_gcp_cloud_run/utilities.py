"""Names and labels that Google Cloud accepts."""

from slugify import slugify

from prefect_gcp_cloud_run import _core


def slugify_name(name: str, max_length: int = 30) -> str | None:
    """Turns a name into lower-case letters, digits and dashes.

    Args:
        name: Any text.
        max_length: Maximum length of the result, in characters.

    Returns:
        The slug, or None if the name has no letter or digit.
    """
    return slugify(name, max_length=max_length, regex_pattern=r"[^a-zA-Z0-9-]+") or None


def sanitize_labels_for_gcp(labels: dict[str, str]) -> dict[str, str]:
    """Makes labels valid for Google Cloud.

    Converts keys and values to lower case, replaces every character outside `[a-z0-9_-]` by `-`, removes what stands
    before the first letter of a key, and cuts both to 63 characters. Drops labels whose keys become empty. If keys
    become equal, the last value wins.

    Args:
        labels: Prefect's labels.

    Returns:
        New labels. `labels` is not changed.
    """
    return _core.sanitize_labels(labels)


def merge_labels_for_gcp(prefect_labels: dict[str, str], existing_labels: dict[str, str]) -> dict[str, str]:
    """Adds Prefect's labels, made valid as by `sanitize_labels_for_gcp`, to existing ones.

    Args:
        prefect_labels: Prefect's labels, valid or not.
        existing_labels: Labels that are kept as they are. They win over Prefect's labels of the same key.

    Returns:
        New labels, at most 64 unless `existing_labels` has more. The last of Prefect's labels are left out first.
    """
    return existing_labels | _core.added_labels(prefect_labels, existing_labels)
