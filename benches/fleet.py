#!/usr/bin/env python3
"""A master with many idle agents: `benches/fleet.py FOLDER [--agents N]... [--hold SECONDS]`.

FOLDER is scratch space. For each N: N workers are added, N agents (one process, real TLS, real
handshakes) call at the same instant, stay for SECONDS, and the master is killed and started again.
Prints when all were in, the master's memory and CPU, and when all were back. `BUSYBEE_PROGRAMS` names
the folder of busybee; the load is built with `cargo bench --bench fleet --no-run`. Loopback only.
"""
import argparse
import http.client
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
PROGRAMS = pathlib.Path(os.environ.get("BUSYBEE_PROGRAMS", HERE.parent / "target/release")).resolve()
CONFIG = """[master]
url = "https://127.0.0.1:{port}"
listen = "127.0.0.1:{port}"
data_dir = "data"

[[pool]]
name = "own"
labels = ["linux"]
provisioner = "none"
"""
TICKS = os.sysconf("SC_CLK_TCK")


class Socket(http.client.HTTPConnection):
    """The master's Unix socket: its user needs no token there."""

    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


class Master:
    def __init__(self, folder):
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = taken.getsockname()[1]
        (folder / "busybee.toml").write_text(CONFIG.format(port=self.port))

    def start(self):
        self.process = subprocess.Popen(
            [str(PROGRAMS / "busybee"), "serve", "--config", str(self.folder / "busybee.toml")],
            stdout=subprocess.DEVNULL, stderr=open(self.folder / "master.log", "a"))
        deadline = time.monotonic() + 60
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    sys.exit((self.folder / "master.log").read_text())
                time.sleep(0.005)

    def end(self, how):
        self.process.send_signal(how)
        self.process.wait(30)

    def memory_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def add_workers(self, count):
        """Their names and passwords, as lines."""
        connection, lines = Socket(self.folder / "data/busybee.sock"), []
        for number in range(count):
            body = json.dumps({"name": f"w-{number}", "pool": "own"})
            connection.request("POST", "/api/v1/workers", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status >= 300:
                sys.exit(f"worker add: {answer.status} {text.decode()}")
            environment = dict(line.split("=", 1) for line in json.loads(text)["environment"])
            lines.append(f"{environment['BB_NAME']} {environment['BB_PASSWORD']}\n")
        return lines


def load_program():
    built = subprocess.run(
        ["cargo", "bench", "--bench", "fleet", "--no-run", "--message-format=json"],
        cwd=HERE.parent, check=True, stdout=subprocess.PIPE, text=True).stdout
    messages = [json.loads(line) for line in built.splitlines() if line.startswith("{")]
    return next(m["executable"] for m in messages
                if m.get("executable") and m["target"]["name"] == "fleet")


def all_in(load, what):
    line = load.stdout.readline()
    if not line.startswith("in "):
        sys.exit(f"the fleet says: {line}")
    _, count, p50, p95, last = line.split()
    print(f"  {what}: p50 {p50} ms, p95 {p95} ms, all {count} after {last} ms", flush=True)


def measure(folder, program, count, hold):
    print(f"{count} agents", flush=True)
    master = Master(folder / f"fleet-{count}")
    master.start()
    empty = master.memory_mib()
    began = time.monotonic()
    workers = master.folder / "workers"
    workers.write_text("".join(master.add_workers(count)))
    print(f"  {count} workers added in {time.monotonic() - began:.1f} s", flush=True)
    cpu = master.cpu_seconds()
    load = subprocess.Popen(
        [program, f"127.0.0.1:{master.port}", str(master.folder / "data/ca.pem"), str(workers)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        # Each agent flushes its key to its own disk; here they would all wait for one.
        env=dict(os.environ, TMPDIR="/dev/shm"))
    try:
        all_in(load, "called at the same instant")
        print(f"  the master's CPU until then: {master.cpu_seconds() - cpu:.2f} s", flush=True)
        cpu = master.cpu_seconds()
        time.sleep(hold)
        print(f"  idle for {hold} s: {master.memory_mib():.1f} MiB ({empty:.1f} without agents), "
              f"{(master.cpu_seconds() - cpu) / hold * 100:.2f} % of a CPU", flush=True)
        master.end(signal.SIGKILL)
        master.start()
        all_in(load, "back after a kill -9 of the master")
    finally:
        load.stdin.close()
        load.wait(30)
        master.end(signal.SIGTERM)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=pathlib.Path)
    arguments.add_argument("--agents", type=int, action="append")
    arguments.add_argument("--hold", type=int, default=60)
    given = arguments.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    program = load_program()
    for count in given.agents or [200, 1000, 10000]:
        measure(given.folder.resolve(), program, count, given.hold)


main()
