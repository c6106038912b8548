"""Brings what moto says and what really runs together, ten times a second."""
import base64
import ipaddress
import os

from . import metadata
from .api import changing
from .instance import REBOOTED, Instance
from .network import in_background
from .tools import ACCOUNT, NET, log

ENDING = ("shutting-down", "terminated", "stopping", "stopped")


class Hypervisor:
    def __init__(self, images):
        from moto.ec2.models import ec2_backends
        self.backends, self.images = ec2_backends, images
        self.running, self.stopped = {}, {}

    def step(self):
        for backend in list(self.backends[ACCOUNT].values()):
            for reservation in list(backend.reservations.values()):
                for row in list(reservation.instances):
                    self.look_at(backend, row)

    def look_at(self, backend, row):
        state, instance = row._state.name, self.running.get(row.id)
        if instance is None:
            if state == "pending":
                self.boot(backend, row)
            elif state == "terminated" and row.id in self.stopped:
                self.forget(self.stopped.pop(row.id))
        elif instance.ending:
            return
        elif state in ENDING:
            self.end(row, instance)
        elif instance.status() == REBOOTED:
            log("reboot", id=row.id)
            instance.release()
            instance.start()
        elif instance.status() is not None:
            self.shut_itself_down(row, instance)

    def boot(self, backend, row):
        instance = None
        try:
            instance = self.stopped.pop(row.id, None) or Instance(self.facts(backend, row))
            instance.facts["launched"] = launched(row)
            facts = instance.facts
            if ipaddress.ip_address(facts["ip"]) not in NET:
                raise ValueError(f"{facts['ip']} is not in {NET}")
            if not os.path.exists(facts["image"] + "/.rig-image"):
                raise ValueError(f"there is no image {facts['image']}")
            self.running[row.id], row.alive = instance, True
            metadata.by_address[facts["ip"]] = facts
            instance.start()
            with changing:
                # Its end may have been asked for meanwhile.
                if row._state.name == "pending":
                    set_state(row, "running", 16)
                    row.state_reason = None
        except Exception as error:
            log("launch-failed", id=row.id, why=f"{error} {getattr(error, 'stderr', '')}")
            self.running.pop(row.id, None)
            row.alive = False
            row.terminate()
            give_reason(row, "Server.InternalError", str(error))
            if instance:
                instance.release()
                self.forget(instance)

    def facts(self, backend, row):
        card, options = row.nics[0], row.metadata_options
        keys = backend.describe_key_pairs([row.key_name]) if row.key_name else []
        return {
            "id": row.id, "ip": row.private_ip, "mac": card.mac_address, "eni": card.id,
            "user_data": base64.b64decode(str(row.user_data or "")), "type": row.instance_type,
            "ami": row.image_id, "zone": row._placement.zone, "subnet": row.subnet_id, "vpc": row.vpc_id,
            "launched": launched(row), "lifecycle": row.lifecycle or "on-demand",
            "http_tokens": options.http_tokens, "hop_limit": int(options.http_put_response_hop_limit or 1),
            "key": keys[0].material_public if keys else None,
            "root_gb": root_gb(row), "image": self.images.get(row.image_id, f"(none is known by {row.image_id})")}

    def shut_itself_down(self, row, instance):
        terminates = row.instance_initiated_shutdown_behavior == "terminate"
        log("shut-itself-down", id=row.id, status=instance.status(), terminates=terminates)
        with changing:
            if row._state.name not in ENDING:
                if terminates:
                    row.terminate()
                else:
                    row.stop()
                give_reason(row, "Client.InstanceInitiatedShutdown", "Instance initiated shutdown")
        self.end(row, instance)

    def end(self, row, instance):
        instance.ending = True
        in_background(self.end_now, row, instance)

    def end_now(self, row, instance):
        instance.stop()
        with changing:
            # Only now: a stop may have become a termination on the way.
            terminates = row._state.name in ("shutting-down", "terminated")
            row.alive = False
            if terminates:
                self.forget(instance)
                set_state(row, "terminated", 48)
            else:
                self.stopped[row.id] = instance
                set_state(row, "stopped", 80)
            self.running.pop(row.id, None)
            instance.ending = False
        log(row._state.name, id=row.id)

    def forget(self, instance):
        metadata.by_address.pop(instance.facts["ip"], None)
        instance.delete()


def root_gb(row):
    """How large a root disk the launch asked for; None: as the image has it."""
    root = row.block_device_mapping.get("/dev/xvda")
    size = getattr(root, "size", None)
    return int(size) if size else None


def launched(row):
    return row.launch_time.strftime("%Y-%m-%dT%H:%M:%SZ")


def set_state(row, name, code):
    row._state.name, row._state.code = name, code


def give_reason(row, code, message):
    """Of an end that nobody has called for; EC2 then does not say when it began."""
    row.state_reason.code, row.state_reason.message = code, f"{code}: {message}"
    if code != "Client.UserInitiatedShutdown":
        row._reason = row.state_reason.message
