"""Each instance has its cgroup: for its limits, and so that nothing of it can stay behind."""
import os
import re
import signal
import time

from .tools import NAME, read

ROOT = "/sys/fs/cgroup"


def roots():
    if os.path.exists(f"{ROOT}/cgroup.controllers"):
        return [ROOT]
    return [f"{ROOT}/{name}" for name in ("systemd", "unified", "memory", "pids") if os.path.isdir(f"{ROOT}/{name}")]


def folders(name=""):
    return [os.path.join(root, NAME, name).rstrip("/") for root in roots()]


def members():
    names = set()
    for folder in folders():
        if os.path.isdir(folder):
            names |= {name for name in os.listdir(folder) if os.path.isdir(f"{folder}/{name}")}
    return names


def processes(name):
    found = set()
    for folder in folders(name):
        for inner, _, _ in os.walk(folder):
            try:
                with open(f"{inner}/cgroup.procs") as file:
                    found |= {int(word) for word in file.read().split()}
            except OSError:
                pass
    return found


def first_process(name):
    """The one that is PID 1 in its own namespace, if it has begun."""
    for process in processes(name):
        if re.search(r"^NSpid:\s+\d+\s+1$", read(f"/proc/{process}/status"), re.M):
            return process
    return None


def make(name, memory_mib):
    limits = {"memory.limit_in_bytes": memory_mib << 20, "memory.max": memory_mib << 20, "pids.max": 8192}
    for folder in folders(name):
        os.makedirs(folder, exist_ok=True)
        for limit, value in limits.items():
            if os.path.exists(f"{folder}/{limit}"):
                with open(f"{folder}/{limit}", "w") as file:
                    file.write(str(value))


def kill(name):
    """Everything in it, however often it forks meanwhile; then the group itself."""
    for _ in range(100):
        left = processes(name)
        if not left:
            break
        for process in left:
            try:
                os.kill(process, signal.SIGKILL)
            except OSError:
                pass
        time.sleep(0.05)
    for folder in folders(name):
        for inner, _, _ in os.walk(folder, topdown=False):
            remove(inner)


def remove(folder):
    for _ in range(20):
        try:
            return os.rmdir(folder)
        except FileNotFoundError:
            return None
        except OSError:
            time.sleep(0.05)
