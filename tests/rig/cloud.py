"""The rig as its own test sees it: its commands, its API, and words to say what must be so."""
import subprocess
import sys
import time

import boto3
from botocore.exceptions import ClientError

from ec2rig.tools import HERE

USER_DATA = "#!/bin/sh\necho ran >>/root/ran\necho the user-data is here >/dev/console\n"


def rig(*words):
    return subprocess.run([f"{HERE}/rig", *words], text=True, capture_output=True)


def inside(id, *command):
    return rig("exec", id, "--", *command).stdout.strip()


def eventually(what, holds, seconds=30):
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


def same(what, found, expected):
    if found != expected:
        sys.exit(f"NOT SO: {what}: {found!r}, not {expected!r}")
    print(f"ok: {what}", flush=True)


class Cloud:
    def __init__(self, facts, key="x", secret="x"):
        self.facts = facts
        self.image = facts["images"]["debian-12-amd64"]
        self.ec2 = boto3.client("ec2", region_name=facts["region"], endpoint_url=facts["endpoint"],
                                aws_access_key_id=key, aws_secret_access_key=secret)

    def run(self, **more):
        asked = dict(ImageId=self.image, InstanceType="t3.small", MinCount=1, MaxCount=1, UserData=USER_DATA,
                     InstanceInitiatedShutdownBehavior="terminate",
                     MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 1})
        return self.ec2.run_instances(**{**asked, **more})["Instances"][0]["InstanceId"]

    def find(self, id):
        return self.ec2.describe_instances(InstanceIds=[id])["Reservations"][0]["Instances"][0]

    def search(self, size=1000, **filters):
        """The ids that pass, page by page."""
        asked = {"MaxResults": size, "Filters": [{"Name": name.replace("_", "-"), "Values": values}
                                                 for name, values in filters.items()]}
        pages = []
        while True:
            page = self.ec2.describe_instances(**asked)
            pages.append([one["InstanceId"] for group in page["Reservations"] for one in group["Instances"]])
            if not page.get("NextToken"):
                return pages
            asked["NextToken"] = page["NextToken"]

    def state(self, id):
        return self.find(id)["State"]["Name"]

    def refused(self, call=None, **asked):
        """The code with which a call is refused; of RunInstances if none is named."""
        try:
            (call or self.run)(**asked)
        except ClientError as error:
            return error.response["Error"]["Code"]
        return None
