"""Google's own google-auth, as this package uses it: over one kind of connection, and never on the event loop."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, quote_plus, urlsplit

if TYPE_CHECKING:
    import requests
    from google.auth.credentials import Credentials
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import Request

SCOPE = "https://www.googleapis.com/auth/cloud-platform"

# How long one answer of a token endpoint is waited for, in seconds.
_TIMEOUT = 20.0
# Lifetime of a token that does not say when it ends, in seconds.
_LIFETIME = 3600.0
# Longest path, in characters.
_LONGEST_PATH = 1024
# More than any key file has, in bytes.
_LARGEST_KEY = 64 * 1024
# Longest part of a foreign text that an error repeats, in characters.
_LONGEST_TEXT = 300
# Shorter values are words that a reason may have of its own.
_SHORTEST_SECRET = 6
# As long are keys, assertions and tokens, and nothing that an error has to say.
_LONG_WORD = re.compile(r"(?!https://[\w./-]+(?:[\s'\"]|$))[^\s'\"]{60,}")

# What google-auth reads of a service account's key, all of it text.
_KEY_FIELDS = ("private_key", "private_key_id", "client_email", "token_uri", "project_id", "universe_domain")

Prospect = Literal["passing", "doubtful", "missing", "refused"]
Done = Callable[[str | None, float, str | None, Prospect | Literal[""], str], None]


def transport() -> Request:
    """A transport for google-auth.

    It trusts the system's root certificates, or in their place those of `SSL_CERT_FILE` and `SSL_CERT_DIR`, and those
    that requests trusts. It follows no redirects, which would take secrets along. `HTTPS_PROXY` and `NO_PROXY` count,
    and no proxy sees what is not encrypted, the metadata server's answers among it. Unlike google-auth's own, it logs
    no requests, and its errors hold none: they are signed with the key.

    Returns:
        The transport; its `session` keeps the last answer as `last`.
    """
    import ssl

    import requests
    from google.auth.exceptions import TransportError
    from google.auth.transport import Response
    from google.auth.transport.requests import Request

    class Adapter(requests.adapters.HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, ssl_context=ssl.create_default_context(), **kwargs)

        def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
            return super().proxy_manager_for(proxy, ssl_context=ssl.create_default_context(), **kwargs)

    class Session(requests.Session):
        last: requests.Response | None = None

        def request(self, *args: Any, **kwargs: Any) -> requests.Response:
            self.last = None
            self.last = super().request(*args, **{"timeout": _TIMEOUT} | kwargs | {"allow_redirects": False})
            return self.last

        def merge_environment_settings(self, url: Any, *args: Any) -> Any:
            settings = super().merge_environment_settings(url, *args)
            return settings | {"proxies": {}} if urlsplit(url).scheme == "http" else settings

    class Answer(Response):
        def __init__(self, answer: requests.Response) -> None:
            self._answer = answer

        @property
        def status(self) -> int:
            return self._answer.status_code

        @property
        def headers(self) -> Any:
            return self._answer.headers

        @property
        def data(self) -> bytes:
            return self._answer.content

    class Discreet(Request):
        def __call__(
            self,
            url: Any,
            method: Any = "GET",
            body: Any = None,
            headers: Any = None,
            timeout: Any = None,
            **kwargs: Any,
        ) -> Answer:
            if timeout is not None:
                kwargs["timeout"] = timeout
            try:
                return Answer(self.session.request(method, url, data=body, headers=headers, **kwargs))
            except requests.exceptions.RequestException as error:
                # What is no address may be anything.
                words = "the address can't be used" if isinstance(error, ValueError) else _short(str(error))
                failure = TransportError(f"{words} ({type(error).__name__})")  # type: ignore[no-untyped-call]
            # Not while the other, which holds the request, is being handled.
            raise failure

    session = Session()
    session.mount("https://", Adapter())
    return Discreet(session)


def load(info: MutableMapping[str, Any] | None, file: Path | None, request: Request, scope: str = SCOPE) -> Credentials:
    """Credentials of a service account's key, by its content or its file, or else the application default credentials.

    Raises:
        google.auth.exceptions.DefaultCredentialsError: When there are none, or they can't be read.
        ValueError: When the key is malformed.
    """
    import google.auth
    from google.auth.credentials import with_scopes_if_required
    from google.auth.exceptions import MalformedError
    from google.oauth2 import service_account

    if info is None and file is not None:
        info = _key_of(file)
    if info is not None:
        wrong = [name for name in _KEY_FIELDS if not isinstance(info.get(name, ""), str)]
        if wrong:
            # google-auth would repeat what it can't use.
            raise MalformedError(f"The service account's key has no text as {' and '.join(wrong)}")  # type: ignore[no-untyped-call]
        return service_account.Credentials.from_service_account_info(info, scopes=[scope])  # type: ignore[no-any-return, no-untyped-call]
    # Scopes come afterwards: with them, it would ask for the name of a project.
    if found := checked_default_file():
        credentials, _project = google.auth.load_credentials_from_file(found, request=request)  # type: ignore[no-untyped-call]
    else:
        credentials, _project = google.auth.default(request=request)
    return with_scopes_if_required(credentials, [scope])  # type: ignore[no-any-return, no-untyped-call]


def _default_file() -> str | None:
    """The file of application default credentials. `google.auth.default` would run gcloud for its project, too."""
    if named := os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return named
    folder = os.environ.get("CLOUDSDK_CONFIG") or Path("~/.config/gcloud").expanduser()
    path = Path(folder) / "application_default_credentials.json"
    return str(path) if path.is_file() else None


def checked_default_file() -> str | None:
    """The same, once it is sure that google-auth can read it, whose errors repeat what they can't.

    Raises:
        google.auth.exceptions.DefaultCredentialsError: When it is no JSON file, without a word of its content.
    """
    from google.auth.exceptions import DefaultCredentialsError

    found = _default_file()
    if found is None:
        return None
    problem = ""
    if len(found) > _LONGEST_PATH or "{" in found or "\n" in found:
        problem = "GOOGLE_APPLICATION_CREDENTIALS has to name a file, and seems to hold the key itself"
    else:
        try:
            json.loads(read_key_file(Path(found)))
        except OSError as error:
            problem = f"The file {found} of credentials can't be read: {error.strerror or error}"
        except ValueError:
            problem = f"The file {found} is not a JSON file of Google credentials"
    if problem:
        raise DefaultCredentialsError(problem)  # type: ignore[no-untyped-call]
    return found


def read_key_file(file: Path) -> bytes:
    """The content of a key file.

    Raises:
        OSError: When it can't be read, or is none: a device or a pipe could be read for ever.
    """
    if not file.is_file():
        raise OSError(f"{file} is not a file")
    with file.open("rb") as key:
        text = key.read(_LARGEST_KEY + 1)
    if len(text) > _LARGEST_KEY:
        raise OSError(f"{file} is too large for a key")
    return text


def _key_of(file: Path) -> Any:
    """The key in a file, without the exception of its parser, which holds the text."""
    from google.auth.exceptions import MalformedError

    text = read_key_file(file)
    try:
        key = json.loads(text)
    except ValueError:
        key = None
    if not isinstance(key, dict):
        raise MalformedError(f"{file} is not a JSON key file")  # type: ignore[no-untyped-call]
    return key


def refresh(credentials: Credentials, request: Request) -> None:
    """Gets the credentials a new access token.

    Raises:
        google.auth.exceptions.GoogleAuthError: When there is none. google-auth's own errors hold all that was answered,
            which may repeat the request; this one says what is the matter.
    """
    from google.auth.exceptions import RefreshError, TransportError

    try:
        credentials.refresh(request)  # type: ignore[no-untyped-call]
        return
    except Exception as error:
        failure = told(error, request, TransportError if isinstance(error, TransportError) else RefreshError)
    raise failure


def told(error: Exception, request: Request | None, kind: type[GoogleAuthError]) -> GoogleAuthError:
    """A failure in few words, which is `retryable` when it may pass; not to be raised while `error` is handled."""
    prospect, words = _verdict(error, _last_answer(request))
    return kind(words, retryable=prospect == "passing")


def _last_answer(request: Request | None) -> requests.Response | None:
    return getattr(request.session, "last", None) if request else None


def fetch_in_background(
    service_account_info: str | None, service_account_file: Path | None, scope: str, done: Done
) -> None:
    """Gets a new access token in a thread of its own, which does not keep the interpreter from ending.

    Args:
        service_account_info: A service account's key as JSON text.
        service_account_file: Path to such a text; without both, the application default credentials count.
        scope: What the token is for.
        done: Told the token, its lifetime in seconds and the quota project, or else what to expect of another try, and
            why it failed.
    """
    arguments = (service_account_info, service_account_file, scope, done)
    threading.Thread(target=_fetch, args=arguments, name="cloud-run-google-auth", daemon=True).start()


def _fetch(service_account_info: str | None, service_account_file: Path | None, scope: str, done: Done) -> None:
    request = None
    try:
        request = transport()
        info = None if service_account_info is None else json.loads(service_account_info)
        credentials = load(info, service_account_file, request, scope)
        credentials.refresh(request)  # type: ignore[no-untyped-call]
        token, lifetime = str(credentials.token), _lifetime(credentials)
        quota_project = credentials.quota_project_id
    except Exception as error:
        done(None, 0.0, None, *_verdict(error, _last_answer(request)))
    else:
        done(token, lifetime, quota_project, "", "")


def _lifetime(credentials: Credentials) -> float:
    """Seconds that its token still lives."""
    from google.auth import _helpers

    if credentials.expiry is None:
        return _LIFETIME
    return (credentials.expiry - _helpers.utcnow()).total_seconds()  # type: ignore[no-any-return, no-untyped-call]


def _verdict(error: Exception, answer: requests.Response | None) -> tuple[Prospect, str]:
    """What a failure means, by the last answer rather than by google-auth's many exceptions, which hold all of it."""
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError

    where = urlsplit(answer.url) if answer is not None else None
    if answer is not None and where is not None and answer.status_code >= 300:
        reason = _reason(answer)
        words = f"{where.scheme}://{where.hostname} answered HTTP {answer.status_code}" + (
            f": {reason}" if reason else ""
        )
        if answer.status_code in (400, 401, 403) and reason:
            return "refused", words
        return ("doubtful" if answer.status_code < 500 and answer.status_code not in (408, 429) else "passing"), words
    if where is not None and not isinstance(error, GoogleAuthError):
        # What can't read an answer repeats it, and there may be a token in it.
        words = f"{where.scheme}://{where.hostname} gave an answer that can't be read ({type(error).__name__})"
        return "doubtful", words
    cause = error
    while isinstance(cause.__cause__, Exception):
        cause = cause.__cause__
    said = error.strerror if isinstance(error, OSError) and error.strerror else error.args[0] if error.args else ""
    text = _short(str(said))
    words = f"{text or type(error).__name__}" + (f" ({type(cause).__name__})" if cause is not error else "")
    if isinstance(error, TransportError) or isinstance(error.__cause__, TransportError):
        return "passing", words
    if type(error) is DefaultCredentialsError and _default_file() is None:
        return "missing", words
    return ("refused" if isinstance(error, ValueError) else "doubtful"), words


def _reason(answer: requests.Response) -> str:
    """Why a token endpoint refuses, in OAuth's form (RFC 6749, 5.2) or Google's; nothing else of its answer."""
    try:
        body = answer.json()
        error = body["error"]
        if isinstance(error, dict):
            reason = str(error["message"])
        else:
            reason = ": ".join(str(part) for part in (error, body.get("error_description")) if part)
    except (AttributeError, KeyError, TypeError, ValueError):
        return ""
    sent = answer.request.body
    for _name, value in parse_qsl(sent.decode(errors="replace") if isinstance(sent, bytes) else str(sent or "")):
        if len(value) >= _SHORTEST_SECRET:
            # Some endpoints repeat what they were sent, as it came or read.
            reason = reason.replace(value, "…").replace(quote_plus(value), "…")
    return _short(reason)


def _short(text: str) -> str:
    return _LONG_WORD.sub("…", text)[:_LONGEST_TEXT]
