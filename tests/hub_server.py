"""A model hub on this machine, as far as huggingface_hub's client speaks with it for a pair: `Hub`."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_of_the_tests"


class Hub:
    """Serves from where a `with` block begins until it ends.

    Attributes:
        endpoint: for the variable HF_ENDPOINT.
        commits: repository -> its commits, (name, path -> bytes), the newest one last.
        large: SHA-256 (hex) -> what was uploaded by LFS, as weights are.
        asked: all requests, "METHOD path".
    """

    def __init__(self) -> None:
        self.commits: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.large: dict[str, bytes] = {}
        self.asked: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Hub":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def commit(self, repository: str, changes: dict[str, bytes]) -> str:
        """On top of what is there."""
        before = self.commits[repository][-1][1] if self.commits[repository] else {}
        files = {**before, **changes}
        name = hashlib.sha1(repr((len(self.commits[repository]), sorted(files))).encode()).hexdigest()
        self.commits[repository].append((name, files))
        return name

    def files(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit that a revision means, and its files."""
        known = self.commits.get(repository, [])
        meant = known[-1:] if revision == "main" else [each for each in known if each[0] == revision]
        return meant[0] if meant else None


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"])) if self.headers["Content-Length"] else b""
        self.hub.asked.append(f"POST {self.path}")
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts == ["api", "validate-yaml"]:
            self._answer(200, {})
        elif self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
        elif parts == ["api", "repos", "create"]:
            self._create(json.loads(content))
        elif parts[4:] == ["preupload", "main"]:
            asked = json.loads(content)["files"]
            kinds = {file["path"]: "lfs" if file["path"].endswith(".safetensors") else "regular" for file in asked}
            modes = [{"path": path, "uploadMode": kind, "shouldIgnore": False} for path, kind in kinds.items()]
            self._answer(200, {"files": modes})
        elif parts[2:] == ["info", "lfs", "objects", "batch"]:
            self._answer(200, {"transfer": "basic", "objects": list(map(self._places, json.loads(content)["objects"]))})
        elif parts == ["verify"]:
            there = len(self.hub.large.get(json.loads(content)["oid"], b"")) == json.loads(content)["size"]
            self._answer(200 if there else 404, {})
        elif parts[4:] == ["commit", "main"]:
            repository = "/".join(parts[2:4])
            lines = [json.loads(line) for line in content.splitlines()]
            added = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                if line["key"] == "file"
                else self.hub.large[line["value"]["oid"]]
                for line in lines[1:]
            }
            name = self.hub.commit(repository, added)
            url = f"{self.hub.endpoint}/{repository}/commit/{name}"
            self._answer(200, {"success": True, "commitOid": name, "commitUrl": url})
        else:
            self._answer(404, {"error": f"not part of this hub: {self.path}"})

    def _places(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Where a large file is to be uploaded; nowhere, if it is here already. The repository "full" takes none."""
        full = self.path.startswith("/user/full.git/")
        where = {"upload": f"/{'full' if full else 'large'}/{wanted['oid']}", "verify": "/verify"}
        actions = {action: {"href": f"{self.hub.endpoint}{path}"} for action, path in where.items()}
        return {**wanted, "actions": actions} if full or wanted["oid"] not in self.hub.large else wanted

    def do_PUT(self) -> None:
        self.hub.asked.append(f"PUT {self.path}")
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if fits := self.path == f"/large/{hashlib.sha256(content).hexdigest()}":
            self.hub.large[self.path.rpartition("/")[2]] = content
        self._answer(200 if fits else 403, {})

    def _create(self, wanted: dict[str, Any]) -> None:
        repository = f"{wanted.get('organization') or 'user'}/{wanted['name']}"
        if not repository.startswith("user/"):
            self._answer(403, {"error": "You don't have the rights to create a model under this namespace"})
            return
        self.hub.commits.setdefault(repository, [])
        self._answer(200, {"url": f"{self.hub.endpoint}/{repository}", "name": repository})

    def do_GET(self) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        owner, name, _, revision, *path = self.path.strip("/").split("/")
        found = self.hub.files(f"{owner}/{name}", revision)
        if owner == "secret":
            self._answer(401, {"error": "Access to this model is restricted"})
        elif found is None or "/".join(path) not in found[1]:
            self._answer(404, {"error": "Not Found"}, {"X-Error-Code": "RepoNotFound"})
        else:
            content = found[1]["/".join(path)]
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            self._send(200, content, {"ETag": etag, "X-Repo-Commit": found[0]})

    do_HEAD = do_GET  # noqa: N815  # http.server's name

    def _answer(self, code: int, content: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self._send(code, json.dumps(content).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, code: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass
