"""The only use of google-auth in this package.

All requests of google-auth go through the transport of this module. Nothing here may run on an event loop, because
google-auth blocks; `fetch_in_background` starts a thread. google-auth is imported only when it is needed.

The functions of the core decide which file the application default credentials are in, and how a key file is read
(`_core.default_credentials_file`, `_core.read_key_file`).
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, quote_plus, urlsplit

from prefect_gcp_cloud_run import _core
from prefect_gcp_cloud_run._discreet import parse_json

if TYPE_CHECKING:
    import requests
    from google.auth.credentials import Credentials
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import Request

# The OAuth scope of every access token.
SCOPE = _core.TOKEN_SCOPE

# Timeout of one request to a token endpoint, in seconds.
_TIMEOUT_SECONDS = 20.0
# Lifetime of a token that has no expiry time, in seconds.
_DEFAULT_LIFETIME_SECONDS = 3600.0
# Maximum length of a text from elsewhere that an error repeats, in characters.
_MAX_TEXT = 300
# Minimum length of a request's value that errors must not repeat, in characters. Shorter values may be ordinary words.
_MIN_SECRET = 6
# Errors must not repeat a word this long: a key, an assertion or a token. Addresses of Google's documentation may stay.
_LONG_WORD = re.compile(r"(?<![^\s'\"])(?!https://(?:docs\.)?cloud\.google\.com/[\w./-]+(?:[\s'\"]|$))[^\s'\"]{60,}")

# The fields of a service account key that google-auth reads. All must be strings.
_KEY_FIELDS = ("private_key", "private_key_id", "client_email", "token_uri", "project_id", "universe_domain")

# Why there is no token, as in the core's `TokenErrorKind`.
TokenErrorKind = Literal["transient", "ambiguous", "no_credentials", "rejected"]
# Takes the token, its lifetime in seconds and its quota project; or else None, 0.0 and None. The last two arguments are
# the kind of the error and its text, which are empty if there is a token.
OnToken = Callable[[str | None, float, str | None, TokenErrorKind | Literal[""], str], None]


def transport() -> Request:
    """Makes a transport for google-auth.

    Certificates: it trusts the system's root certificates (or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`) and those
    that requests trusts.

    Secrets: unlike google-auth's own transport, it logs no requests, its errors hold no requests, and it follows no
    redirects. Requests carry assertions and refresh tokens.

    Proxies: it uses `HTTPS_PROXY` and `NO_PROXY`. It never sends plain HTTP through a proxy: the responses of the
    metadata server hold tokens.

    Returns:
        The transport. Its `session.last` is the last response, or None.
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
            self.last = super().request(*args, **{"timeout": _TIMEOUT_SECONDS} | kwargs | {"allow_redirects": False})
            return self.last

        def merge_environment_settings(self, url: Any, *args: Any) -> Any:
            settings = super().merge_environment_settings(url, *args)
            return settings | {"proxies": {}} if urlsplit(url).scheme == "http" else settings

    class RequestsResponse(Response):
        def __init__(self, response: requests.Response) -> None:
            self._response = response

        @property
        def status(self) -> int:
            return self._response.status_code

        @property
        def headers(self) -> Any:
            return self._response.headers

        @property
        def data(self) -> bytes:
            return self._response.content

    class QuietRequest(Request):
        def __call__(
            self,
            url: Any,
            method: Any = "GET",
            body: Any = None,
            headers: Any = None,
            timeout: Any = None,
            **kwargs: Any,
        ) -> RequestsResponse:
            if timeout is not None:
                kwargs["timeout"] = timeout
            try:
                return RequestsResponse(self.session.request(method, url, data=body, headers=headers, **kwargs))
            except requests.exceptions.RequestException as error:
                # A ValueError is about a malformed URL, which may be a secret in the wrong place.
                words = "the URL is invalid" if isinstance(error, ValueError) else _shorten(str(error))
                failure = TransportError(f"{words} ({type(error).__name__})")  # type: ignore[no-untyped-call]
            # Raised outside the handler: the original exception holds the request and must not become the context.
            raise failure

    session = Session()
    session.mount("https://", Adapter())
    return QuietRequest(session)


def load(info: MutableMapping[str, Any] | None, file: Path | None, request: Request, scope: str = SCOPE) -> Credentials:
    """Loads credentials: of a service account key, or else the application default credentials.

    Args:
        info: The content of the key.
        file: The file of the key; ignored if `info` is given.
        request: A transport, as `transport` makes it.
        scope: The OAuth scope of the tokens.

    Returns:
        Credentials of google-auth, which have no token yet.

    Raises:
        google.auth.exceptions.DefaultCredentialsError: There are no application default credentials, or they cannot
            be read.
        OSError: The key file cannot be read.
        ValueError: The key is malformed.
    """
    from google.auth.exceptions import MalformedError
    from google.oauth2 import service_account

    if info is None and file is not None:
        info = _key_of(file)
    if info is None:
        return _load_default(request, scope)
    wrong = [name for name in _KEY_FIELDS if not isinstance(info.get(name, ""), str)]
    if wrong:
        # google-auth's own error would repeat the value.
        raise MalformedError(f"The service account key must have a string as {' and '.join(wrong)}")  # type: ignore[no-untyped-call]
    return service_account.Credentials.from_service_account_info(info, scopes=[scope])  # type: ignore[no-any-return, no-untyped-call]


def _load_default(request: Request, scope: str) -> Credentials:
    import google.auth
    from google.auth.credentials import with_scopes_if_required

    # `google.auth.default` would run gcloud to find the project. Loading the file avoids that.
    if file := _default_file():
        credentials, _project = google.auth.load_credentials_from_file(str(file), request=request)  # type: ignore[no-untyped-call]
    else:
        credentials, _project = google.auth.default(request=request)
    # The scope is added afterwards: with a scope, google-auth would look up the project of external credentials.
    return with_scopes_if_required(credentials, [scope])  # type: ignore[no-any-return, no-untyped-call]


def load_default_with_project(request: Request) -> tuple[Credentials, str | None]:
    """Loads the application default credentials and finds their project. May run gcloud and call the metadata server.

    Args:
        request: A transport, as `transport` makes it.

    Returns:
        The credentials, and the project id or None.

    Raises:
        google.auth.exceptions.DefaultCredentialsError: There are no application default credentials, or they cannot
            be read.
    """
    import google.auth

    # Only checks the file, because google-auth's errors would repeat the content of a broken one.
    _default_file()
    return google.auth.default(scopes=[SCOPE], request=request)


def _default_file() -> Path | None:
    """The file of the application default credentials.

    Raises:
        google.auth.exceptions.DefaultCredentialsError: It cannot be read or is not JSON.
    """
    from google.auth.exceptions import DefaultCredentialsError

    try:
        return _core.default_credentials_file()
    except OSError as error:
        raise DefaultCredentialsError(str(error)) from None  # type: ignore[no-untyped-call]


def _has_default_file() -> bool:
    try:
        return _core.default_credentials_file() is not None
    except OSError:
        return True


def _key_of(file: Path) -> dict[str, Any]:
    from google.auth.exceptions import MalformedError

    message = f"{file} is not a JSON key file"
    try:
        key = parse_json(_core.read_key_file(file), message)
    except ValueError:
        key = None
    if not isinstance(key, dict):
        raise MalformedError(message)  # type: ignore[no-untyped-call]
    return key


def refresh(credentials: Credentials, request: Request) -> None:
    """Gets a new access token for the credentials. Blocks.

    Args:
        credentials: The credentials, which hold the token afterwards.
        request: A transport, as `transport` makes it.

    Raises:
        google.auth.exceptions.GoogleAuthError: There is no token. The text is short and without secrets. google-auth's
            own errors hold the whole response, which may repeat the request.
    """
    from google.auth.exceptions import RefreshError, TransportError

    try:
        credentials.refresh(request)  # type: ignore[no-untyped-call]
        return
    except Exception as error:
        failure = summarize(error, request, TransportError if isinstance(error, TransportError) else RefreshError)
    # Raised outside the handler, so that google-auth's error does not become its context.
    raise failure


def summarize(error: Exception, request: Request | None, kind: type[GoogleAuthError]) -> GoogleAuthError:
    """Makes a short error without secrets from an error of google-auth.

    Raise the result outside the handler of `error`. Otherwise `error` becomes its context, with all that it holds.

    Args:
        error: The error of google-auth.
        request: The transport of the failed call, if there was one.
        kind: Class of the result.

    Returns:
        The new error. `retryable` is true if another attempt may succeed.
    """
    error_kind, text = _classify(error, _last_response(request))
    return kind(text, retryable=error_kind == "transient")


def _last_response(request: Request | None) -> requests.Response | None:
    return getattr(request.session, "last", None) if request else None


def fetch_in_background(
    service_account_info: str | None, service_account_file: Path | None, scope: str, on_token: OnToken
) -> None:
    """Gets a new access token in a daemon thread, which does not keep the interpreter from exiting.

    There is one thread for each identity: while it hangs, later callers wait for its result.

    Args:
        service_account_info: A service account key as JSON text.
        service_account_file: The file of such a key. Without both, the application default credentials are used.
        scope: The OAuth scope of the token.
        on_token: Is called in the thread with the token or the error.
    """
    identity = (service_account_info, service_account_file, scope)
    with _fetching_lock:
        waiting = _fetching.get(identity)
        if waiting is not None:
            waiting.append(on_token)
            return
        _fetching[identity] = [on_token]
    try:
        threading.Thread(target=_fetch_once, args=identity, name="cloud-run-google-auth", daemon=True).start()
    except BaseException:
        with _fetching_lock:
            del _fetching[identity]
        raise


# Who waits for the token of each identity whose thread runs.
_fetching: dict[tuple[str | None, Path | None, str], list[OnToken]] = {}
_fetching_lock = threading.Lock()


def _fetch_once(service_account_info: str | None, service_account_file: Path | None, scope: str) -> None:
    def on_token(*result: Any) -> None:
        with _fetching_lock:
            waiting = _fetching.pop((service_account_info, service_account_file, scope), [])
        for tell in waiting:
            tell(*result)

    _fetch(service_account_info, service_account_file, scope, on_token)


def _fetch(service_account_info: str | None, service_account_file: Path | None, scope: str, on_token: OnToken) -> None:
    request = None
    try:
        request = transport()
        info = None if service_account_info is None else json.loads(service_account_info)
        credentials = load(info, service_account_file, request, scope)
        credentials.refresh(request)  # type: ignore[no-untyped-call]
        token, lifetime = str(credentials.token), _lifetime(credentials)
        quota_project = credentials.quota_project_id
    except Exception as error:
        on_token(None, 0.0, None, *_classify(error, _last_response(request)))
    else:
        on_token(token, lifetime, quota_project, "", "")


def _lifetime(credentials: Credentials) -> float:
    """Seconds until the token of the credentials expires."""
    from google.auth import _helpers

    if credentials.expiry is None:
        return _DEFAULT_LIFETIME_SECONDS
    return (credentials.expiry - _helpers.utcnow()).total_seconds()  # type: ignore[no-any-return, no-untyped-call]


def _classify(error: Exception, response: requests.Response | None) -> tuple[TokenErrorKind, str]:
    """The kind of an error, and a short text without secrets.

    Decides by the last response where there is one: google-auth has many exception classes, and they hold the whole
    response.
    """
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError

    where = urlsplit(response.url) if response is not None else None
    if response is not None and where is not None and response.status_code >= 300:
        status, reason = response.status_code, _reason(response)
        text = f"{where.scheme}://{where.hostname} answered HTTP {status}" + (f": {reason}" if reason else "")
        if status in (400, 401, 403) and reason:
            return "rejected", text
        return ("ambiguous" if status < 500 and status not in (408, 429) else "transient"), text
    if where is not None and not isinstance(error, GoogleAuthError):
        # The error of a parser repeats the response, which may hold a token.
        text = f"{where.scheme}://{where.hostname} sent a response that cannot be read ({type(error).__name__})"
        return "ambiguous", text
    cause = error
    while isinstance(cause.__cause__, Exception):
        cause = cause.__cause__
    said = error.strerror if isinstance(error, OSError) and error.strerror else error.args[0] if error.args else ""
    text = _shorten(str(said))
    text = f"{text or type(error).__name__}" + (f" ({type(cause).__name__})" if cause is not error else "")
    if isinstance(error, TransportError) or isinstance(error.__cause__, TransportError):
        return "transient", text
    if type(error) is DefaultCredentialsError and not _has_default_file():
        return "no_credentials", text
    return ("rejected" if isinstance(error, ValueError) else "ambiguous"), text


def _reason(response: requests.Response) -> str:
    """Why a token endpoint rejects a request, from a body in OAuth's form (RFC 6749, 5.2) or Google's.

    Returns an empty string for any other body, which may hold anything.
    """
    try:
        body = response.json()
        error = body["error"]
        if isinstance(error, dict):
            reason = str(error["message"])
        else:
            reason = ": ".join(str(part) for part in (error, body.get("error_description")) if part)
    except (AttributeError, KeyError, TypeError, ValueError):
        return ""
    sent = response.request.body
    for _name, value in parse_qsl(sent.decode(errors="replace") if isinstance(sent, bytes) else str(sent or "")):
        if len(value) >= _MIN_SECRET:
            # Some endpoints repeat values of the request, either URL-encoded or decoded.
            reason = reason.replace(value, "…").replace(quote_plus(value), "…")
    return _shorten(reason)


def _shorten(text: str) -> str:
    return _LONG_WORD.sub("…", text)[:_MAX_TEXT]
