"""What the rest of the tests believe about the rig, tried: `tests/rig/check` runs it, as root."""
import json
import os
import signal
import subprocess
import sys
import time

import boto3
from botocore.exceptions import ClientError

from ec2rig.tools import HERE, RUN, read

RIG = f"{HERE}/rig"
USER_DATA = "#!/bin/sh\necho ran >>/root/ran\necho the user-data is here >/dev/console\n"


def rig(*words):
    return subprocess.run([RIG, *words], text=True, capture_output=True)


def inside(id, *command):
    return rig("exec", id, "--", *command).stdout.strip()


def eventually(what, holds, seconds=60):
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if holds():
            return print(f"ok: {what} ({time.monotonic() - began:.1f} s)", flush=True)
        time.sleep(0.1)
    sys.exit(f"NOT SO within {seconds} s: {what}")


def check(what, holds):
    if not holds:
        sys.exit(f"NOT SO: {what}")
    print(f"ok: {what}", flush=True)


class Cloud:
    def __init__(self, facts):
        self.image = facts["images"]["debian-12-amd64"]
        self.ec2 = boto3.client("ec2", region_name=facts["region"], endpoint_url=facts["endpoint"],
                                aws_access_key_id="x", aws_secret_access_key="x")

    def run(self, **more):
        asked = dict(ImageId=self.image, InstanceType="t3.small", MinCount=1, MaxCount=1, UserData=USER_DATA,
                     InstanceInitiatedShutdownBehavior="terminate",
                     MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 1})
        return self.ec2.run_instances(**{**asked, **more})["Instances"][0]["InstanceId"]

    def find(self, id):
        return self.ec2.describe_instances(InstanceIds=[id])["Reservations"][0]["Instances"][0]

    def state(self, id):
        return self.find(id)["State"]["Name"]

    def refused(self, **asked):
        try:
            self.run(**asked)
        except ClientError as error:
            return error.response["Error"]["Code"]
        return None


def first_boot(cloud):
    found = cloud.ec2.describe_images(Owners=["self"], Filters=[{"Name": "name", "Values": ["debian-12-amd64"]}])
    check("the image is found by owner and name", [one["ImageId"] for one in found["Images"]] == [cloud.image])
    id = cloud.run(ClientToken="one")
    check("an instance is pending at first", cloud.state(id) in ("pending", "running"))
    eventually("cloud-init has run the user-data", lambda: inside(id, "cat", "/root/ran") == "ran")
    eventually("and is done", lambda: "done" in inside(id, "cloud-init", "status"))
    check("the metadata service wants a token",
          inside(id, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://169.254.169.254/latest/") == "401")
    check("a foreign name does not exist", inside(id, "getent", "hosts", "example.com") == "")
    check("apt works", rig("exec", id, "--", "apt-get", "-qq", "update").returncode == 0)
    check("packages' sources are there", "deb-src" in inside(id, "cat", "/etc/apt/sources.list.d/debian.sources"))
    console = cloud.ec2.get_console_output(InstanceId=id).get("Output", "")
    check("the console has what was written to it", "the user-data is here" in console)
    return id


def tokens(cloud, id):
    check("the same token and request give the same instance", cloud.run(ClientToken="one") == id)
    refused = cloud.refused(ClientToken="one", InstanceType="t3.medium")
    check("the same token and another request are refused", refused == "IdempotentParameterMismatch")
    found = cloud.ec2.describe_instances(Filters=[{"Name": "client-token", "Values": ["one"]}])
    check("an instance is found by its token", found["Reservations"][0]["Instances"][0]["InstanceId"] == id)
    check("a dry run says so", cloud.refused(DryRun=True) == "DryRunOperation")


def stop_and_start(cloud, id):
    cloud.ec2.stop_instances(InstanceIds=[id])
    # Pulling the plug comes after 20 s: this is a shutdown that was asked for.
    eventually("it stops in good order", lambda: cloud.state(id) == "stopped", seconds=10)
    cloud.ec2.start_instances(InstanceIds=[id])
    eventually("it starts again", lambda: "done" in inside(id, "cloud-init", "status"))
    check("its disk was kept, and its user-data was not run again", inside(id, "cat", "/root/ran") == "ran")


def end_by_itself(cloud, id):
    rig("exec", id, "--", "systemctl", "--no-block", "poweroff")
    eventually("a shutdown inside is an end outside", lambda: cloud.state(id) == "terminated")
    code = cloud.find(id).get("StateReason", {}).get("Code")
    check("with its reason", code == "Client.InstanceInitiatedShutdown")
    check("its token starts nothing more", cloud.refused(ClientToken="one") == "IdempotentInstanceTerminated")


def crash(cloud):
    for way in ("up", "down"):
        id = cloud.run()
        eventually("an instance runs", lambda: cloud.state(id) == "running")
        os.kill(int(read(f"{RUN}/pid")), signal.SIGKILL)
        after = rig(way)
        check(f"`rig {way}` clears a rig that was killed {after.stderr}", after.returncode == 0)
        if way == "up":
            cloud = Cloud(json.loads(after.stdout))
    left = rig("left-over")
    check(f"and nothing of it is left {left.stdout}", left.returncode == 0)


def main():
    up = rig("up")
    # Outside of `try`: a rig that was up before is somebody's.
    check(f"the rig comes up {up.stderr}", up.returncode == 0)
    try:
        check("a second one does not, over the first", rig("up").returncode != 0)
        cloud = Cloud(json.loads(up.stdout))
        id = first_boot(cloud)
        tokens(cloud, id)
        stop_and_start(cloud, id)
        end_by_itself(cloud, id)
        crash(cloud)
    finally:
        rig("down")


main()
