"""A local server that speaks the hub's protocol: datasets at one commit; models with commits, branches and uploads."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from base64 import b64decode
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "a" * 40

Files = dict[str, bytes]


@dataclass
class Fault:
    """An answer in place of the right one.

    Args:
        path: of the requests, as `fnmatch` has it.
        status: of the answer.
        times: how often; then the server is right again.
        method: of the requests.
        message: what the hub says about it.
    """

    path: str
    status: int
    times: int = 1
    method: str = "*"
    message: str = ""


@dataclass
class Model:
    """A repository of a model.

    Args:
        commits: id -> files.
        refs: branch or tag -> id of its commit.
        private: whether only the token may read it.
    """

    commits: dict[str, Files] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False

    def commit(self, files: Files, ref: str = "main") -> str:
        """Make this the content of a branch; the id of the commit."""
        listed = "".join(f"{path}{_oid(content)}" for path, content in sorted(files.items()))
        commit = hashlib.sha1(f"{listed}{len(self.commits)}".encode()).hexdigest()
        self.commits[commit] = dict(files)
        self.refs[ref] = commit
        return commit

    def at(self, revision: str) -> tuple[str, Files] | None:
        """The commit of a revision with its files; None where there is none."""
        commit = self.refs.get(revision, revision)
        return (commit, self.commits[commit]) if commit in self.commits else None


@dataclass
class Hub:
    """What a server holds, and what was asked of it.

    Args:
        datasets: id -> path -> content.
        models: id -> repository.
        tokens: token -> whether it may write, as user `someone`; without any, everybody may.
        faults: answers in place of the right ones.
        blobs: SHA-256 -> content of uploads, before any commit names them.
        requests: method and path of each.
        puts: the bytes of each upload of a large file.
        authorized: the tokens that came.
    """

    datasets: dict[str, Files] = field(default_factory=dict)
    models: dict[str, Model] = field(default_factory=dict)
    tokens: dict[str, bool] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    puts: list[int] = field(default_factory=list)
    authorized: set[str] = field(default_factory=set)

    def files(self, model: str, revision: str = "main") -> Files:
        """The files of a model."""
        found = self.models[model].at(revision)
        assert found is not None
        return found[1]


class HubServer:
    """Serves repositories at `url`, until it is left.

    Args:
        repositories: of datasets, id -> path -> content; what is uploaded to a model is there, too.
        hub: in place of them.
    """

    def __init__(self, repositories: dict[str, Files] | None = None, hub: Hub | None = None) -> None:
        self.hub = hub or Hub(datasets=repositories if repositories is not None else {})
        handler = type("Handler", (_Handler,), {"hub": self.hub, "lock": threading.Lock()})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    lock: threading.Lock
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = self.begin()
        if path is None:
            return
        if path == "api/whoami-v2":
            return self.send_json({"type": "user", "name": "someone", "fullname": "Someone", "orgs": []})
        kind, _, rest = path.removeprefix("api/").partition("/")
        if kind == "datasets":
            return self.read("/".join(rest.split("/")[:2]), path, rest, None)
        rest = rest if kind == "models" else path
        self.read("/".join(rest.split("/")[:2]), path, rest, self.hub.models.get("/".join(rest.split("/")[:2])))

    def do_HEAD(self) -> None:
        self.do_GET()

    def read(self, name: str, path: str, rest: str, model: Model | None) -> None:
        """Answer about a repository, its folders and files."""
        dataset = self.hub.datasets.get(name) if "datasets" in path.split("/")[:2] else None
        hidden = model is not None and model.private and not self.token()
        if (dataset is None and model is None) or hidden:
            return self.send(b"Repository not found", 401, {"X-Error-Code": "RepoNotFound"})
        what = rest.removeprefix(name).strip("/")
        action, _, inner = what.partition("/")
        revision, _, file = inner.partition("/")
        commit, files = COMMIT, dataset or {}
        if model is not None:
            found = model.at(revision or "main")
            if found is None:
                return self.send(b"Revision not found", 404, {"X-Error-Code": "RevisionNotFound"})
            commit, files = found
        if action == "resolve":
            if file not in files:
                return self.send(b"Entry not found", 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            etag = {"ETag": f'"{_etag(file, files[file])}"', "X-Repo-Commit": commit}
            return self.send(files[file], 200, etag)
        if action == "tree":
            listed = self.tree(files, file, "recursive=true" in urlsplit(self.path).query.lower())
            if not listed:
                return self.send(b"{}", 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return self.send_json(listed)
        siblings = [{"rfilename": file} for file in files]
        about = {"id": name, "sha": commit, "private": bool(model and model.private), "gated": False, "disabled": False}
        self.send_json({**about, "tags": [], "downloads": 0, "likes": 0, "siblings": siblings})

    def do_POST(self) -> None:
        path = self.begin()
        if path is None:
            return
        path = path.removeprefix("api/")
        if path == "validate-yaml":
            return self.send_json({"errors": [], "warnings": []})
        if not self.may_write():
            return
        if path == "repos/create":
            wanted = json.loads(self.sent)
            name = "/".join(filter(None, (wanted.get("organization"), wanted["name"])))
            if self.hub.tokens and not name.startswith("someone/"):
                return self.send(b"{}", 403, {"X-Error-Message": "You don't have the rights to create a model there"})
            about = {"url": f"http://{self.headers['Host']}/{name}", "name": name}
            if name in self.hub.models:
                return self.send_json({**about, "error": "You already created this model repo"}, 409)
            private = wanted.get("private") or wanted.get("visibility") == "private"
            self.hub.models[name] = Model(private=bool(private))
            self.hub.models[name].commit({".gitattributes": b"*.safetensors filter=lfs\n"})
            return self.send_json(about)
        if path.endswith(".git/info/lfs/objects/batch"):
            return self.send_json({"transfer": "basic", "objects": [*map(self.lfs, json.loads(self.sent)["objects"])]})
        name = "/".join(path.split("/")[1:3])
        model = self.hub.models.get(name)
        if model is None:
            return self.send(b"{}", 404, {"X-Error-Code": "RepoNotFound"})
        action, _, revision = path.split("/", 3)[3].partition("/")
        if action == "branch":
            if revision in model.refs:
                return self.send(b'{"error": "Reference already exists"}', 409, {})
            model.refs[revision] = model.refs["main"]
            return self.send_json({})
        found = model.at(revision)
        if found is None:
            return self.send(b"{}", 404, {"X-Error-Code": "RevisionNotFound"})
        if action == "preupload":
            listed = [each["path"] for each in json.loads(self.sent)["files"]]
            modes = [
                {
                    "path": each,
                    "uploadMode": "lfs" if _is_large(each) else "regular",
                    "shouldIgnore": False,
                    "oid": _etag(each, found[1][each]) if each in found[1] else None,
                }
                for each in listed
            ]
            return self.send_json({"files": modes})
        assert action == "commit", path
        files = dict(found[1])
        for line in map(json.loads, self.sent.decode().splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        commit = model.commit(files, revision)
        if self.hub.datasets is not None:
            self.hub.datasets[name] = files
        url = f"http://{self.headers['Host']}/{name}/commit/{commit}"
        self.send_json({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    def do_PUT(self) -> None:
        path = self.begin()
        if path is None:
            return
        oid = path.removeprefix("lfs/")
        assert hashlib.sha256(self.sent).hexdigest() == oid
        with self.lock:
            self.hub.blobs[oid] = self.sent
            self.hub.puts.append(len(self.sent))
        self.send(b"", 200, {})

    def lfs(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """What to do with a large file: nothing, where it is there."""
        about = {"oid": wanted["oid"], "size": wanted["size"]}
        upload = {"href": f"http://{self.headers['Host']}/lfs/{wanted['oid']}"}
        return about if wanted["oid"] in self.hub.blobs else {**about, "actions": {"upload": upload}}

    def begin(self) -> str | None:
        """Read a request; its path, or None where a fault has answered it."""
        self.sent = self.body()
        path = unquote(urlsplit(self.path).path).strip("/")
        with self.lock:
            self.hub.requests.append(f"{self.command} {path}")
            if token := self.token():
                self.hub.authorized.add(token)
            for fault in self.hub.faults:
                if fault.times and fault.method in ("*", self.command) and fnmatch(path, fault.path):
                    fault.times -= 1
                    break
            else:
                return path
        self.send(b"{}", fault.status, {"X-Error-Message": fault.message} if fault.message else {})
        return None

    def body(self) -> bytes:
        """What was sent, also in chunks."""
        if "chunked" not in (self.headers.get("Transfer-Encoding") or ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def token(self) -> str:
        """The token of a request, where it is a known one."""
        found = re.sub("^Bearer ", "", self.headers.get("Authorization") or "")
        return found if not self.hub.tokens or found in self.hub.tokens else ""

    def may_write(self) -> bool:
        """Whether the token may; else the answer says why not."""
        if not self.hub.tokens or self.hub.tokens.get(self.token()):
            return True
        message = "You need to provide a write token" if self.token() else "Invalid username or password."
        self.send(b"{}", 403 if self.token() else 401, {"X-Error-Message": message})
        return False

    def tree(self, files: Files, folder: str, recursive: bool = False) -> list[dict[str, Any]]:
        """The entries of a folder."""
        found: dict[str, dict[str, Any]] = {}
        for file, content in files.items():
            inside = file.removeprefix(f"{folder}/") if folder else file
            if folder and inside == file:
                continue
            head, below, _ = inside.partition("/")
            path = f"{folder}/{head}" if folder else head
            if below:
                found[path] = {"type": "directory", "path": path, "size": 0, "oid": "0" * 40}
            if not below or recursive:
                found[file] = {"type": "file", "path": file, "size": len(content), "oid": _oid(content)}
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


def _is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".bin", ".onnx", ".pt"))


def _etag(path: str, content: bytes) -> str:
    """What the hub calls a content: of a large file its SHA-256, else git's SHA-1."""
    return hashlib.sha256(content).hexdigest() if _is_large(path) else _oid(content)


def _oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
