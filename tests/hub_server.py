"""A Hugging Face Hub on this machine: the part of its protocol that publishing and
loading need, spoken to by huggingface_hub itself."""

import base64
import contextlib
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from huggingface_hub import constants, file_download

TOKEN, USER = "hf_local", "someone"


class Hub(ThreadingHTTPServer):
    """Repositories in memory: ``repos[id] = {path: bytes}``, and what was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Requests)
        self.repos, self.commits, self.messages, self.asked = {}, {}, {}, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, repo_id, body):
        """Apply the lines of a commit: a header, then files in base64."""
        files = self.repos[repo_id]
        for line in body.splitlines():
            entry = json.loads(line)
            key, value = entry["key"], entry["value"]
            if key == "header":
                self.messages[repo_id] = value["summary"]
            elif key == "file":
                assert value["encoding"] == "base64"
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                raise AssertionError(f"unexpected in a commit: {key}")
        digest = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits[repo_id] = digest
        return digest


class Requests(BaseHTTPRequestHandler):
    """Answers as huggingface.co does."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, body=b"", status=200, **headers):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def missing(self, code):
        """Which of repository, revision and entry is not there stands in a header."""
        self.answer({"error": code}, 404, X_Error_Code=code, X_Error_Message=code)

    def serve(self):
        hub, path = self.server, unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub.asked.append((self.command, path))
        if self.command == "POST" or "whoami" in path:
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self.answer({"error": "Invalid credentials"}, 401)
        if path == "/api/whoami-v2":
            return self.answer({"type": "user", "name": USER, "orgs": []})
        if path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(\w+)/([^/]+)", path):
            return self.of_repository(*found.groups(), body)
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self.resolve(*found.groups())
        return self.answer({"error": f"not spoken here: {path}"}, 501)

    do_GET = do_HEAD = do_POST = serve

    def create(self, wanted):
        owner = wanted.get("organization") or USER
        repo_id = f"{owner}/{wanted['name']}"
        there = repo_id in self.server.repos
        self.server.repos.setdefault(repo_id, {})
        self.server.commits.setdefault(repo_id, "0" * 40)
        url = {"url": f"{self.server.url}/{repo_id}", "name": repo_id}
        return self.answer(url, 409 if there else 200)

    def of_repository(self, repo_id, what, revision, body):
        hub = self.server
        if repo_id not in hub.repos:
            return self.missing("RepoNotFound")
        if what == "preupload":
            paths = [file["path"] for file in json.loads(body)["files"]]
            regular = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            return self.answer({"files": [{"path": p, **regular} for p in paths]})
        if what == "commit":
            oid = hub.commit(repo_id, body)
            url = f"{hub.url}/{repo_id}/commit/{oid}"
            return self.answer({"success": True, "commitOid": oid, "commitUrl": url})
        files = [{"rfilename": path} for path in sorted(hub.repos[repo_id])]
        sha = hub.commits[repo_id]
        return self.answer({"id": repo_id, "sha": sha, "siblings": files})

    def resolve(self, repo_id, revision, path):
        hub = self.server
        if repo_id not in hub.repos:
            return self.missing("RepoNotFound")
        if revision not in ("main", hub.commits[repo_id]):
            return self.missing("RevisionNotFound")
        if path not in hub.repos[repo_id]:
            return self.missing("EntryNotFound")
        content = hub.repos[repo_id][path]
        etag = hashlib.sha1(content).hexdigest()
        sha = hub.commits[repo_id]
        return self.answer(content, ETag=f'"{etag}"', X_Repo_Commit=sha)


@contextlib.contextmanager
def local_hub(monkeypatch, cache):
    """A hub that answers while the block runs, in place of huggingface.co."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    # Releases before 1.0 have a name of their own for it.
    monkeypatch.setattr(
        file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
