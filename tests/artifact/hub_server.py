"""A small server that speaks the few calls of the Hugging Face hub which sharing artifacts takes."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_test"
Files = dict[str, bytes]


@dataclass
class Repository:
    """Commits with all their files, and what branches point to."""

    private: bool = False
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: Files) -> str:
        before = self.commits.get(self.branches.get(branch, ""), {})
        content = {**before, **files}
        oid = hashlib.sha1(repr((len(self.commits), sorted(content.items()))).encode()).hexdigest()
        self.commits[oid], self.branches[branch] = content, oid
        return oid

    def at(self, revision: str) -> str | None:
        oid = self.branches.get(revision, revision)
        return oid if oid in self.commits else None


class Hub(ThreadingHTTPServer):
    """Listens on a port of its own until it is closed.

    Attributes:
        repositories: by name.
        asked: every request so far, method and path.
        refused: names of files that nobody gets.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.asked: list[str] = []
        self.refused: set[str] = set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._handle()

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        self.server.asked.append(f"{self.command} {'/'.join(parts)}")
        with suppress(BrokenPipeError):
            self._answer(parts, body)

    def _answer(self, parts: list[str], body: bytes) -> None:
        may_write = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        match parts:
            case ["api", "repos", "create"]:
                self._create(json.loads(body), may_write)
            case ["api", "validate-yaml"]:
                self._json({"errors": [], "warnings": []})
            case ["api", "models", owner, name, *rest]:
                self._of_repository(f"{owner}/{name}", rest, body, may_write)
            case [owner, name, "resolve", revision, path]:
                self._file(f"{owner}/{name}", revision, path, may_write)
            case _:
                self._refuse(404, "EntryNotFound", "no such call")

    def _create(self, wanted: dict[str, Any], may_write: bool) -> None:
        repo = f"{wanted['organization']}/{wanted['name']}"
        if not may_write:
            return self._refuse(401, "", "Invalid username or password.")
        if repo in self.server.repositories:
            return self._json({"url": f"{self.server.url}/{repo}"}, 409)
        private = bool(wanted.get("private")) or wanted.get("visibility") == "private"
        made = self.server.repositories[repo] = Repository(private)
        made.commit("main", {".gitattributes": b""})
        self._json({"url": f"{self.server.url}/{repo}"})

    def _of_repository(self, repo: str, rest: list[str], body: bytes, may_write: bool) -> None:
        found = self.server.repositories.get(repo)
        if found is None or (found.private and not may_write):
            return self._refuse(404, "RepoNotFound", "Repository not found")
        match rest:
            case ["refs"]:
                heads = [
                    {"name": name, "ref": f"refs/heads/{name}", "targetCommit": oid}
                    for name, oid in found.branches.items()
                ]
                return self._json({"branches": heads, "converts": [], "tags": []})
            case ["preupload", _]:
                names = [file["path"] for file in json.loads(body)["files"]]
                modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
                return self._json({"files": modes})
            case ["commit", branch]:
                lines = [json.loads(line) for line in body.splitlines() if line]
                files = [line["value"] for line in lines if line["key"] == "file"]
                oid = found.commit(branch, {file["path"]: base64.b64decode(file["content"]) for file in files})
                return self._json({"commitUrl": f"{self.server.url}/{repo}/commit/{oid}", "commitOid": oid})
            case ["branch", name]:
                if name in found.branches:
                    return self._refuse(409, "", f"Reference already exists: {name}")
                found.branches[name] = json.loads(body)["startingPoint"]
                return self._json({})
        self._refuse(404, "EntryNotFound", "no such call")

    def _file(self, repo: str, revision: str, path: str, may_read: bool) -> None:
        found = self.server.repositories.get(repo)
        if found is None or (found.private and not may_read):
            return self._refuse(401, "RepoNotFound", "Repository not found")
        if path in self.server.refused:
            return self._refuse(403, "", "Forbidden")
        oid = found.at(revision)
        if oid is None:
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        content = found.commits[oid].get(path)
        if content is None:
            return self._refuse(404, "EntryNotFound", "Entry not found", oid)
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": oid}
        self._send(200, content, headers)

    def _refuse(self, status: int, code: str, message: str, commit: str = "") -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message, "X-Repo-Commit": commit}
        self._send(status, json.dumps({"error": message}).encode(), {k: v for k, v in headers.items() if v})

    def _json(self, content: dict[str, Any], status: int = 200) -> None:
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
