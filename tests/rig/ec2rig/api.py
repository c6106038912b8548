"""What moto leaves out of EC2's API: states that take time, ClientTokens, console output, real images."""
import base64
import datetime
import hashlib
import json
import os
import re

from .tools import ACCOUNT, IMAGES, REGION, RUN

CONSOLE_BYTES = 64 * 1024

DISTRIBUTIONS = {
    "bullseye": "debian-11", "bookworm": "debian-12", "trixie": "debian-13", "noble": "ubuntu-24.04"}

# ClientToken -> (digest of the request, the reservation).
launched = {}


def hook():
    slow_states()
    client_tokens()
    console_output()


def image_name(folder):
    """`bookworm-nocurl` is `debian-12-nocurl-amd64`."""
    suite, _, variant = folder.partition("-")
    return "-".join(part for part in (DISTRIBUTIONS.get(suite, suite), variant, "amd64") if part)


def register_images():
    """An AMI for each image that was built; AMI id -> its folder."""
    from moto.ec2.models import ec2_backends
    from moto.ec2.models.amis import Ami
    backend = ec2_backends[ACCOUNT][REGION]
    known = {}
    for folder in sorted(os.listdir(IMAGES)):
        if not os.path.exists(f"{IMAGES}/{folder}/.rig-image"):
            continue
        id = "ami-" + hashlib.sha1(folder.encode()).hexdigest()[:17]
        made = datetime.datetime.fromtimestamp(os.path.getmtime(f"{IMAGES}/{folder}/.rig-image"), datetime.timezone.utc)
        backend.amis[id] = Ami(
            backend, id, name=image_name(folder), description=folder, architecture="x86_64",
            virtualization_type="hvm", hypervisor="xen", root_device_type="ebs", root_device_name="/dev/xvda",
            image_location=f"rig/{folder}", creation_date=made.replace(tzinfo=None))
        known[id] = f"{IMAGES}/{folder}"
    return known


LOOK_ONLY = """{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Action": ["ec2:DescribeInstances", "ec2:DescribeImages"], "Resource": "*"}]}"""


def register_one(name):
    """An AMI with nothing behind it."""
    from moto.ec2.models import ec2_backends
    from moto.ec2.models.amis import Ami
    backend = ec2_backends[ACCOUNT][REGION]
    id = "ami-" + hashlib.sha1(name.encode()).hexdigest()[:17]
    backend.amis[id] = Ami(backend, id, name=name, description=name, architecture="x86_64",
                           virtualization_type="hvm", root_device_type="ebs", root_device_name="/dev/xvda")
    return id


def actions_of(policy):
    """A policy by its actions alone: moto looks at neither resources nor conditions."""
    statements = [{"Effect": one["Effect"], "Action": one["Action"], "Resource": "*"}
                  for one in json.loads(policy)["Statement"]]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def make_user(endpoint, name, policy):
    """A user with this policy, and its key."""
    import boto3
    iam = boto3.client("iam", region_name=REGION, endpoint_url=endpoint,
                       aws_access_key_id="x", aws_secret_access_key="x")
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=actions_of(policy))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return {"id": key["AccessKeyId"], "secret": key["SecretAccessKey"]}


def slow_states():
    """pending, shutting-down and stopping last until the userland behind has come or gone, and an
    instance without a subnet is in the default one."""
    from moto.ec2.models import instances as model
    kind = model.Instance
    init, terminate, stop, start = kind.__init__, kind.terminate, kind.stop, kind.start

    def begin(self, backend, image_id, user_data, groups, **options):
        cards = options.get("nics") or []
        if not options.get("subnet_id") and not any(card.get("SubnetId") for card in cards):
            zone = options.get("placement") or f"{backend.region_name}a"
            subnet = backend.get_default_subnets()[zone].id
            if cards:
                cards[0]["SubnetId"] = subnet
            else:
                options["subnet_id"] = subnet
        init(self, backend, image_id, user_data, groups, **options)
        self.alive = False
        self._state = model.InstanceState("pending", 0)

    def takes_time(change, name, code, only_alive=True):
        def changed(self, *arguments):
            if self._state.name == "terminated":
                return self._state  # as EC2: an end that has come is no error
            before = change(self, *arguments)
            if self.alive or not only_alive:
                self._state.name, self._state.code = name, code
            return before
        return changed

    kind.__init__ = begin
    kind.terminate = takes_time(terminate, "shutting-down", 32)
    kind.stop = takes_time(stop, "stopping", 64)
    kind.start = takes_time(start, "pending", 0, only_alive=False)


def client_tokens():
    """The same token and request give the same instances; see the EC2 developer guide, "Ensuring
    idempotency". Also the filter `client-token`."""
    from moto.core.responses import ActionResult
    from moto.ec2 import utils
    from moto.ec2.exceptions import EC2ClientError
    from moto.ec2.responses.instances import InstanceResponse
    utils.filter_dict_attribute_mapping["client-token"] = "client_token"
    run = InstanceResponse.run_instances

    def once(self):
        token = self._get_param("ClientToken")
        if not token:
            return run(self)
        digest = hashlib.sha256(repr(sorted(self.data.items())).encode()).hexdigest()
        if token in launched:
            before, reservation = launched[token]
            if before != digest:
                message = "Arguments on this idempotent request are inconsistent with arguments used before."
                raise EC2ClientError("IdempotentParameterMismatch", message)
            if all(one._state.name in ("shutting-down", "terminated") for one in reservation.instances):
                message = f"The instance of client token {token} was terminated."
                raise EC2ClientError("IdempotentInstanceTerminated", message)
            return ActionResult(reservation)
        result = run(self)
        launched[token] = (digest, result.result)
        return result

    InstanceResponse.run_instances = once


def console_output():
    from moto.core.responses import ActionResult
    from moto.ec2.responses.general import General

    def get(self):
        instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
        text = b""
        for path in (f"{RUN}/i/{instance.id}/console.log", f"{RUN}/logs/{instance.id}/console.log"):
            if os.path.exists(path):
                with open(path, "rb") as file:
                    text = file.read()[-CONSOLE_BYTES:]
                break
        plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", text)
        now = datetime.datetime.now(datetime.timezone.utc)
        output = base64.b64encode(plain).decode()
        return ActionResult({"InstanceId": instance.id, "Timestamp": now, "Output": output})

    General.get_console_output = get
