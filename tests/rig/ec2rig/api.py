"""What moto leaves out of EC2's API: states that take time, ClientTokens, console output, real images."""
import base64
import copy
import datetime
import hashlib
import os
import re
import threading

from . import account, refusals, spot
from .faults import subnet_of, zone_of
from .tools import ACCOUNT, IMAGES, NET, REGION, RUN, log

CONSOLE_BYTES = 64 * 1024

# Why, and when: StateTransitionReason.
ASKED = "User initiated (%Y-%m-%d %H:%M:%S GMT)"

DISTRIBUTIONS = {
    "bullseye": "debian-11", "bookworm": "debian-12", "trixie": "debian-13", "noble": "ubuntu-24.04"}

# ClientToken and its scope -> (digest of the request, the reservation).
launched = {}
launching = threading.Lock()

# Requests and the hypervisor both change states: held from the look at one to its change.
changing = threading.RLock()


def hook():
    account.hook()
    default_network()
    addresses_given_once()
    slow_states()
    spot.hook()  # after: what may not be stopped is refused before its state is looked at
    refusals.hook()
    client_tokens()  # last: the same request again is not checked again
    console_output()


def default_network():
    """The VPC that an account begins with has this rig's network."""
    from moto.ec2.models.vpcs import VPCBackend
    create = VPCBackend.create_vpc

    def created(self, cidr_block, *arguments, is_default=False, **options):
        return create(self, str(NET) if is_default else cidr_block, *arguments, is_default=is_default, **options)

    VPCBackend.create_vpc = created


def addresses_given_once():
    """Whose address it was may still shut down, and would be heard as the next one to have it."""
    from moto.ec2.models.subnets import Subnet
    Subnet.del_subnet_ip = lambda self, ip: None


def image_name(folder):
    """`bookworm-nocurl` is `debian-12-nocurl-amd64`."""
    suite, _, variant = folder.partition("-")
    return "-".join(part for part in (DISTRIBUTIONS.get(suite, suite), variant, "amd64") if part)


def register_images():
    """An AMI for each image that was built; AMI id -> its folder."""
    from moto.ec2.models import ec2_backends
    from moto.ec2.models.amis import Ami
    backend = ec2_backends[ACCOUNT][REGION]
    backend.amis.clear()  # moto's own, of which none boots
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


def register_one(name):
    """An AMI with nothing behind it."""
    from moto.ec2.models import ec2_backends
    from moto.ec2.models.amis import Ami
    backend = ec2_backends[ACCOUNT][REGION]
    id = "ami-" + hashlib.sha1(name.encode()).hexdigest()[:17]
    backend.amis[id] = Ami(backend, id, name=name, description=name, architecture="x86_64",
                           virtualization_type="hvm", root_device_type="ebs", root_device_name="/dev/xvda")
    return id


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
        self.state_reason = model.StateReason("pending", "pending")

    def ends(change, name, code):
        def changed(self, *arguments):
            with changing:
                if self._state.name in ("shutting-down", "terminated"):
                    if name == "stopping":
                        raise wrong_state(self, "stopped")
                    return copy.copy(self._state)
                before = change(self, *arguments)
                self._reason = datetime.datetime.now(datetime.timezone.utc).strftime(ASKED)
                log("asked-to-end", id=self.id, to=name)
                if self.alive:
                    self._state.name, self._state.code = name, code
                return before
        return changed

    def starts(self, *arguments):
        with changing:
            if self._state.name in ("pending", "running"):
                return copy.copy(self._state)
            if self._state.name != "stopped":
                raise wrong_state(self, "started")
            before = start(self, *arguments)
            self._state.name, self._state.code = "pending", 0
            self.launch_time = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=self.launch_time.tzinfo)
            return before

    kind.__init__ = begin
    kind.terminate = ends(terminate, "shutting-down", 32)
    kind.stop = ends(stop, "stopping", 64)
    kind.start = starts


def wrong_state(row, wanted):
    message = f"The instance '{row.id}' is not in a state from which it can be {wanted}."
    return refusals.refusal("IncorrectInstanceState", message)


def client_tokens():
    """The same token and request give the same instances; see the EC2 developer guide, "Ensuring
    idempotency". Also the filter `client-token`."""
    from moto.core.responses import ActionResult
    from moto.ec2 import utils
    from moto.ec2.responses.instances import InstanceResponse
    utils.filter_dict_attribute_mapping["client-token"] = "client_token"
    # An instance that was there before is not pending in the answer.
    InstanceResponse.RESPONSE_KEY_PATH_TO_TRANSFORMER.pop("RunInstances.Reservation.Instances.Instance.State")
    run = InstanceResponse.run_instances

    def once(self):
        with launching:
            return once_at_a_time(self)

    def once_at_a_time(self):
        token = self._get_param("ClientToken")
        if not token or self._get_param("DryRun"):
            return run(self)
        # With a subnet a token is of that zone, without one of the region.
        fields = {name: said[0] if isinstance(said, list) else said for name, said in self.data.items()}
        token = (token, zone_of(fields) if subnet_of(fields) else None)
        digest = hashlib.sha256(repr(sorted(self.data.items())).encode()).hexdigest()
        if token in launched:
            before, reservation = launched[token]
            if before != digest:
                message = "Arguments on this idempotent request are inconsistent with arguments used before."
                raise refusals.refusal("IdempotentParameterMismatch", message)
            if all(one._state.name in ("shutting-down", "terminated") for one in reservation.instances):
                message = f"The instance of client token {token[0]} was terminated."
                raise refusals.refusal("IdempotentInstanceTerminated", message)
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
