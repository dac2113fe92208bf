"""A fake Google whose responses repeat the request, in every way that servers and debugging proxies do."""

from __future__ import annotations

import html
import json
import re
import socket
import struct
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs

from tests.python.fake_google import Google
from tests.python.leaks import TOKEN


class Request:
    """A request, and its whole text as `echo`."""

    def __init__(self, line: str, headers: str, body: str) -> None:
        self.line, self.headers, self.body = line, headers, body
        self.echo = f"{line}\n{headers}\n{body}"

    def env(self) -> list[str]:
        """The values of environment variables in the body."""
        try:
            job = json.loads(self.body)
            container = job["spec"]["template"]["spec"]["template"]["spec"]["containers"][0]
            return [variable["value"] for variable in container["env"] if "value" in variable]
        except (ValueError, KeyError, TypeError):
            return []


# A status and a body; or what happens to the connection.
Answer = tuple[int, str] | str


def google(code: int, status: str = "", **more: Any) -> Callable[[Request], Answer]:
    """Makes an error in Google's form, whose message is the request."""
    return lambda request: (
        code,
        json.dumps({"error": {"code": code, "status": status, "message": request.echo, **more}}),
    )


def _quoting(request: Request) -> Answer:
    place = "job.spec.template.spec.template.spec.containers[0].env[0].value"
    said = [f"Invalid value at '{place}' (TYPE_STRING), {json.dumps(value)}" for value in request.env()]
    message = "\n".join(said) or request.echo
    return 400, json.dumps({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": message}})


def _cut_short(request: Request) -> Answer:
    """An error page. An excerpt of it ends in the middle of the token or of an environment variable's value."""
    secret = (request.env() or [request.headers.rpartition("Bearer ")[2]])[0]
    return 502, "x" * 150 + " " + secret.replace("\n", " ") * 3


EVIL: dict[str, Callable[[Request], Answer]] = {
    "quoting": _quoting,
    "cut-short": _cut_short,
    "bad-request": google(400, "INVALID_ARGUMENT"),
    "unauthenticated": google(401, "UNAUTHENTICATED"),
    "forbidden": google(403, "PERMISSION_DENIED"),
    "disabled": google(403, "PERMISSION_DENIED", details=[{"reason": "SERVICE_DISABLED"}]),
    "not-found": google(404, "NOT_FOUND"),
    "taken": google(409, "ALREADY_EXISTS"),
    "aborted": google(409, "ABORTED"),
    "quota": google(429, "RESOURCE_EXHAUSTED"),
    "rate": google(429, "RESOURCE_EXHAUSTED", details=[{"reason": "RATE_LIMIT_EXCEEDED"}]),
    "internal": google(500, "INTERNAL"),
    "unavailable": google(503, "UNAVAILABLE"),
    "in-a-success": lambda request: (200, json.dumps({"error": {"code": 400, "message": request.echo}})),
    "status-only": lambda request: (500, json.dumps({"error": {"status": request.echo}})),
    "page": lambda request: (404, f"<pre>{html.escape(request.headers)}</pre>"),
    "raw-page": lambda request: (500, request.headers.rpartition("uthorization")[2]),
    "body-page": lambda request: (500, html.escape(" ".join(request.env()))),
    "other-json": lambda request: (502, json.dumps({"env": request.env(), "headers": request.headers})),
    "redirect": lambda request: (302, request.echo),
    "no-success": lambda request: (200, request.echo),
    "misplaced": lambda request: (200, json.dumps({"kind": "ExecutionList", "metadata": request.echo})),
    "misplaced-value": lambda request: (200, json.dumps({"metadata": (request.env() or [request.headers])[-1]})),
    "reset": lambda _request: "reset",
    "hang": lambda _request: "hang",
    "half": lambda _request: "half",
}

EVIL_TOKENS: dict[str, Callable[[Request], Answer]] = {
    "refused": lambda _request: (400, '{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}'),
    "repeated": lambda request: (400, json.dumps({"error": "invalid_grant", "error_description": request.body})),
    "repeated-parts": lambda request: (
        401,
        json.dumps({"error": {"message": f"not good: {parse_qs(request.body)}"}}),
    ),
    "repeated-page": lambda request: (500, f"<pre>{request.echo}</pre>"),
    "garbage": lambda request: (200, f"{TOKEN} {request.echo}"),
    "html": lambda request: (200, f"<html>{TOKEN} {request.echo}</html>"),
    "list": lambda request: (200, json.dumps([TOKEN, request.echo])),
    "wrong-type": lambda _request: (200, json.dumps({"access_token": [TOKEN], "expires_in": 3600})),
    "wrong-time": lambda _request: (200, json.dumps({"access_token": TOKEN, "expires_in": f"soon {TOKEN}"})),
    "endless": lambda _request: (200, json.dumps({"access_token": TOKEN, "expires_in": 2**63})),
    "not-plain": lambda _request: (200, json.dumps({"access_token": f"{TOKEN}\n", "expires_in": 3600})),
    "redirect": lambda request: (307, request.echo),
    "out-of-order": lambda request: (503, json.dumps({"error": request.echo})),
    "reset": lambda _request: "reset",
    "hang": lambda _request: "hang",
}


class EvilGoogle(Google):
    """A fake Google whose responses repeat requests.

    The path `/token/WAY` selects how a token request is repeated. The project id `WAY-CALL` selects how the API repeats
    the request of one call.
    """

    def __init__(self) -> None:
        super().__init__()
        self.RequestHandlerClass = Handler
        self.assertions: list[str] = []
        self.token_requests = 0
        self.jobs: dict[str, Any] = {}
        # Number of responses that repeated a request.
        self.echoes = 0

    def handle_error(self, *_arguments: Any) -> None:
        """Ignores errors of connections: clients close some of them on purpose."""


class Handler(BaseHTTPRequestHandler):
    server: EvilGoogle
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        request = Request(f"{self.command} {self.path}", str(self.headers), body)
        if self.path.startswith("/token"):
            self.server.token_requests += 1
            self.server.assertions += parse_qs(body).get("assertion", [])
            good = 200, json.dumps({"access_token": TOKEN, "expires_in": self.server.lifetime})
            way = EVIL_TOKENS.get(self.path.removeprefix("/token").strip("/"))
            self.answer(way(request) if way else good, request)
            return
        project, path = re.fullmatch(r".*/namespaces/([^/]+)/([^?]+).*", self.path).groups()
        call = self._call(path)
        way, _, on = project.rpartition("-")
        self.answer(EVIL[way](request) if on == call else self._good(call, path, body), request)

    def do_GET(self) -> None:
        self.do_POST()

    def do_DELETE(self) -> None:
        self.do_POST()

    def _call(self, path: str) -> str:
        if self.command == "POST":
            return "run" if path.endswith(":run") else "create"
        return "delete" if self.command == "DELETE" else "list" if path == "executions" else "get"

    def _good(self, call: str, path: str, body: str) -> Answer:
        if call == "create":
            path = f"jobs/{json.loads(body)['metadata']['name']}"
            self.server.jobs[path] = json.loads(body)["metadata"] | {"uid": "u"}
        if path.startswith("jobs/") and call == "get" and path not in self.server.jobs:
            return 404, json.dumps({"error": {"code": 404, "status": "NOT_FOUND", "message": "It is not there."}})
        jobs = self.server.jobs
        metadata = (jobs.pop if call == "delete" else jobs.get)(path, {"name": "the-execution"})
        ended = {"conditions": [{"type": "Completed", "status": "True"}]}
        job = {"metadata": metadata, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        answers = {
            # A job that is not ready, so that the worker reads it again.
            "create": {"metadata": metadata},
            "get": job,
            "run": {"metadata": {"name": "the-execution"}},
            "list": {"kind": "ExecutionList", "items": [{"metadata": {"name": "the-execution"}, "status": ended}]},
            "delete": {"status": "Success"},
        }
        return 200, json.dumps(answers[call])

    def answer(self, answer: Answer, request: Request) -> None:
        if isinstance(answer, str):
            return self._break(answer)
        status, body = answer
        data = body.encode()
        self.server.echoes += request.headers[-40:] in body or request.body[-40:] in body
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        if 300 <= status < 400:
            self.send_header("location", f"{self.server.url}/token?{TOKEN}")
        self.end_headers()
        self.wfile.write(data)
        return None

    def _break(self, how: str) -> None:
        self.close_connection = True
        if how == "hang":
            time.sleep(3)
        elif how == "half":
            self.send_response(200)
            self.send_header("content-length", "1000")
            self.end_headers()
        else:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *_args: Any) -> None:
        pass
