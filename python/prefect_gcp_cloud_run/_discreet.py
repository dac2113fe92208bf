"""Errors that do not show the input that they are about, which may be a secret."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, PydanticKnownError


def hide_input() -> Any:
    """Makes a validator that hides the input of a model from all details of its validation errors.

    pydantic's own setting `hide_input_in_errors` hides the input only from the text of an error. The error's details,
    and pickles of it, still hold the input.

    Returns:
        A validator, to be assigned to a name in the class body of the model.
    """
    return model_validator(mode="wrap")(_hide)


def parse_json(text: str | bytes, message: str) -> Any:
    """Parses JSON. The exception of the JSON parser is not part of any error, because it holds the text.

    Args:
        text: The JSON text, which may be secret.
        message: Text of the error.

    Returns:
        The parsed value.

    Raises:
        ValueError: The text is not JSON.
    """
    try:
        return json.loads(text)
    except ValueError:
        pass
    # Raised outside the handler, so that the parser's exception does not become its context.
    raise ValueError(message)


def _hide(cls: type[Any], data: Any, handler: ModelWrapValidatorHandler[Any]) -> Any:
    try:
        return handler(data)
    except ValidationError as error:
        lines = [_without_input(line) for line in error.errors(include_url=False)]
    # Raised outside the handler, so that the original error does not become its context.
    raise ValidationError.from_exception_data(cls.__name__, lines, hide_input=True)


def _without_input(line: Any) -> InitErrorDetails:
    context = line.get("ctx", {})
    try:
        PydanticKnownError(line["type"], context)
        kind = line["type"]
    except KeyError:
        # A custom error type of a validator.
        kind = PydanticCustomError(line["type"], line["msg"])
    hidden = InitErrorDetails(type=kind, loc=line["loc"], input="…")
    return InitErrorDetails(**hidden, ctx=context) if context else hidden
