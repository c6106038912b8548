"""The instance metadata service, version 2: tokens, their hop limit, the tree, user-data."""
import base64
import collections
import http.server
import json
import re
import secrets
import socket
import socketserver
import time
import urllib.parse

from . import outages
from .network import in_background, in_namespace, tcp_listener
from .tools import ACCOUNT, IMDS, NET, log

TOKEN_SECONDS_MAX = 21600

# The instances, by address; the hypervisor keeps it.
by_address = {}
tokens = {}
fetched = collections.Counter()


class Metadata(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "EC2ws"
    sys_version = ""

    def log_message(self, *_):
        pass

    def answer(self, code, body="", **headers):
        content = body if isinstance(body, bytes) else body.encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def do_PUT(self):
        instance = by_address.get(self.client_address[0])
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        seconds = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if instance is None:
            return self.answer(404)
        if self.path != "/latest/api/token":
            return self.answer(405)
        if self.headers.get("X-Forwarded-For"):
            return self.answer(403)
        if not seconds.isdigit() or not 1 <= int(seconds) <= TOKEN_SECONDS_MAX:
            return self.answer(400)
        # The hop limit: the answer dies on the way to anything further off.
        self.connection.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, instance["hop_limit"])
        token = base64.urlsafe_b64encode(secrets.token_bytes(40)).decode()
        tokens[token] = (instance["id"], time.time() + int(seconds))
        self.answer(200, token, X_aws_ec2_metadata_token_ttl_seconds=seconds)

    def do_GET(self):
        instance = by_address.get(self.client_address[0])
        if instance is None:
            return self.answer(404)
        token = self.headers.get("X-aws-ec2-metadata-token")
        if token is not None or instance["http_tokens"] == "required":
            owner, until = tokens.get(token, (None, 0))
            if owner != instance["id"] or until < time.time():
                return self.answer(401)
        path = urllib.parse.urlparse(self.path).path
        if path == "/":
            return self.answer(200, "1.0\n2009-04-04\n2021-03-23\nlatest")
        match = re.match(r"^/(latest|\d{4}-\d\d-\d\d|1\.0)(/.*)?$", path)
        if not match:
            return self.answer(404)
        self.look_up(instance, (match.group(2) or "/").strip("/"))

    do_HEAD = do_GET

    def look_up(self, instance, path):
        if path == "":
            return self.answer(200, "dynamic\nmeta-data\nuser-data")
        if path == "user-data":
            fetched[instance["id"]] += 1
            log("user-data", id=instance["id"], nth=fetched[instance["id"]])
            return self.answer(200, instance["user_data"]) if instance["user_data"] else self.answer(404)
        node = tree(instance)
        for part in path.split("/"):
            if not isinstance(node, dict) or part not in node:
                return self.answer(404)
            node = node[part]
        if isinstance(node, dict):
            node = "\n".join(name + ("/" if isinstance(value, dict) else "") for name, value in node.items())
        self.answer(200, node)


def tree(instance):
    zone = instance["zone"]
    name = "ip-" + instance["ip"].replace(".", "-") + ".ec2.internal"
    document = json.dumps({
        "accountId": ACCOUNT, "architecture": "x86_64", "availabilityZone": zone, "imageId": instance["ami"],
        "instanceId": instance["id"], "instanceType": instance["type"], "pendingTime": instance["launched"],
        "privateIp": instance["ip"], "region": zone[:-1], "version": "2017-09-30"}, indent=2)
    card = {
        "device-number": "0", "interface-id": instance["eni"], "local-hostname": name,
        "local-ipv4s": instance["ip"], "mac": instance["mac"], "owner-id": ACCOUNT,
        "security-groups": "default", "subnet-id": instance["subnet"], "subnet-ipv4-cidr-block": str(NET),
        "vpc-id": instance["vpc"], "vpc-ipv4-cidr-block": str(NET)}
    data = {
        "ami-id": instance["ami"], "ami-launch-index": "0", "hostname": name, "instance-action": "none",
        "block-device-mapping": {"ami": "/dev/xvda", "root": "/dev/xvda"}, "instance-id": instance["id"],
        "instance-life-cycle": instance["lifecycle"], "instance-type": instance["type"],
        "local-hostname": name, "local-ipv4": instance["ip"], "mac": instance["mac"],
        "network": {"interfaces": {"macs": {instance["mac"]: card}}},
        "placement": {"availability-zone": zone, "region": zone[:-1]}, "profile": "default-hvm",
        "reservation-id": "r-0", "security-groups": "default",
        "services": {"domain": "amazonaws.com", "partition": "aws"}}
    notice = outages.notices.get(instance["id"], {})
    events = [{"Code": one["code"], "EventId": one["id"], "State": "active",
               "Description": "The instance is running on degraded hardware",
               "NotBefore": one["at"].strftime("%d %b %Y %H:%M:%S GMT")} for one in notice.get("events", [])]
    data["events"] = {"maintenance": {"history": "[]", "scheduled": json.dumps(events)}}
    if "spot" in notice:
        action = json.dumps({"action": "terminate", "time": notice["spot"]})
        data["spot"] = {"instance-action": action, "termination-time": notice["spot"]}
        data["events"]["recommendations"] = {"rebalance": json.dumps({"noticeTime": notice["spot"]})}
    if instance["key"]:
        data["public-keys"] = {"0": {"openssh-key": instance["key"]}}
    return {"meta-data": data, "dynamic": {"instance-identity": {"document": document}}}


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, listener):
        socketserver.BaseServer.__init__(self, (IMDS, 80), Metadata)
        self.socket = listener
        self.server_name, self.server_port = IMDS, 80

    def handle_error(self, *_):
        pass  # a client that went away


def serve():
    server = Server(in_namespace(lambda: tcp_listener(IMDS, 80)))
    in_background(server.serve_forever)
