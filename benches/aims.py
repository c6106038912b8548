#!/usr/bin/env python3
"""Measures what the CI benchmark does not: `benches/aims.py FOLDER [--builds N]`.

FOLDER is scratch space. Prints: a bare fork and exec of `sh -c true`; a line's way from a step to a
browser's event stream; the master's start and its pages with N builds (default 1,000,000: 2.5 GB) in
the store. `BUSYBEE_PROGRAMS` names the folder of the two programs. Loopback only; ends what it starts.
"""
import argparse
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
PROGRAMS = pathlib.Path(os.environ.get("BUSYBEE_PROGRAMS", HERE.parent / "target/release")).resolve()
BUSYBEE = str(PROGRAMS / "busybee")
LINES = 100
PIPELINE = """version: 1
jobs:
  tell:
    steps:
      - run: |
          for i in $(seq %d); do date +%%s.%%N; sleep 0.05; done
""" % LINES


def percentiles(values):
    values = sorted(values)
    return f"p50 {values[len(values) // 2]:.2f} ms, p95 {values[int(len(values) * 0.95)]:.2f} ms"


def bare_exec():
    times = []
    for _ in range(300):
        began = time.perf_counter()
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", "true"], os.environ)
        os.waitpid(pid, 0)
        times.append((time.perf_counter() - began) * 1000)
    print("bare fork and exec of sh -c true:", percentiles(times))


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Master:
    """A master over the files that a demo has left."""

    def __init__(self, folder):
        self.folder, self.process = folder, None
        shutil.rmtree(folder, ignore_errors=True)
        demo = [BUSYBEE, "demo", "--exit", "--data-dir", str(folder)]
        subprocess.run(demo, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
        self.config = folder / "busybee.toml"
        self.port = free_port()
        self.config.write_text(self.config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{self.port}"))

    def start(self):
        began = time.monotonic()
        self.process = subprocess.Popen(
            [BUSYBEE, "serve", "--config", str(self.config)],
            stdout=subprocess.DEVNULL, stderr=open(self.folder / "master.log", "w"))
        while True:
            try:
                self.get("/")
                return (time.monotonic() - began) * 1000
            except OSError:
                if self.process.poll() is not None or time.monotonic() - began > 60:
                    sys.exit((self.folder / "master.log").read_text())
                time.sleep(0.002)

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        # A local worker outlives its master; nobody wants these any more.
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            workers = json.loads(self.get("/api/v1/workers"))["workers"]
            if not workers:
                break
            for worker in workers:
                stop = [BUSYBEE, "worker", "stop", worker["name"], "--config", str(self.config)]
                subprocess.run(stop, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(0.2)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)

    def get(self, path, stream=False):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer if stream else answer.read()


def line_to_stream(master):
    work = master.folder / "hello"
    (work / ".busybee.yaml").write_text(PIPELINE)
    git = ["git", "-C", str(work), "-c", "user.name=b", "-c", "user.email=b@example.com"]
    subprocess.run(git + ["commit", "-qam", "Tell the time"], check=True)
    subprocess.run(git + ["push", "-q", "origin", "main"], check=True)
    master.start()
    # The demo has paused its pool, so that it could end.
    subprocess.run([BUSYBEE, "pool", "resume", "local", "--config", str(master.config)],
                   check=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if b'"status":"running"' in master.get("/api/v1/projects/hello/builds/2").replace(b" ", b""):
            break
        time.sleep(0.02)
    url = "/projects/hello/builds/2/lines?job=tell&step=1&attempt=1&at=0-1-"
    answer, seen = master.get(url, stream=True), {}
    if answer.status != 200:
        sys.exit(f"{url}: {answer.status} {answer.read().decode()[-900:]}")
    while len(seen) < LINES and time.monotonic() < deadline:
        for stamp in re.findall(rb"\d{10}\.\d{9}", answer.readline()):
            seen.setdefault(stamp, (time.time() - float(stamp)) * 1000)
    print(f"line to a browser's event stream ({len(seen)} lines):", percentiles(seen.values()))
    master.stop()


def many_builds(master, count):
    seed = [sys.executable, str(HERE / "seed_builds.py"), str(master.folder / "data/busybee.sqlite3"), str(count)]
    subprocess.run(seed, check=True, stdout=subprocess.DEVNULL)
    for drop in (False, True):
        if drop and os.geteuid() == 0:
            os.sync()
            pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
        ms = master.start()
        print(f"start with {count} builds, page cache {'dropped' if drop else 'warm'}: {ms:.0f} ms")
        for path in ("/", "/projects/hello", f"/projects/hello/builds/{count // 2}", "/instances", "/workers"):
            connection = http.client.HTTPConnection("127.0.0.1", master.port)
            times = []
            for _ in range(200):
                began = time.perf_counter()
                connection.request("GET", path)
                size = len(connection.getresponse().read())
                times.append((time.perf_counter() - began) * 1000)
            print(f"  {path} {size} bytes: median {sorted(times)[100]:.2f} ms, p99 {sorted(times)[197]:.2f} ms")
        master.stop()


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=pathlib.Path)
    arguments.add_argument("--builds", type=int, default=1_000_000)
    given = arguments.parse_args()
    bare_exec()
    master = Master(given.folder.resolve() / "aims")
    try:
        line_to_stream(master)
        many_builds(master, given.builds)
    finally:
        master.stop()


main()
