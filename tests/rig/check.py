"""What the rest of the tests believe about the rig, tried: `tests/rig/check [IMAGE]...` runs it, as root."""
import json
import os
import signal
import sys

import check_api
import check_auth
import check_faults
import check_images
from cloud import Cloud, check, eventually, inside, rig, same
from ec2rig.tools import RUN, read


def first_boot(cloud):
    found = cloud.ec2.describe_images(Owners=["self"], Filters=[{"Name": "name", "Values": ["debian-12-amd64"]}])
    check("the image is found by owner and name", [one["ImageId"] for one in found["Images"]] == [cloud.image])
    id = cloud.run(ClientToken="one")
    check("an instance is pending at first", cloud.state(id) in ("pending", "running"))
    eventually("cloud-init has run the user-data", lambda: inside(id, "cat", "/root/ran") == "ran")
    eventually("and is done", lambda: "done" in inside(id, "cloud-init", "status"))
    check("a foreign name does not exist", inside(id, "getent", "hosts", "example.com") == "")
    check("apt works", rig("exec", id, "--", "apt-get", "-qq", "update").returncode == 0)
    check("packages' sources are there", "deb-src" in inside(id, "cat", "/etc/apt/sources.list.d/debian.sources"))
    console = cloud.ec2.get_console_output(InstanceId=id).get("Output", "")
    check("the console has what was written to it", "the user-data is here" in console)
    return id


# Prints how many hops the answer to a request for a token may still go.
HOPS = """
import socket, urllib.request
tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
urllib.request.urlopen(urllib.request.Request("http://169.254.169.254/latest/api/token", method="PUT",
                                              headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"}))
tap.settimeout(5)
while True:
    packet = tap.recv(65536)
    if b"HTTP/1.1 200" in packet:
        raise SystemExit(print(packet[8]))
"""


def metadata(cloud, id):
    def status(*more):
        return inside(id, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *more)

    latest = "http://169.254.169.254/latest"
    wish = ("-X", "PUT", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 60")
    same("the metadata service wants a token", status(f"{latest}/meta-data/instance-id"), "401")
    token = ("-H", f"X-aws-ec2-metadata-token: {inside(id, 'curl', '-s', *wish, f'{latest}/api/token')}")
    same("and is content with one", inside(id, "curl", "-s", *token, f"{latest}/meta-data/instance-id"), id)
    same("none is given through a proxy", status(*wish, "-H", "X-Forwarded-For: 10.0.0.1", f"{latest}/api/token"), "403")
    same("nor for a day", status(*wish[:3], wish[3].replace("60", "86400"), f"{latest}/api/token"), "400")
    same("its answer goes one hop", inside(id, "python3", "-c", HOPS), "1")
    far = cloud.run(MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 2})
    eventually("or two", lambda: inside(far, "python3", "-c", HOPS) == "2")
    foreign = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *token, f"{latest}/meta-data/")
    eventually("a token is of one instance", lambda: inside(far, *foreign) == "401")  # its network comes and goes
    cloud.ec2.terminate_instances(InstanceIds=[far])


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
    for image in sys.argv[1:]:
        built = rig("image", image)
        check(f"there is an image {image} {built.stderr}", built.returncode == 0)
    up = rig("up")
    # Outside of `try`: a rig that was up before is somebody's.
    check(f"the rig comes up {up.stderr}", up.returncode == 0)
    try:
        check("a second one does not, over the first", rig("up").returncode != 0)
        cloud = Cloud(json.loads(up.stdout))
        id = first_boot(cloud)
        metadata(cloud, id)
        check_api.tokens(cloud, id)
        stop_and_start(cloud, id)
        end_by_itself(cloud, id)
        check_api.kept(cloud)
        check_api.ends(cloud)
        check_api.lists(cloud)
        check_api.refusals(cloud)
        check_faults.all_of(cloud.facts)
        if sys.argv[1:]:
            check_images.all_of(cloud, sys.argv[1:])
        crash(cloud)
        up = rig("up", "--auth")
        check(f"the rig comes up with keys {up.stderr}", up.returncode == 0)
        check_auth.refusals(json.loads(up.stdout))
    finally:
        rig("down")


main()
