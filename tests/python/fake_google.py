"""A stand-in for Google on loopback: a token endpoint that checks what it gets, and an API that deletes every job."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class Google(ThreadingHTTPServer):
    """A token endpoint for one service account, and an API in which every job can be deleted."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
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
        self.claims: list[dict] = []
        self.authorizations: list[str | None] = []
        self.paths: list[str] = []
        self.refused: set[str] = set()
        self.refuses_keys = False
        # How often the token endpoint is out of order before it answers.
        self.outages = 0


class Handler(BaseHTTPRequestHandler):
    server: Google

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        assert self.path == "/token"
        assert form["grant_type"] == [GRANT]
        self.server.claims.append(jwt.decode(form["assertion"][0], certs=self.server.certificate, verify=True))
        if self.server.outages:
            self.server.outages -= 1
            self.answer(503, {})
            return
        if self.server.refuses_keys:
            self.answer(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
            return
        token = f"token-{len(self.server.claims)}"
        self.answer(200, {"access_token": token, "expires_in": 3600, "token_type": "Bearer"})

    def do_GET(self) -> None:
        self.answer(200, {"kind": "Job", "metadata": {"name": "j", "uid": "u"}})

    def do_DELETE(self) -> None:
        authorization = self.headers["authorization"]
        self.server.authorizations.append(authorization)
        self.server.paths.append(self.path)
        if authorization in self.server.refused:
            self.answer(401, {"error": {"code": 401, "status": "UNAUTHENTICATED", "message": "Invalid credentials."}})
        else:
            self.answer(200, {"status": "Success"})

    def answer(self, status: int, body: dict) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_args) -> None:
        pass
