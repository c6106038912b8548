"""Where the rig keeps its things, and what every part of it needs."""
import ipaddress
import json
import os
import subprocess
import time

VAR = os.environ.get("RIG_VAR", "/var/tmp/busybee-rig")
HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NUMBER = int(os.environ.get("RIG_NUMBER", "0"))  # there may be several on a machine, from 0 to 9
NAME = f"ec2rig{NUMBER or ''}"
RUN = f"{VAR}/run{NUMBER or ''}"
IMAGES = f"{VAR}/images"

REGION = "us-east-1"
ACCOUNT = "123456789012"  # moto's own

# The default VPC's network: for the first rig the one that it has on AWS.
NET = ipaddress.ip_network(f"172.{31 - NUMBER}.0.0/16")
GATEWAY, DNS, HOST = str(NET[1]), str(NET[2]), str(NET[-2])
IMDS = "169.254.169.254"

# Whether there is a rig whose events are to be written down; the API alone has none.
has_log = False

# The namespace of the LAN, and this host's end of it.
NAMESPACE, HOST_LINK = NAME, f"{NAME}h"


def sh(*words, check=True, **options):
    return subprocess.run([str(word) for word in words], check=check, text=True, capture_output=True, **options)


def log(event, **facts):
    if not has_log:
        return
    line = json.dumps({"t": round(time.time(), 3), "event": event, **facts})
    with open(f"{RUN}/events.log", "a") as file:
        file.write(line + "\n")


def read(path, default=""):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return default
