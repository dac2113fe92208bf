"""The secret selector, at the import path that existing code uses."""

from pydantic import BaseModel


class SecretKeySelector(BaseModel):
    """A value in Google's Secret Manager.

    Attributes:
        secret: Name of the secret.
        version: Its version: a number or `latest`.
    """

    secret: str
    version: str
