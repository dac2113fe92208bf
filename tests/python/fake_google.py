"""A fake Google on loopback: token endpoints that check their requests, and an API that deletes every job.

As an HTTPS proxy it takes the place of any host: it terminates TLS itself, with a certificate of the tests' own
authority.
"""

from __future__ import annotations

import json
import ssl
import time
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
IAM_SCOPE = "https://www.googleapis.com/auth/iam"
JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EXCHANGE_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
USER = {"client_id": "user-client", "client_secret": "user-secret", "refresh_token": "user-refresh"}
POOL = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/provider"
TARGET = "target@key-project.iam.gserviceaccount.com"


class RefusedError(Exception):
    """Why Google would reject a request."""


def expect(what: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        raise RefusedError(f"{what} is {found!r}, expected {wanted!r}")


class Google(ThreadingHTTPServer):
    """Token endpoints for a service account, a user, an identity pool and a machine; an API that deletes every job.

    Attributes:
        key: The service account key.
        claims: The claims of each assertion that the token endpoint got.
        authorizations: The `Authorization` header of each call of the API.
        paths: The path of each call of the API.
        token_calls: Host and path of each token request.
        proxied: `HOST:PORT` of each connection through the proxy.
        problems: Why requests were rejected. A test that expects none checks that this is empty.
        refused: `Authorization` headers that the API rejects.
        refuses_keys: Whether the token endpoint rejects all keys.
        token_answer: If set, the status, body and headers of every token response.
        api_answer: If set, the status, body and headers of every response of the API.
        silence: How long a token request takes, in seconds.
        lifetime: Lifetime of tokens, in seconds.
        quota_projects: The quota project of each call of the API that names one.
        outages: How many of the next token requests fail with 503.
        token_uri: The audience that assertions must have.
    """

    daemon_threads = True

    def __init__(self, authority: trustme.CA | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.authority = authority
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.certificate = private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.key = {
            "type": "service_account",
            "project_id": "key-project",
            "private_key_id": "1",
            "private_key": pem.decode(),
            "client_email": "worker@key-project.iam.gserviceaccount.com",
            "client_id": "1",
            "auth_uri": f"{self.url}/auth",
            "token_uri": f"{self.url}/token",
        }
        self.claims: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
        self.paths: list[str] = []
        self.token_calls: list[str] = []
        self.proxied: list[str] = []
        self.problems: list[str] = []
        self.refused: set[str] = set()
        self.refuses_keys = False
        self.token_answer: tuple[int, Any, dict[str, str]] | None = None
        self.api_answer: tuple[int, Any, dict[str, str]] | None = None
        self.outages = 0
        self.lifetime = 3600
        self.silence = 0.0
        self.quota_projects: list[str] = []
        self.token_uri = self.key["token_uri"]

    def serve_tls(self, host: str) -> str:
        """Switches to HTTPS, and returns the URL."""
        self.socket = self.context(host).wrap_socket(self.socket, server_side=True)
        return f"https://{host}:{self.server_port}"

    def context(self, host: str) -> ssl.SSLContext:
        """Makes a TLS context with a certificate for this host."""
        assert self.authority is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(host).configure_cert(context)
        return context


class Handler(BaseHTTPRequestHandler):
    server: Google
    protocol_version = "HTTP/1.1"
    # The host whose place it takes, for requests through the proxy.
    host = "127.0.0.1"

    def do_CONNECT(self) -> None:
        self.server.proxied.append(self.path)
        self.host = self.path.rpartition(":")[0]
        self.send_response(200)
        self.end_headers()
        # Python sends CONNECT as HTTP/1.0, after which the server would close the connection.
        self.close_connection = False
        self.connection = self.server.context(self.host).wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", 0)  # type: ignore[assignment]

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/subject-token":
            self.answer(200, {"subject": "from-the-url"} if self.headers["x-machine"] == "m1" else {})
        elif path.startswith("/computeMetadata/") or path == "/":
            self.metadata(path)
        else:
            self.api({"kind": "Job", "metadata": {"name": "j", "uid": "u"}})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        path = urlsplit(self.path).path
        tokens = {
            "/token": self.of_key_or_user,
            "/v1/token": self.exchanged,
            "/v1/oauthtoken": self.of_pool_user,
            f"/v1/projects/-/serviceAccounts/{TARGET}:generateAccessToken": self.impersonated,
        }
        self.server.token_calls.append(f"{self.host}{path}")
        time.sleep(self.server.silence)
        if self.server.outages:
            self.server.outages -= 1
            self.answer(503, {})
        elif self.server.token_answer:
            status, answer, headers = self.server.token_answer
            self.answer(status, answer.replace("REQUEST", body) if isinstance(answer, str) else answer, headers)
        else:
            try:
                expect("the path", path in tokens, True)
                self.answer(200, tokens[path](body))
            except RefusedError as error:
                self.server.problems.append(str(error))
                self.answer(400, {"error": "invalid_request", "error_description": "Google would reject this."})

    def of_key_or_user(self, body: str) -> dict[str, Any]:
        """OAuth 2.0: an assertion that a key signed (RFC 7523), or a user's refresh token (RFC 6749, 6)."""
        form = fields(body)
        if form["grant_type"] == "refresh_token":
            expect("the user", {name: form.get(name) for name in USER}, USER)
            return self.token("user")
        expect("grant_type", form["grant_type"], JWT_GRANT)
        claims = dict(jwt.decode(form["assertion"], certs=self.server.certificate, verify=True))
        self.server.claims.append(claims)
        expect("iss", claims["iss"].rpartition("@")[2], "key-project.iam.gserviceaccount.com")
        # google-auth always names Google's endpoint, whatever the `token_uri` of the key.
        expect("aud", claims["aud"] in (self.server.token_uri, "https://oauth2.googleapis.com/token"), True)
        # Impersonation needs only the IAM scope.
        expect("scope", claims["scope"] in (SCOPE, IAM_SCOPE), True)
        if self.server.refuses_keys:
            raise RefusedError("told to")
        return self.token("token", len(self.server.claims))

    def exchanged(self, body: str) -> dict[str, Any]:
        """Security Token Service, `v1.token`: exchanges a token of another provider for one of Google (RFC 8693)."""
        form = fields(body)
        expect("grant_type", form["grant_type"], EXCHANGE_GRANT)
        expect("audience", form["audience"], POOL)
        expect("requested_token_type", form["requested_token_type"], ACCESS_TOKEN)
        expect("subject_token_type", form["subject_token_type"], "urn:ietf:params:oauth:token-type:jwt")
        expect("scope", form["scope"] in (SCOPE, IAM_SCOPE), True)
        return self.token(f"pool-{form['subject_token']}") | {"issued_token_type": ACCESS_TOKEN}

    def of_pool_user(self, body: str) -> dict[str, Any]:
        """Security Token Service, `v1.oauthtoken`: the refresh token of a user of a workforce pool."""
        form = fields(body)
        expect("grant_type", form["grant_type"], "refresh_token")
        expect("refresh_token", form["refresh_token"], USER["refresh_token"])
        basic = b64decode(self.headers["authorization"].removeprefix("Basic ")).decode()
        expect("the client", basic, f"{USER['client_id']}:{USER['client_secret']}")
        return self.token("pool-user")

    def impersonated(self, body: str) -> dict[str, Any]:
        """IAM Service Account Credentials, `generateAccessToken`."""
        asked = json.loads(body)
        expect("scope", asked["scope"], [SCOPE])
        source = self.headers["authorization"].removeprefix("Bearer ")
        return {"accessToken": f"{TARGET}-by-{source}", "expireTime": "2100-01-01T00:00:00Z"}

    def metadata(self, path: str) -> None:
        """The metadata server of Compute Engine."""
        if self.headers["metadata-flavor"] != "Google":
            self.server.problems.append("no Metadata-Flavor")
            return self.answer(403, {})
        account = "/computeMetadata/v1/instance/service-accounts/default"
        answers: dict[str, Any] = {
            "/": "",
            "/computeMetadata/v1/project/project-id": "machine-project",
            f"{account}/": {"email": TARGET, "scopes": [SCOPE], "aliases": ["default"]},
            # Older versions of google-auth use the account's e-mail address in the path.
            f"{account}/token": self.token("machine"),
            f"{account.replace('default', TARGET)}/token": self.token("machine"),
            "/computeMetadata/v1/universe/universe-domain": "googleapis.com",
        }
        if path.endswith("/token"):
            self.server.token_calls.append(f"{self.host}{path}")
            if self.server.token_answer:
                return self.answer(*self.server.token_answer)
        return self.answer(200 if path in answers else 404, answers.get(path, {}), {"Metadata-Flavor": "Google"})

    def token(self, name: str, number: int = 1) -> dict[str, Any]:
        return {"access_token": f"{name}-{number}", "expires_in": self.server.lifetime, "token_type": "Bearer"}

    def do_DELETE(self) -> None:
        self.api({"status": "Success"})

    def api(self, success: dict[str, Any]) -> None:
        authorization = self.headers["authorization"]
        if self.command == "DELETE" or self.server.api_answer:
            self.server.authorizations.append(authorization)
            self.server.paths.append(self.path)
            self.server.quota_projects += self.headers.get_all("x-goog-user-project") or []
        if self.server.api_answer:
            status, answer, headers = self.server.api_answer
            self.answer(status, answer, headers)
        elif authorization in self.server.refused and self.command == "DELETE":
            self.answer(401, {"error": {"code": 401, "status": "UNAUTHENTICATED", "message": "Invalid credentials."}})
        else:
            self.answer(200, success)

    def answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        kind = "text/plain" if isinstance(body, str) else "application/json"
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_args: Any) -> None:
        pass


def fields(form: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(form).items()}
