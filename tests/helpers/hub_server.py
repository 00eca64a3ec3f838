"""A local server that speaks the hub's protocol: datasets at one commit, and uploads to models."""

from __future__ import annotations

import hashlib
import json
import threading
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "a" * 40


class HubServer:
    """Serves dataset repositories at `url`, until it is left.

    Args:
        repositories: id -> path -> content; what is uploaded to a model is there, too.
    """

    def __init__(self, repositories: dict[str, dict[str, bytes]]) -> None:
        handler = type("Handler", (_Handler,), {"repositories": repositories})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    repositories: dict[str, dict[str, bytes]]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        kind, _, rest = path.removeprefix("api/").partition("/")
        name = "/".join(rest.split("/")[:2])
        if kind != "datasets" or name not in self.repositories:
            return self.send(b"Repository not found", 401, {"X-Error-Code": "RepoNotFound"})
        files, what = self.repositories[name], rest.removeprefix(name).strip("/")
        if not path.startswith("api/"):
            _, _, file = what.removeprefix("resolve/").partition("/")
            if file not in files:
                return self.send(b"Entry not found", 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            return self.send(files[file], 200, {"ETag": f'"{_oid(files[file])}"', "X-Repo-Commit": COMMIT})
        if what.startswith("tree/"):
            found = self.tree(files, what.removeprefix("tree/").partition("/")[2])
            if not found:
                return self.send(b"{}", 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            return self.send_json(found)
        siblings = [{"rfilename": file} for file in files]
        about = {"id": name, "sha": COMMIT, "private": False, "gated": False, "disabled": False, "tags": []}
        self.send_json({**about, "downloads": 0, "likes": 0, "siblings": siblings})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/").removeprefix("api/")
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path == "repos/create":
            wanted = json.loads(sent)
            name = "/".join(filter(None, (wanted.get("organization"), wanted["name"])))
            self.repositories.setdefault(name, {})
            return self.send_json({"url": f"http://{self.headers['Host']}/{name}", "name": name})
        name = "/".join(path.split("/")[1:3])
        if "/preupload/" in path:
            files = [{"path": each["path"], "uploadMode": "regular"} for each in json.loads(sent)["files"]]
            return self.send_json({"files": [{**each, "shouldIgnore": False, "oid": None} for each in files]})
        if "/commit/" in path:
            for line in map(json.loads, sent.decode().splitlines()):
                if line["key"] == "file":
                    self.repositories[name][line["value"]["path"]] = b64decode(line["value"]["content"])
            url = f"http://{self.headers['Host']}/{name}/commit/{COMMIT}"
            return self.send_json({"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""})
        return self.send_json({"errors": [], "warnings": []})  # of the model card

    def tree(self, files: dict[str, bytes], folder: str) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for file, content in files.items():
            inside = file.removeprefix(f"{folder}/") if folder else file
            if folder and inside == file:
                continue
            head, below, _ = inside.partition("/")
            path = f"{folder}/{head}" if folder else head
            entry = {"type": "file", "path": path, "size": len(content), "oid": _oid(content)}
            found[path] = {"type": "directory", "path": path, "size": 0, "oid": "0" * 40} if below else entry
        return list(found.values())

    def send_json(self, value: Any, code: int = 200) -> None:
        self.send(json.dumps(value).encode(), code, {"Content-Type": "application/json"})

    def send(self, content: bytes, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
