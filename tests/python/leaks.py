"""Unmistakable secrets, and a watch that collects all output of a test and searches it for them."""

from __future__ import annotations

import base64
import copy
import html
import json
import logging
import pickle
import re
import traceback
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import ValidationError

API_KEY = "pnu_hush-api-key-of-prefect"
AUTH_STRING = "hush-user:hush-password-of-the-server"
PASSWORD = "hush-password-of-the-database"
# JSON, HTML and single-line excerpts each write this one differently.
ODD_PASSWORD = 'hush "quoted" <angled> & back\\slashed\nsecond-line-of-a-secret'
ENDPOINT_PASSWORD = "hush-password-of-the-endpoint"
BROKEN_KEY = "hush-private-key-that-is-broken"
CLIENT_SECRET = "hush-client-secret"
REFRESH_TOKEN = "hush-refresh-token"
TOKEN = "hush-access-token"

# Secrets that job variables put into a container's environment in plain text.
ENV = {"DB_PASSWORD": PASSWORD, "ODD_PASSWORD": ODD_PASSWORD}

MARKS = [
    API_KEY,
    AUTH_STRING,
    base64.b64encode(AUTH_STRING.encode()).decode(),
    PASSWORD,
    ODD_PASSWORD,
    ENDPOINT_PASSWORD,
    BROKEN_KEY,
    CLIENT_SECRET,
    REFRESH_TOKEN,
    TOKEN,
]
# A part of a secret with at least this many characters counts as a leak.
PART = 10


def parts(secret: str) -> set[str]:
    """All parts of a secret that must not appear, without characters that some formats escape."""
    plain = [piece for piece in re.split(r"[^\w:+/=. -]", secret) if len(piece) >= PART]
    return {piece[at : at + PART] for piece in plain for at in range(len(piece) - PART + 1)}


class Watch:
    """Collects texts and objects, and reports which of them show a secret."""

    def __init__(self, capture: Any) -> None:
        self._capture = capture
        self._secrets = list(MARKS)
        self._collected: dict[str, str] = {}

    def guard(self, secret: str) -> None:
        """Adds a secret. It also counts for what was collected before."""
        self._secrets.append(secret)

    def hear(self, where: str, text: object) -> None:
        """Collects a text."""
        self._collected.setdefault(str(text), where)

    def see(self, where: str, thing: object) -> None:
        """Collects the string representations of an object."""
        for show in (str, repr, ascii):
            self.hear(f"{show.__name__} of {where}", show(thing))

    def catch(self, where: str, error: BaseException) -> None:
        """Collects everything that an exception shows: also its causes, pickles and copies."""
        for one in _chain(error):
            for what, text in _texts_of(one):
                self.hear(f"{what} of {where}", text)

    def record(self, record: logging.LogRecord) -> None:
        """Collects a log record with all its attributes."""
        where = f"log line of {record.name}"
        self.hear(where, record.getMessage())
        self.hear(where, vars(record))
        if record.exc_info and record.exc_info[1]:
            self.catch(where, record.exc_info[1])

    def check(self) -> None:
        """Checks that nothing collected shows a secret.

        Raises:
            AssertionError: Something does. The text names each place.
        """
        output = self._capture.readouterr()
        self.hear("standard output", output.out)
        self.hear("standard error", output.err)
        assert len(self._collected) > 2, "nothing was collected"
        secrets = {part for secret in self._secrets for part in parts(secret)}
        # Copies the items: threads that are still running may add more.
        collected = list(self._collected.items())
        found = [f"{where}: {place!r}" for text, where in collected if (place := _find(secrets, text))]
        assert not found, "\n".join(found)


def _find(secrets: set[str], text: str) -> str:
    """The surroundings of a secret in the text, also if it is escaped or spelled as numbers; empty if there is none."""
    numbers = re.findall(r"\d+(?:, ?\d+){9,}", text)
    spelled = ["".join(chr(int(n) % 0x110000) for n in re.findall(r"\d+", run)) for run in numbers]
    for version in {text, html.unescape(text), *spelled}:
        for at in range(len(version) - PART + 1):
            if version[at : at + PART] in secrets:
                return version[max(0, at - 100) : at + 100]
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, and all exceptions that it refers to."""
    queue: list[BaseException | None] = [error]
    seen: set[int] = set()
    while queue:
        one = queue.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        queue += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
        if isinstance(one, ValidationError):
            queue += [line["ctx"]["error"] for line in one.errors() if "error" in line.get("ctx", {})]


def _texts_of(error: BaseException) -> Iterable[tuple[str, object]]:
    yield "text", str(error)
    yield "repr", repr(error)
    yield "arguments", error.args
    yield "attributes", getattr(error, "__dict__", {})
    yield "traceback", "".join(traceback.format_exception(error))
    yield "traceback's exception", "".join(traceback.TracebackException.from_exception(error).format())
    try:
        yield "pickle", pickle.dumps(error).decode("latin-1")
        yield "copy", repr(copy.copy(error)) + repr(vars(copy.copy(error)))
    except (TypeError, AttributeError, pickle.PicklingError):
        # Some exceptions of other packages cannot be pickled.
        pass
    if isinstance(error, ValidationError):
        yield "details", error.errors()
        yield "details as JSON", json.dumps(error.errors(), default=repr)
