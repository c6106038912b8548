"""Driver for a real Busybee master and real agents, for the CI benchmark that also drives Buildbot.

Each worker of a workload is a machine of one's own in a pool of its own (`provisioner = "none"`), each
job a project whose repository holds nothing but the pipeline file. Defaults otherwise: TLS, full
durability, nothing merged.
"""
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from drivers.base import Driver
from util import HOST, Http, Proc, du, free_port, wait_for

PROGRAMS = os.environ.get("BUSYBEE_PROGRAMS", "target/release")
GIT = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1",
       "GIT_AUTHOR_NAME": "bench", "GIT_AUTHOR_EMAIL": "bench@example.com",
       "GIT_COMMITTER_NAME": "bench", "GIT_COMMITTER_EMAIL": "bench@example.com"}
FINAL = {"passed", "failed", "cancelled", "infra"}


class Events(threading.Thread):
    """Reads the event stream of everything on a raw socket; calls back with what each build's event says."""

    def __init__(self, port, on_event):
        super().__init__(daemon=True)
        self.on_event = on_event
        self.socket = socket.create_connection((HOST, port), timeout=600)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(f"GET /api/v1/events HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode())
        self.ready = threading.Event()
        self.start()
        if not self.ready.wait(10):
            raise RuntimeError("no event stream")

    def run(self):
        try:
            rest = b""
            while data := self.socket.recv(1 << 16):
                rest += data
                # The master writes each event as one piece, so the frames of HTTP lie between the lines.
                *lines, rest = rest.split(b"\n")
                for line in lines:
                    if line.startswith(b"data: "):
                        self.ready.set()
                        self.on_event(json.loads(line.removeprefix(b"data: ")))
        except OSError:
            pass

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()


class DriverImpl(Driver):
    name = "busybee"

    def __init__(self, workdir, jobs, workers, opts):
        super().__init__(workdir, jobs, workers, opts)
        shutil.rmtree(workdir, ignore_errors=True)
        os.makedirs(workdir)
        self.programs = os.path.abspath(PROGRAMS)
        self.port = free_port()
        self.config = os.path.join(workdir, "busybee.toml")
        self.data = os.path.join(workdir, "data")
        self.commits = {j["name"]: self._repository(j) for j in jobs}
        self._write_config()
        self.master, self.events, self.http = None, None, None
        self.agents, self.added, self.held = {}, {}, set()
        self.changed = threading.Event()
        self.condition = threading.Condition()
        self.done = {}
        # Builds that ended before their number was known here.
        self.early = {}
        self.waited_for = set()
        self.watching = False

    # ---- what the master is told
    def _repository(self, job):
        path = os.path.join(self.workdir, "repos", job["name"])
        os.makedirs(path)
        steps = [{"name": s["name"], "run": shlex.join(s["command"])} for s in job["steps"]]
        pipeline = {"version": 1, "jobs": {"bench": {
            "worker": ["job-" + job["name"]], "checkout": False, "timeout": "1h", "steps": steps}}}
        with open(os.path.join(path, ".busybee.yaml"), "w") as f:
            json.dump(pipeline, f, indent=1)        # JSON is YAML

        def git(*args):
            return subprocess.run(["git", "-C", path, *args], check=True, capture_output=True, text=True,
                                  env={**os.environ, **GIT}).stdout.strip()
        git("init", "-q", "-b", "main")
        git("add", "-A")
        git("commit", "-q", "-m", "bench")
        return git("rev-parse", "HEAD")

    def _write_config(self):
        lines = ["[master]", f'url = "https://{HOST}:{self.port}"', f'listen = "{HOST}:{self.port}"',
                 f"data_dir = {json.dumps(self.data)}"]
        for w in self.workers:
            labels = [w["name"]] + ["job-" + j["name"] for j in self.jobs if w["name"] in j["workers"]]
            lines += ["", "[[pool]]", f'name = "{w["name"]}"', f"labels = {json.dumps(labels)}",
                      'provisioner = "none"', "shared = true", "jobs_per_instance = 0"]
        for j in self.jobs:
            repo = os.path.join(self.workdir, "repos", j["name"])
            lines += ["", "[[project]]", f'name = "{j["name"]}"', f"repo = {json.dumps(repo)}", 'poll = "1h"']
        with open(self.config, "w") as f:
            f.write("\n".join(lines) + "\n")

    def _cli(self, *args):
        return json.loads(subprocess.run([f"{self.programs}/busybee", *args, "--json", "--config", self.config],
                                         check=True, capture_output=True, text=True).stdout or "null")

    # ---- life cycle
    def start_master(self, subscribe=True):
        t = time.monotonic()
        self.master = Proc([f"{self.programs}/busybee", "serve", "--config", self.config], env=dict(os.environ),
                           logpath=os.path.join(self.workdir, "master.out"))

        def ready():
            if not self.master.alive():
                raise RuntimeError("the master ended; see " + self.workdir)
            try:
                h = Http(self.port, timeout=5)
                status, _ = h.req("GET", "/api/v1/pools")
                h.close()
                return status == 200
            except OSError:
                return False
        wait_for(ready, 60, 0.005, "master ready")
        seconds = time.monotonic() - t
        with open(os.path.join(self.data, "token")) as f:
            self.token = f.read().strip()
        self.http = Http(self.port)
        if subscribe:
            self.events = Events(self.port, self._event)
            self.changed.set()
            if not self.watching:
                self.watching = True
                threading.Thread(target=self._watch, daemon=True).start()
        return seconds

    def _event(self, told):
        """What the stream says: a build's status, or that much was missed; `{}` is of the fleet."""
        if told.get("status") in FINAL:
            self._ended((told["project"], told["number"]), told["status"])
        elif told and told["project"] is None:
            self.changed.set()

    def _ended(self, key, status):
        ended = {"t_done_ns": time.time_ns(), "ok": status == "passed", "build": key}
        with self.condition:
            (self.done if key in self.waited_for else self.early).setdefault(key, ended)
            self.condition.notify_all()

    def _watch(self):
        """Reads again what may have been missed: after a start of the master, or when the stream says so."""
        http = None
        while self.watching:
            if not self.changed.wait(1):
                continue
            self.changed.clear()
            try:
                http = http or Http(self.port, timeout=10)
                while self._look(http):
                    pass
            except (OSError, ValueError, KeyError):
                http = None

    def _look(self, http):
        """One page per project, from the oldest build that is waited for. Whether any has ended."""
        oldest, newest = {}, {}
        with self.condition:
            for project, number in self.waited_for - self.done.keys():
                oldest[project] = min(number, oldest.get(project, number))
                newest[project] = max(number, newest.get(project, number))
        progress = False
        for project, number in oldest.items():
            # Only the throughput scenario waits for so many, and it has one project: ids are numbers there.
            before = f"&before={number + 100}" if newest[project] - number > 90 else ""
            page = http.get_json(f"/api/v1/projects/{project}/builds?limit=100{before}")
            for b in page["builds"]:
                key = (b["project"], b["number"])
                if b["status"] in FINAL and key in self.waited_for and key not in self.done:
                    self._ended(key, b["status"])
                    progress = True
        return progress

    def stop_master(self):
        if self.events:
            self.events.close()
            self.events = None
        if self.master:
            self.master.stop()
            self.master = None

    def kill_master(self):
        self.master.kill(9)
        self.master.wait()
        self.master = None

    def master_pids(self):
        return [self.master.pid]

    def worker_port(self):
        return self.port

    def start_worker(self, name, port=None):
        home = os.path.join(self.workdir, "w-" + name)
        if name not in self.added:
            lines = self._cli("worker", "add", name, "--pool", name)["environment"]
            self.added[name] = dict(line.removeprefix("export ").split("=", 1) for line in lines)
        env = {k: shlex.split(v)[0] if v else v for k, v in self.added[name].items()}
        env.update(PATH=os.environ["PATH"], BB_HOME=home, BB_ROAD="own")
        os.makedirs(home, exist_ok=True)
        ca = os.path.join(self.data, "ca.pem")
        env["BB_CA"] = ca
        if port:
            env["BB_MASTER"] = f"{HOST}:{port}"
        self.agents[name] = Proc([f"{self.programs}/busybee-agent", "run"], env=env,
                                 logpath=os.path.join(self.workdir, f"w-{name}.out"))
        return self.agents[name]

    def stop_worker(self, name):
        self.agents.pop(name).stop()

    def kill_worker(self, name):
        agent = self.agents.pop(name)
        agent.kill(9)
        agent.wait()

    def worker_pids(self, name):
        return [self.agents[name].pid]

    def connected_workers(self):
        ws = Http(self.port).get_json("/api/v1/workers")["workers"]
        return {w["name"] for w in ws if w["status"] in ("idle", "busy", "bootstrapping")}

    def wait_worker(self, name, connected=True, timeout=60):
        wait_for(lambda: (name in self.connected_workers()) == connected, timeout, 0.01, f"worker {name}")

    # ---- work
    def hold(self, names, held):
        """A held worker's agent is stopped in its tracks: it may be given a build, and begins none."""
        for name in names:
            self.agents[name].kill(signal.SIGSTOP if held else signal.SIGCONT)

    def _post(self, path, body):
        status, data = self.http.req("POST", path, json.dumps(body), {
            "Content-Type": "application/json", "Authorization": "Bearer " + self.token})
        if status >= 300:
            raise RuntimeError(f"{path}: {status} {data[:300]!r}")
        return json.loads(data)

    def trigger(self, job):
        r = self._post(f"/api/v1/projects/{job}/builds", {"ref": self.commits[job]})
        key = (r["project"], r["number"])
        with self.condition:
            self.waited_for.add(key)
            if key in self.early:
                self.done[key] = self.early.pop(key)
        return key

    def wait_done(self, req, timeout):
        with self.condition:
            if not self.condition.wait_for(lambda: req in self.done, timeout):
                raise TimeoutError(f"build {req} not done in {timeout} s")
            return self.done[req]

    def _build(self, key):
        return self.http.get_json(f"/api/v1/projects/{key[0]}/builds/{key[1]}")

    def builds_of(self, req):
        b = self._build(req)
        names = {"passed": "success", "failed": "failure", "infra": "exception"}
        steps = [(s["name"], s["status"] != "running", names.get(s["status"], s["status"]), s["reason"])
                 for j in b["jobs"] for s in j.get("steps") or []]
        if b["status"] == "queued":
            return []
        return [{"id": req, "complete": b["status"] in FINAL, "results": names.get(b["status"], b["status"]),
                 "state": b["status"], "steps": steps, "attempts": b["jobs"][0]["attempts"]}]

    def request_info(self, req):
        return {"complete": self._build(req)["status"] in FINAL}

    def queue_len(self):
        builds = self.http.get_json("/api/v1/builds?limit=100")["builds"]
        return sum(b["status"] not in FINAL for b in builds)

    # ---- logs
    def log_id(self, build, timeout=10):
        return build

    def _log_url(self, logid, offset=0):
        return f"/api/v1/projects/{logid[0]}/builds/{logid[1]}/log?job=bench&step=1&offset={offset}"

    def log_lines(self, logid, offset):
        offsets = self.__dict__.setdefault("offsets", {})
        at = offsets.get(logid, 0) if offset else 0
        status, data = self.http.req("GET", self._log_url(logid, at))
        if status != 200:
            return []
        whole = data[:data.rfind(b"\n") + 1]
        offsets[logid] = at + len(whole)
        return whole.decode(errors="replace").splitlines()

    def log_download(self, logid, fileobj):
        import http.client
        c = http.client.HTTPConnection(HOST, self.port, timeout=600)
        c.request("GET", self._log_url(logid))
        r, n = c.getresponse(), 0
        while data := r.read(1 << 20):
            fileobj.write(data)
            n += len(data)
        c.close()
        return n

    # ---- storage and web
    def storage(self):
        size = du(self.data)
        return size if "bytes" in size else {"bytes": size.get("mib", 0) * 2**20, **size}

    def http_port(self):
        return self.port

    def urls(self):
        project = self.jobs[0]["name"]
        return {"builds_latest_50": "/api/v1/builds?limit=50",
                "builder_builds_latest_50": f"/api/v1/projects/{project}/builds?limit=50",
                "one_build": f"/api/v1/projects/{project}/builds/1", "builders": "/api/v1/projects",
                "workers": "/api/v1/workers", "index_html": "/", "build_html": f"/projects/{project}/builds/1"}

    def seed_builds(self, n):
        """Clones the newest finished build by SQL; the master is stopped."""
        subprocess.run([sys.executable, os.path.join(os.path.dirname(__file__), "..", "seed_builds.py"),
                        os.path.join(self.data, "busybee.sqlite3"), str(n)], check=True)
        return n

    def close(self):
        self.watching = False
        for agent in list(self.agents.values()):
            agent.stop()
        self.agents.clear()
        self.stop_master()
