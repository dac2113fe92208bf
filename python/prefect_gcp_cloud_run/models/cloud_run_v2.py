"""The type of a secret reference, at the import path of the upstream package (prefect-gcp)."""

from pydantic import BaseModel


class SecretKeySelector(BaseModel):
    """Selects a version of a secret in Google's Secret Manager.

    Attributes:
        secret: Name of the secret.
        version: Version of the secret: a number, or `latest`.
    """

    secret: str
    version: str
