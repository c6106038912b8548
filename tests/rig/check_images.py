"""Each kind of image: it runs its user-data, its apt works, and it lacks what its name says."""
import os

from cloud import check, eventually, inside, rig, same
from ec2rig.api import image_name
from ec2rig.tools import HERE

PROJECTS_RUNNER = f"{HERE}/../../bootstrap/ec2-run-user-data"


def all_of(cloud, images):
    """They boot together, as a pool does."""
    started = {image: cloud.run(ImageId=cloud.facts["images"][image_name(image)]) for image in images}
    for image, id in started.items():
        one(image, id)
    cloud.ec2.terminate_instances(InstanceIds=list(started.values()))
    for image, id in started.items():
        eventually(f"{image}: ends", lambda: cloud.state(id) == "terminated")


def one(image, id):
    suite, _, variant = image.partition("-")
    if variant == "nocloudinit" and not os.path.exists(PROJECTS_RUNNER):
        eventually(f"{image}: is up", lambda: "login:" in rig("logs", id).stdout)
        print(f"not tried: {image}: the user-data, since the project has no ec2-run-user-data")
    else:
        # More than one boots on these CPUs.
        eventually(f"{image}: has run the user-data", lambda: inside(id, "cat", "/root/ran") == "ran", seconds=60)
    eventually(f"{image}: apt-get update", lambda: rig("exec", id, "--", "apt-get", "-qq", "update").returncode == 0)
    check(f"{image}: no dependency is broken", rig("exec", id, "--", "apt-get", "-qq", "check").returncode == 0)
    if suite != "noble":
        check(f"{image}: sources of packages", rig("exec", id, "--", "apt-get", "-qq", "--print-uris", "source", "hello").stdout)
    failed = inside(id, "systemctl", "--failed", "--no-legend", "--plain")
    same(f"{image}: no unit failed", failed, "")
    shell = "for tool in curl wget cloud-init; do command -v $tool; done"
    tools = [os.path.basename(path) for path in inside(id, "sh", "-c", shell).split()]
    lacking = {"nocurl": ["curl", "wget"], "nocloudinit": ["cloud-init"]}.get(variant, [])
    same(f"{image}: what is there", tools, [tool for tool in ("curl", "wget", "cloud-init") if tool not in lacking])
    script = "cd /tmp && printf '#!/bin/sh\\n' >x && chmod +x x && ./x && echo runs"
    same(f"{image}: programs in /tmp", inside(id, "sh", "-c", script), "" if variant == "noexec" else "runs")
