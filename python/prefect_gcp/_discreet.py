"""Errors of pydantic's that do not hold what was refused."""

from __future__ import annotations

from typing import Any

from pydantic import ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, PydanticKnownError


def hide_input() -> Any:
    """A validator for a model's class body.

    `hide_input_in_errors` keeps refused values out of an error's text only: its details, and pickles of it, hold them.
    """
    return model_validator(mode="wrap")(_hide)


def _hide(cls: type[Any], data: Any, handler: ModelWrapValidatorHandler[Any]) -> Any:
    try:
        return handler(data)
    except ValidationError as error:
        lines = [_discreet(line) for line in error.errors(include_url=False)]
    # Not while the other is being handled, which would be its context.
    raise ValidationError.from_exception_data(cls.__name__, lines, hide_input=True)


def _discreet(line: Any) -> InitErrorDetails:
    context = line.get("ctx", {})
    try:
        PydanticKnownError(line["type"], context)
        kind = line["type"]
    except KeyError:
        # Somebody's own.
        kind = PydanticCustomError(line["type"], line["msg"])
    hidden = InitErrorDetails(type=kind, loc=line["loc"], input="…")
    return InitErrorDetails(**hidden, ctx=context) if context else hidden
