"""What the command `doctor` prints: sections of lines, and under each problem what mends it."""

from __future__ import annotations

import re
import sys
import unicodedata

from pydantic import ValidationError

from prefect_gcp_cloud_run._mistakes import in_words, mistakes_of

# Longest text from elsewhere that a line repeats, in characters.
_MAX_TEXT = 600
_USER = re.compile(r"(?<=://)[^\s/]*@")


class Findings:
    """Prints lines as they are found, and counts the problems.

    Attributes:
        problems: How many problems were printed.
        is_empty: Whether the current section has no lines yet.
    """

    def __init__(self) -> None:
        """Makes an instance without findings."""
        self.problems = 0
        self.is_empty = True
        self._has_begun = False

    def section(self, title: str) -> None:
        """Begins a section."""
        self._write(f"\n{title}" if self._has_begun else title)
        self._has_begun = self.is_empty = True

    def fine(self, text: str) -> None:
        """Prints what is as it should be."""
        self._line("ok", text)

    def note(self, text: str) -> None:
        """Prints what is neither good nor bad, or could not be checked."""
        self._line("-", text)

    def problem(self, text: str, mend: str) -> None:
        """Prints a problem.

        Args:
            text: What is wrong.
            mend: The command that mends it, or what else to do.
        """
        self.problems += 1
        self._line("PROBLEM", text)
        self._write(f"           to mend: {_one_line(mend)}")

    def end(self) -> None:
        """Prints how many problems there are."""
        count = self.problems
        self._write("\nNo problems." if not count else f"\n{count} problem{'s' if count > 1 else ''}.")

    def _line(self, kind: str, text: str) -> None:
        self.is_empty = False
        self._write(f"  {kind:<8} {_one_line(text)}")

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        # Some checks take seconds, and what was found is of use before they end.
        sys.stdout.flush()


def first_line(error: BaseException) -> str:
    """An error in one line, with the name of its class if the text does not speak for itself."""
    if isinstance(error, ValidationError):
        # Its first line says only how many mistakes there are.
        return in_words(mistakes_of(error))
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    # Errors of HTTP repeat the address, with its password.
    text = _USER.sub("", text)
    return text if " " in text else f"{type(error).__name__}: {text}"


def _one_line(text: str) -> str:
    # A server's text must not be able to move the cursor.
    words = " ".join(text.split())
    printable = "".join(char for char in words if unicodedata.category(char)[0] != "C")
    return printable if len(printable) <= _MAX_TEXT else f"{printable[:_MAX_TEXT]}…"
