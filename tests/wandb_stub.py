"""A W&B server on a loopback port, as far as the project needs one: it keeps runs as W&B does, line by line.

A line of history has its place in the run's file, so that a line sent twice to one place is one line, and one sent to
two places is there twice. An id that was deleted stays taken: writing to it is refused with 409.
"""

import base64
import contextlib
import gzip
import json
import math
import re
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote

KEY = "0123456789" * 4  # any 40 characters pass
PAGE = {"endCursor": None, "hasNextPage": False}
ENTITY = "somebody"  # whose key it is


@dataclass
class Stored:
    """A run as the server has it; about: what upsertBucket said of it, newest last."""

    about: dict = field(default_factory=dict)
    config: dict = field(default_factory=dict)
    summary: dict = field(default_factory=dict)
    lines: dict[int, dict] = field(default_factory=dict)  # history, by the line's place
    state: str = "running"
    preempting: bool = False
    deleted: bool = False
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def rows(self) -> list[dict]:
        """The history without what W&B adds to it, but for _step."""
        lines = [self.lines[place] for place in sorted(self.lines)]
        return [{key: value for key, value in line.items() if key[0] != "_" or key == "_step"} for line in lines]


@dataclass
class Artifact:
    name: str
    kind: str
    run: tuple[str, str, str]  # that logged it
    committed: bool = False
    files: dict[str, bytes] = field(default_factory=dict)


class Server:
    """`with Server() as server:` serves at server.url until the block ends.

    server.runs: the runs by (entity, project, id); server.views: saved views and reports by their ids;
    server.artifacts: the runs' artifacts, a version by its digest.
    server.mute = True: connections are accepted and never answered, with mute_after only after so many answers;
    server.instead: what happens then, "hang", "500", "close" or "drip", a byte every half second;
    server.delay: seconds that every answer takes.
    """

    def __init__(self):
        self.runs: dict[tuple[str, str, str], Stored] = {}
        self.artifacts: dict[str, Artifact] = {}
        self.sweep, self.trials = "", []  # its YAML; (id, arguments) of what the agent is to train
        self.views: dict[str, dict] = {}  # and reports, by id
        self.queries: list[str] = []
        self.mute, self.mute_after, self.instead, self.delay = False, math.inf, "hang", 0.0
        self.connections: list[socket.socket] = []
        self.over = threading.Event()
        self.http = _HTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"owner": self}))
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def __enter__(self) -> "Server":
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.over.set()
        self.http.shutdown()
        self.http.server_close()
        for connection in self.connections:  # those kept alive would still be answered
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def run(self) -> Stored:
        """The only run."""
        (run,) = self.runs.values()
        return run

    def answer(self, path: str, body: bytes) -> tuple[int, dict]:
        """(status, answer) to a request."""
        if match := re.search(r"/files/([^/]+)/([^/]+)/([^/]+)/file_stream", path):
            return 200, self._stream(self.runs[match.groups()], json.loads(body))
        if match := re.search(r"/upload/run/([^/]+)/([^/]+)/([^/]+)/(.+)", path):
            self.runs[match.groups()[:3]].files[unquote(match[4])] = body
            return 200, {}
        if match := re.search(r"/upload/artifact/([^/]+)/(.+)", path):
            self.artifacts[match[1]].files[unquote(match[2])] = body
            return 200, {}
        if not path.endswith("/graphql"):  # telemetry
            return 404, {}
        question = json.loads(body)
        query, variables = question["query"], question.get("variables") or {}
        variables = variables.get("input", variables)
        name = re.search(r"(?:query|mutation)\s*(\w+)", query)[1]
        self.queries.append(name)
        return getattr(self, f"_{name}", self._viewer)(variables)

    def _stream(self, run: Stored, sent: dict) -> dict:
        for name, part in sent.get("files", {}).items():
            lines = [json.loads(line) for line in part["content"]] if name.endswith(("summary.json", ".jsonl")) else []
            if name == "wandb-history.jsonl":
                run.lines |= dict(enumerate(lines, start=part["offset"]))
            elif name == "wandb-summary.json":
                run.summary = lines[-1]
        run.preempting |= bool(sent.get("preempting"))
        if sent.get("complete"):
            run.state = "failed" if sent["exitcode"] else "finished"
        return {"exitcode": None, "limits": {}}

    def _place(self, variables: dict, name: str) -> tuple[str, str, str]:
        return variables.get("entity") or ENTITY, variables.get("project") or "uncategorized", name

    def _RunResumeStatus(self, variables: dict):
        run = self.runs.get(self._place(variables, variables["name"]))
        bucket = self._bucket(variables, run) if run and run.lines and not run.deleted else None
        return 200, {"data": {"model": {"id": "1", "name": variables["project"], "entity": {"id": "1", "name": ENTITY},
                                        "bucket": bucket}}}  # fmt: skip

    def _bucket(self, variables: dict, run: Stored) -> dict:
        last = [json.dumps(run.lines[max(run.lines)])] if run.lines else []
        about = run.about
        return {"id": "1", "name": about["name"], "displayName": about.get("displayName"), "logLineCount": 0,
                "historyLineCount": len(run.lines), "eventsLineCount": 0, "historyTail": json.dumps(last),
                "eventsTail": "[]", "summaryMetrics": json.dumps(run.summary), "config": json.dumps(run.config),
                "tags": about.get("tags") or [], "notes": about.get("notes"), "wandbConfig": '{"t": 1}'}  # fmt: skip

    def _UpsertBucket(self, variables: dict):
        place = self._place(variables, variables["name"])
        new = place not in self.runs
        run = self.runs.setdefault(place, Stored())
        if run.deleted:
            return 409, {"errors": [{"message": f"run {variables['name']} was previously created and deleted"}]}
        run.about |= {key: value for key, value in variables.items() if value is not None}
        run.config |= json.loads(variables.get("config") or "{}")
        run.state = variables.get("state") or run.state
        entity, project, name = place
        bucket = {"id": base64.b64encode(f"Run:v1:{name}".encode()).decode(), "name": name,
                  "displayName": run.about.get("displayName"), "description": None, "config": None, "sweepName": None,
                  "project": {"id": "1", "name": project, "entity": {"id": "1", "name": entity}},
                  "historyLineCount": len(run.lines)}  # fmt: skip
        return 200, {"data": {"upsertBucket": {"bucket": bucket, "inserted": new}}}

    def _CreateRunFiles(self, variables: dict):
        place = "/".join(self._place(variables, variables["run"]))
        files = [{"name": name, "uploadUrl": f"{self.url}/upload/run/{place}/{quote(name)}"}
                 for name in variables["files"]]  # fmt: skip
        return 200, {"data": {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}}

    def _CreateArtifact(self, variables: dict):
        place = variables["entityName"], variables["projectName"], variables["runName"]
        made = Artifact(variables["artifactCollectionName"], variables["artifactTypeName"], place)
        found = self.artifacts.setdefault(variables["digest"], made)
        answer = {"id": variables["digest"], "state": "COMMITTED" if found.committed else "PENDING",
                  "artifactSequence": {"id": "1", "latestArtifact": None}}  # fmt: skip
        return 200, {"data": {"createArtifact": {"artifact": answer}}}

    def _CreateArtifactManifest(self, variables: dict):
        url = f"{self.url}/upload/artifact/{variables['artifactID']}/wandb_manifest.json"
        file = {"id": "1", "uploadUrl": url, "uploadHeaders": []}
        answer = {"id": variables["artifactID"], "file": file}
        return 200, {"data": {"createArtifactManifest": {"artifactManifest": answer}}}

    def _CreateArtifactFiles(self, variables: dict):
        edges = []
        for spec in variables["artifactFiles"]:
            url = f"{self.url}/upload/artifact/{spec['artifactID']}/{quote(spec['name'])}"
            edges.append({"node": {"id": "1", "name": spec["name"], "displayName": spec["name"], "uploadUrl": url,
                                   "uploadHeaders": [], "storagePath": spec["name"], "uploadMultipartUrls": None,
                                   "artifact": {"id": spec["artifactID"]}}})  # fmt: skip
        return 200, {"data": {"createArtifactFiles": {"files": {"edges": edges}}}}

    def _CommitArtifact(self, variables: dict):
        self.artifacts[variables["artifactID"]].committed = True
        return 200, {"data": {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": ""}}}}

    def _View(self, variables: dict):
        found = [view for view in self.views.values() if view["name"] == variables["viewName"]]
        return 200, {"data": {"project": {"allViews": {"edges": [{"node": view} for view in found]}}}}

    def _UpsertView2(self, variables: dict):
        """A view is replaced if its id is given, else it is a new one, whatever its name."""
        id = variables.get("id") or f"view{len(self.views)}"
        new = id not in self.views
        project = {"id": "1", "name": variables["projectName"], "entityName": variables["entityName"]}
        self.views[id] = variables | {"id": id, "project": project, "updatedAt": None}
        return 200, {"data": {"upsertView": {"view": self.views[id], "inserted": new}}}

    _upsertView = _UpsertView2

    def _ProjectViews(self, variables: dict):
        found = [view | {"user": {"username": ENTITY, "photoUrl": "", "email": ""}, "createdAt": None}
                 for view in self.views.values() if view["type"] == variables.get("viewType", "runs")]  # fmt: skip
        views = {"edges": [{"node": view, "cursor": ""} for view in found], "pageInfo": PAGE}
        return 200, {"data": {"project": {"allViews": views}}}

    def _Runs(self, variables: dict):
        """Of the filters only {"tags": {"$in": [...]}}."""
        wanted = set(json.loads(variables["filters"])["tags"]["$in"])
        place = variables["entity"], variables["project"]
        found = {key[2]: run for key, run in self.runs.items() if key[:2] == place and not run.deleted}
        if not found:
            return 200, {"data": {"project": None}}
        edges = [{"node": self._node(name, run), "cursor": ""} for name, run in found.items()
                 if wanted & set(run.about.get("tags", []))]  # fmt: skip
        runs = {"edges": edges, "pageInfo": PAGE}
        return 200, {"data": {"project": {"internalId": "1", "runCount": len(edges), "readOnly": False, "runs": runs}}}

    def _node(self, name: str, run: Stored) -> dict:
        about, when, user = run.about, "2026-01-01T00:00:00Z", {"name": ENTITY, "username": ENTITY}
        node = {"projectId": "1", "id": name, "name": name, "displayName": about.get("displayName"), "state": run.state}
        node |= {"tags": about.get("tags"), "group": about.get("groupName"), "jobType": about.get("jobType")}
        node |= {"sweepName": None, "commit": None, "readOnly": False, "notes": None, "description": None, "user": user}
        node |= {"createdAt": when, "heartbeatAt": when, "historyLineCount": len(run.lines), "historyKeys": None}
        return node | {
            "config": json.dumps(run.config),
            "summaryMetrics": json.dumps(run.summary),
            "systemMetrics": "{}",
        }

    def _SweepWithRuns(self, variables: dict):
        sweep = {"id": "1", "name": variables["sweep"], "method": "grid", "state": "RUNNING", "description": None,
                 "config": self.sweep, "bestLoss": None, "controller": None, "scheduler": None, "createdAt": None,
                 "heartbeatAt": None, "updatedAt": None, "earlyStopJobRunning": False,
                 "runs": {"edges": []}}  # fmt: skip
        return 200, {"data": {"project": {"sweep": sweep}}}

    def _CreateAgent(self, variables: dict):
        return 200, {"data": {"createAgent": {"agent": {"id": "1"}}}}

    def _Heartbeat(self, variables: dict):
        """The agent's next trial, while it has none; at the end that it may go."""
        if json.loads(variables.get("runState") or "{}"):
            commands = []
        elif self.trials:
            id, arguments = self.trials.pop(0)
            values = {key: {"value": value} for key, value in arguments.items()}
            commands = [{"type": "run", "run_id": id, "program": "train.py", "args": values}]
        else:
            commands = [{"type": "exit"}]
        return 200, {"data": {"agentHeartbeat": {"agent": {"id": "1"}, "commands": json.dumps(commands)}}}

    def _GetProjects(self, variables: dict):
        node = {"__typename": "Project", "id": "1", "entityName": ENTITY, "createdAt": "2026-01-01T00:00:00Z",
                "isBenchmark": False, "user": None}  # fmt: skip
        names = {project for _, project, _ in self.runs}
        projects = {"pageInfo": PAGE | {"__typename": "PageInfo"},
                    "edges": [{"node": node | {"name": name}} for name in names]}  # fmt: skip
        return 200, {"data": {"models": projects}}

    def _ProjectInternalId(self, variables: dict):
        return 200, {"data": {"project": {"id": "1", "internalId": "1"}}}

    def _viewer(self, variables: dict):
        viewer = {"id": "me", "entity": ENTITY, "flags": "{}", "teams": {"edges": []}}
        return 200, {"data": {"viewer": viewer, "serverInfo": {"cliVersionInfo": {}}, "model": None, "project": None}}


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # connections that a busy machine accepts late are not dropped


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Server

    def setup(self) -> None:
        super().setup()
        self.owner.connections.append(self.connection)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.owner.mute_after -= 1
        if self.owner.mute or self.owner.mute_after < 0:
            self.fail()
            return
        self.owner.over.wait(self.owner.delay)
        status, answer = self.owner.answer(self.path, body)
        answer = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        with contextlib.suppress(OSError):  # the client has given up
            self.wfile.write(answer)

    do_GET = do_PUT = do_POST

    def fail(self) -> None:
        match self.owner.instead:
            case "hang":
                self.owner.over.wait()
            case "500":
                self.send_error(500)
            case "close":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            case "drip":
                for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".ljust(1000):
                    if self.owner.over.wait(0.5):
                        return
                    self.wfile.write(bytes([byte]))

    def log_message(self, *_) -> None:
        """Nothing on the screen."""
