"""A model hub on this machine, as far as transformers asks one: refs, lists of files, and files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit


class Hub(ThreadingHTTPServer):
    """Serves ``folder/REVISION`` as revisions of the model "org/tiny"."""

    daemon_threads = True

    def __init__(self, folder: Path, branches: list[str], tags: list[str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.branches, self.tags = folder, branches, tags
        self.asked: list[str] = []

    @property
    def revisions(self) -> list[str]:
        return [*self.branches, *self.tags]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(path)
        if path == "/api/models/org/tiny/refs":
            kinds = {"branches": self.server.branches, "tags": self.server.tags, "converts": []}
            refs = {
                kind: [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": _hash(n)} for n in of]
                for kind, of in kinds.items()
            }
            self._send(json.dumps(refs).encode(), {}, with_body)
            return
        parts = path.strip("/").split("/", 4)
        if path.startswith("/api/models/org/tiny"):
            where = path.removeprefix("/api/models/org/tiny").strip("/").split("/")
            self._send(self._listed(where[-1] or "main", where[0]), {}, with_body)
            return
        if parts[:3] == ["org", "tiny", "resolve"] and len(parts) == 5:
            names = {_hash(name): name for name in self.server.revisions}
            revision = names.get(parts[3], parts[3])
            if not (self.server.folder / revision).is_dir():
                self._send(b"", {"X-Error-Code": "RevisionNotFound"}, with_body, 404)
                return
            commit = {"X-Repo-Commit": _hash(revision)}
            file = self.server.folder / revision / parts[4]
            if not file.is_file():
                self._send(b"", {**commit, "X-Error-Code": "EntryNotFound"}, with_body, 404)
                return
            content = file.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            self._send(content, {**commit, "ETag": etag}, with_body)
            return
        self._send(b"{}", {"X-Error-Code": "RepoNotFound"}, with_body, 404)

    def _listed(self, revision: str, how: str) -> bytes:
        """The files of a revision, as a tree or as facts about it."""
        revision = {_hash(name): name for name in self.server.revisions}.get(revision, revision)
        files = sorted((self.server.folder / revision).glob("*"))
        if how == "tree":
            sizes = [(file.name, file.stat().st_size) for file in files]
            return json.dumps(
                [{"type": "file", "path": n, "size": s, "oid": _hash(n)} for n, s in sizes]
            ).encode()
        siblings = [{"rfilename": file.name} for file in files]
        return json.dumps({"id": "org/tiny", "sha": _hash(revision), "siblings": siblings}).encode()

    def _send(
        self, content: bytes, headers: dict[str, str], with_body: bool, code: int = 200
    ) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)


def _hash(name: str) -> str:
    return hashlib.sha1(name.encode()).hexdigest()


@contextmanager
def serving(folder: Path, branches: list[str], tags: list[str]) -> Iterator[Hub]:
    """The hub, answering until the block ends."""
    hub = Hub(folder, branches, tags)
    thread = Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
