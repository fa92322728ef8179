"A server on this machine that answers huggingface_hub as the Hub does: repositories are made, files go there and come back."
import base64
import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args): pass

    def say(self, body, status=200, **headers):
        "An answer; what is not bytes goes as JSON."
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, v in headers.items(): self.send_header(name.replace("_", "-"), v)
        if not isinstance(body, bytes): self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD": self.wfile.write(content)

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub, path = self.server, self.path.split("?")[0]
        hub.asked.append(path)
        if self.command != "HEAD" and self.command != "GET" and self.headers.get("Authorization") != "Bearer right": return self.say(dict(error="Invalid username or password."), 401)
        if path == "/api/validate-yaml": return self.say(dict(errors=[], warnings=[])) # the card's first lines
        if path == "/api/repos/create":
            name = "/".join(filter(None, (json.loads(body).get("organization", "you"), json.loads(body)["name"])))
            hub.repositories.setdefault(name, {})
            return self.say(dict(url=f"{hub.address}/{name}", name=name, id="1"))
        kind, *rest = path.removeprefix("/api/models/" if path.startswith("/api/models/") else "/").split("/")
        name = f"{kind}/{rest[0]}"
        files = hub.repositories.get(name)
        if files is None: return self.say(dict(error="Repository not found"), 404, X_Error_Code="RepoNotFound")
        if "/preupload/" in path: return self.say(dict(files=[dict(path=f["path"], uploadMode="regular", shouldIgnore=False) for f in json.loads(body)["files"]]))
        if "/commit/" in path:
            lines = map(json.loads, body.splitlines())
            files.update({line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"})
            return self.say(dict(success=True, commitOid="a"*40, commitUrl=f"{hub.address}/{name}/commit/{'a'*40}", hookOutput=""))
        file = "/".join(rest[3:]) # after name, "resolve" and the state
        if file not in files: return self.say(dict(error="Entry not found"), 404, X_Error_Code="EntryNotFound")
        self.say(files[file], ETag=f'"{hashlib.sha256(files[file]).hexdigest()}"', X_Repo_Commit="a"*40)

    do_GET = do_POST = do_PUT = do_HEAD = answer


def serve():
    "A server that runs; `repositories` are {name: {file: content}}, `asked` the paths of all requests."
    hub = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    hub.repositories, hub.asked, hub.address = {}, [], f"http://127.0.0.1:{hub.server_port}"
    Thread(target=hub.serve_forever, daemon=True).start()
    return hub
