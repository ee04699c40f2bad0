# SPDX-License-Identifier: Apache-2.0
"""A small Hugging Face hub: data sets in memory, read with range requests, written with commits."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
Files = dict[str, bytes]


class Hub(ThreadingHTTPServer):
    """`sets` holds the files of each data set; `keys` the keys that it was shown."""

    daemon_threads = True

    def __init__(self, sets: dict[str, Files]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.sets = sets
        self.keys: set[str] = set()
        self.private: set[str] = set()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def hub(sets: dict[str, Files]) -> Iterator[Hub]:
    server = Hub(sets)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        self._get(body=False)

    def do_GET(self) -> None:
        self._get(body=True)

    def _get(self, *, body: bool) -> None:
        path = self.path.split("?")[0]
        if path.startswith("/datasets/") and "/resolve/" in path:
            name, _, rest = path.removeprefix("/datasets/").partition("/resolve/")
            content = self.server.sets.get(name, {}).get(rest.partition("/")[2])
            if content is None:
                self._answer(404, b"", {"X-Error-Code": "EntryNotFound"}, body=body)
            else:
                self._file(content, body=body)
            return
        parts = path.removeprefix("/api/datasets/").split("/")
        name = "/".join(parts[:2])
        files = self.server.sets.get(name)
        if files is None:
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body=body)
        elif parts[2:3] == ["tree"]:
            below = "/".join(parts[4:])
            self._json([e for n, c in files.items() if n.startswith(below) for e in _entries(n, c, below)])
        else:
            self._json(
                {"id": name, "_id": "1", "sha": COMMIT, "private": False, "tags": [], "downloads": 0, "likes": 0,
                 "siblings": [{"rfilename": n} for n in files]}
            )  # fmt: skip

    def do_POST(self) -> None:
        given = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.keys.add(self.headers.get("Authorization", ""))
        path = self.path.split("?")[0]
        if path == "/api/repos/create":
            wanted = json.loads(given)
            name = (
                f"{wanted['organization']}/{wanted['name']}" if wanted.get("organization") else wanted["name"]
            )
            self.server.sets.setdefault(name, {})
            if wanted.get("private") or wanted.get("visibility") == "private":
                self.server.private.add(name)
            self._json({"url": f"{self.server.endpoint}/datasets/{name}", "name": name, "id": name})
            return
        parts = path.removeprefix("/api/datasets/").split("/")
        files = self.server.sets["/".join(parts[:2])]
        if parts[2] == "paths-info":
            names = json.loads(given)["paths"]
            found = [
                e
                for n in names
                for f, c in files.items()
                if f.startswith(n)
                for e in _entries(f, c, n, exact=True)
            ]
            self._json(list({e["path"]: e for e in found}.values()))
        elif parts[2] == "preupload":
            asked = json.loads(given)["files"]
            self._json(
                {
                    "files": [
                        {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked
                    ]
                }
            )
        else:
            for line in given.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            self._json(
                {
                    "commitUrl": f"{self.server.endpoint}/datasets/{'/'.join(parts[:2])}/commit/{COMMIT}",
                    "commitOid": COMMIT,
                }
            )

    def _file(self, content: bytes, *, body: bool) -> None:
        headers = {"ETag": f'"{_hash(content)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        asked = self.headers.get("Range", "")
        if asked.startswith("bytes="):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            begin, end = int(first or 0), min(int(last or len(content) - 1), len(content) - 1)
            headers["Content-Range"] = f"bytes {begin}-{end}/{len(content)}"
            self._answer(206, content[begin : end + 1], headers, body=body)
        else:
            self._answer(200, content, headers, body=body)

    def _json(self, value: Any) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"}, body=True)

    def _answer(self, status: int, content: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)


def _hash(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def _entries(name: str, content: bytes, below: str, *, exact: bool = False) -> list[dict[str, Any]]:
    """A file, and the folder that it is in."""
    made = [{"type": "file", "path": name, "size": len(content), "oid": _hash(content)}]
    folder = name.rpartition("/")[0]
    if folder and folder.startswith(below) and (folder == below if exact else folder != below):
        made.append({"type": "directory", "path": folder, "oid": COMMIT})
    return [e for e in made if not exact or e["path"] == below]
