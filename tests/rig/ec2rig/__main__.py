"""The rig's commands: up, down, status, logs, exec, image, left-over."""
import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

from . import api, authority, cgroups, front, metadata, names, network, paper, tools
from .hypervisor import Hypervisor
from .relay import Relay, registries
from .tools import GATEWAY, HERE, HOST, IMAGES, NAME, REGION, RUN, VAR, log, read, sh

UP_SECONDS = 60
DOWN_SECONDS = 15
STEP_SECONDS = 0.1


def up(given):
    running = servers()
    if running:
        sys.exit(f"rig: one is up already (process {running[0]}); `rig down` ends it")
    down(given)  # what a crash has left
    for suite in given.image or ["bookworm"]:
        image(suite)
    os.makedirs(f"{RUN}/i")
    exposed = [word for port in given.expose for word in ("--expose", str(port))]
    with open(f"{RUN}/rig.log", "ab") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "ec2rig", "serve", NAME, *(["--auth"] if given.auth else []), *exposed],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    with open(f"{RUN}/pid", "w") as file:
        file.write(str(server.pid))
    deadline = time.monotonic() + UP_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        if os.path.exists(f"{RUN}/ready"):
            return print(read(f"{RUN}/ready"))
        time.sleep(STEP_SECONDS)
    print(read(f"{RUN}/rig.log"), file=sys.stderr)
    down(given)
    sys.exit("rig: it did not come up")


def serve(given):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    for folder in cgroups.folders("_rig"):
        os.makedirs(folder, exist_ok=True)
        with open(f"{folder}/cgroup.procs", "w") as file:
            file.write(str(os.getpid()))
    tools.has_log = True
    api.hook()
    auth = authority.enable() if given.auth else None
    port = front.serve()
    images = api.register_images()
    known = registries()
    network.up()
    metadata.serve()
    names.serve_dhcp()
    names.serve_dns(known)
    relay = Relay(known)
    relay.http()
    relay.tls()
    for exposed in {port, *given.expose}:
        relay.loopback(exposed)
    facts = {
        "endpoint": f"http://127.0.0.1:{port}", "control": f"http://127.0.0.1:{port}/rig",
        "endpoint_inside": f"http://{GATEWAY}:{port}", "region": REGION, "events": f"{RUN}/events.log",
        "host": HOST, "gateway": GATEWAY, "namespace": tools.NAMESPACE, "registries": len(known),
        "images": {api.image_name(os.path.basename(folder)): id for id, folder in images.items()}}
    if auth:
        facts["auth"] = auth
    with open(f"{RUN}/ready.new", "w") as file:
        json.dump(facts, file)
    os.rename(f"{RUN}/ready.new", f"{RUN}/ready")
    hypervisor = Hypervisor(images)
    while True:
        try:
            hypervisor.step()
        except Exception as error:
            log("step-failed", why=repr(error))
        time.sleep(STEP_SECONDS)


def api_alone(given):
    """The API without machines behind it, until standard input ends. Needs no root."""
    api.hook()
    if given.paper:
        paper.begin()
    endpoint = f"http://127.0.0.1:{front.serve()}"
    facts = {"endpoint": endpoint, "control": f"{endpoint}/rig", "image": api.register_one("debian-12-amd64")}
    if given.policy:
        facts["users"] = {name: authority.make_user(name, policy) for name, policy in (
            ("master", read(given.policy)), ("stranger", authority.LOOK_ONLY))}
        authority.check_every_call()
    print(json.dumps(facts), flush=True)
    sys.stdin.read()


def servers():
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and is_server(name)]


def is_server(process):
    """Of our number and whichever RIG_VAR, if it is in this network: it has the names that ours would have."""
    def network_of(process):
        try:
            return os.readlink(f"/proc/{process}/ns/net")
        except OSError:
            return None
    is_one = f"-m\0ec2rig\0serve\0{NAME}\0" in read(f"/proc/{process}/cmdline")
    return is_one and network_of(process) == network_of("self")


def is_ours(process):
    return f"RIG_VAR={VAR}\0" in read(f"/proc/{process}/environ") + "\0"


def down(_):
    for process in servers():
        if not is_ours(process):
            sys.exit(f"rig: process {process} is the rig of another RIG_VAR")
        os.kill(process, signal.SIGTERM)
        deadline = time.monotonic() + DOWN_SECONDS
        while is_server(process) and time.monotonic() < deadline:
            time.sleep(STEP_SECONDS)
        if is_server(process):
            os.kill(process, signal.SIGKILL)
    for name in cgroups.members():  # whatever a crash has left, too
        cgroups.kill(name)
    cgroups.kill("")
    network.down()
    for line in reversed(read("/proc/mounts").splitlines()):
        if line.split()[1].startswith(f"{RUN}/"):
            sh("umount", line.split()[1], check=False)
    shutil.rmtree(RUN, ignore_errors=True)


def left_over(given):
    """What is still there of a rig that should be gone, or of instances of one that is up."""
    if given.of_instances:
        found = [f"namespace {name}" for name in network.namespaces() if name != tools.NAMESPACE]
        found += [f"mount {line}" for line in read("/proc/mounts").splitlines() if f"{RUN}/i/" in line]
        found += [f"cgroup {name}" for name in cgroups.members() if name != "_rig"]
        print("\n".join(found))
        sys.exit(1 if found else 0)
    found = [f"namespace {name}" for name in network.namespaces()]
    found += [f"link {name}" for name in network.links() if name == tools.HOST_LINK]
    found += [f"mount {line}" for line in read("/proc/mounts").splitlines() if f"{RUN}/" in line]
    found += [f"cgroup {folder}" for folder in cgroups.folders() if os.path.isdir(folder)]
    for process in filter(str.isdigit, os.listdir("/proc")):
        command = read(f"/proc/{process}/cmdline")
        if is_server(process) or (f"{RUN}/i/" in command and int(process) != os.getpid()):
            found.append(f"process {process} {command[:100]!r}")
    if os.path.exists(RUN):
        found.append(f"folder {RUN}")
    print("\n".join(found))
    sys.exit(1 if found else 0)


def image(suite):
    """Does nothing if it is there and up to date."""
    made = subprocess.run([f"{HERE}/mkimage", suite], stdout=sys.stderr, env={**os.environ, "RIG_VAR": VAR})
    if made.returncode:
        sys.exit(f"rig: there is no image {suite}")


def status(_):
    print(read(f"{RUN}/ready", "the rig is not up"))
    for name in sorted(os.listdir(f"{RUN}/i")) if os.path.isdir(f"{RUN}/i") else []:
        print(name, len(cgroups.processes(name)), "processes")


def instances(_):
    """What the API says of every instance there ever was."""
    import boto3
    facts = json.loads(read(f"{RUN}/ready"))
    key = facts.get("auth", {"id": "x", "secret": "x"})
    ec2 = boto3.client("ec2", region_name=facts["region"], endpoint_url=facts["endpoint"],
                       aws_access_key_id=key["id"], aws_secret_access_key=key["secret"])
    found = []
    for page in ec2.get_paginator("describe_instances").paginate():
        for reservation in page["Reservations"]:
            for one in reservation["Instances"]:
                tags = {tag["Key"]: tag["Value"] for tag in one.get("Tags", [])}
                found.append({"id": one["InstanceId"], "state": one["State"]["Name"], "tags": tags,
                              "type": one["InstanceType"], "metadata": one.get("MetadataOptions", {}),
                              "reason": one.get("StateReason", {}).get("Code")})
    print(json.dumps(found))


def fault(given):
    """Sets, adds, shows or clears rules, or does something to an instance, by the control interface."""
    control = given.at or json.loads(read(f"{RUN}/ready", "{}")).get("control")
    if not control:
        sys.exit("rig: it is not up; give --at CONTROL for one that `rig api` has started")
    path, method, said = "/faults", {"set": "PUT", "add": "POST", "clear": "DELETE"}.get(given.what, "GET"), None
    if given.what in ("set", "add"):
        text = sys.stdin.read() if given.arguments[:1] in ([], ["-"]) else " ".join(given.arguments)
        rules = json.loads(text)
        said = rules if "rules" in rules else {"rules": [rules]}
    elif given.what == "instance":
        if len(given.arguments) != 2:
            sys.exit("rig: fault instance ID JSON, as in {\"interrupt\": {\"in\": 120}}")
        path, method, said = f"/instances/{given.arguments[0]}", "POST", json.loads(given.arguments[1])
    elif given.what == "calls":
        path = "/calls"
    body = None if said is None else json.dumps(said).encode()
    request = urllib.request.Request(control + path, body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            print(answer.read().decode().strip())
    except urllib.error.HTTPError as error:
        sys.exit(f"rig: {error.read().decode().strip()}")


def logs(given):
    for folder in (f"{RUN}/i/{given.id}", f"{RUN}/i/{given.id}/upper/var/log", f"{RUN}/logs/{given.id}"):
        for name in ("console.log", "cloud-init-output.log", "user-data.log"):
            if os.path.exists(f"{folder}/{name}"):
                with open(f"{folder}/{name}", errors="replace") as file:
                    print(f"--- {name}\n{file.read()}")


def enter(given):
    """Runs a command inside, as root."""
    first = cgroups.first_process(given.id)
    if first:
        clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"]
        command = given.command[1:] if given.command[:1] == ["--"] else given.command
        os.execvp("nsenter", ["nsenter", "-t", str(first), "-a", *clean, *command])
    sys.exit(f"{given.id} does not run")


def main():
    parser = argparse.ArgumentParser(prog="rig", description="A stand-in for EC2 whose instances boot.")
    commands = parser.add_subparsers(required=True)

    def command(name, work, help):
        made = commands.add_parser(name, help=help)
        made.set_defaults(work=work)
        return made

    for name, work in (("up", up), ("serve", serve)):
        made = command(name, work, "bring it up; prints JSON" if name == "up" else argparse.SUPPRESS)
        if name == "serve":
            made.add_argument("name", help="by which `down` knows this process for its own")
        made.add_argument("--image", action="append", help="build this image first; default: bookworm")
        made.add_argument("--expose", type=int, action="append", default=[], help="a port of this host's loopback")
        made.add_argument("--auth", action="store_true", help="check signatures and policies")
    made = command("api", api_alone, "the API alone, until standard input ends; needs no root")
    made.add_argument("--policy", help="check every call; the user \"master\" may do what this file says")
    made.add_argument("--paper", action="store_true", help="instances' states move on with each listing")
    command("down", down, "end it, also after a crash")
    made = command("left-over", left_over, "exit 1 if anything of it is still there")
    made.add_argument("--of-instances", action="store_true", help="of its instances alone, while it is up")
    command("status", status, "what runs")
    command("instances", instances, "what the API says of each instance, as JSON")
    command("image", lambda given: image(given.suite), "build an image").add_argument("suite")
    made = command("fault", fault, "what goes wrong with calls and instances; README.md has the rules")
    made.add_argument("what", choices=("list", "set", "add", "clear", "instance", "calls"))
    made.add_argument("arguments", nargs="*", help="set and add: JSON, or - for standard input; instance: ID JSON")
    made.add_argument("--at", help="the control address of an API that `rig api` has started")
    command("logs", logs, "the console and logs of an instance").add_argument("id")
    made = command("exec", enter, "run a command in an instance")
    made.add_argument("id")
    made.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    given.work(given)


main()
