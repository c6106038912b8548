"""Spot: a price that is too low, whose launch is refused while its request stays open, as EC2's error codes say; what
spot instances may not do; what they cost."""
import datetime

from . import refusals
from .tools import ACCOUNT, REGION

MINIMUM = 0.001  # dollars an hour, for every type

# "t3.small" or "t3.small/us-east-1a" -> [["2026-01-31T12:00:00Z", "0.0062"], …], the newest first.
prices = {}


def hook():
    from moto.ec2.models.instances import Instance
    from moto.ec2.responses.instances import InstanceResponse
    from moto.ec2.responses.spot_instances import SpotInstances
    run, stop = InstanceResponse.run_instances, Instance.stop

    def run_at_a_price(self):
        price = self._get_param("InstanceMarketOptions.SpotOptions.MaxPrice")
        if price is None or float(price) >= MINIMUM or self._get_param("DryRun"):
            return run(self)
        open_one({name: said[0] if isinstance(said, list) else said for name, said in self.data.items()})
        raise refusals.refusal(
            "SpotMaxPriceTooLow", f"Your Spot request price of {price} is lower than the minimum required, {MINIMUM}.")

    def stop_on_demand(self, *arguments):
        if self.lifecycle == "spot":
            message = (f"You can't stop the Spot Instance '{self.id}' because it is associated with a one-time Spot "
                       "Instance request. You can only stop Spot Instances associated with persistent Spot Instance "
                       "requests.")
            raise refusals.refusal("UnsupportedOperation", message)
        return stop(self, *arguments)

    InstanceResponse.run_instances = run_at_a_price
    Instance.stop = stop_on_demand
    SpotInstances.describe_spot_price_history = price_history


def open_one(fields):
    """A request of these fields that has brought no instance; nothing where the token has left one before."""
    from moto.ec2.models import ec2_backends
    from moto.ec2.models.spot_requests import SpotInstanceRequest
    from moto.ec2.utils import random_spot_request_id

    class Open(SpotInstanceRequest):
        instance_id = None

        def launch_instance(self):
            return None

    backend = ec2_backends[ACCOUNT][REGION]
    known, token = backend.spot_instance_requests, fields.get("ClientToken")
    if token and any(getattr(one, "token", None) == token for one in known.values()):
        return None
    made = Open(
        ec2_backend=backend, spot_request_id=random_spot_request_id(),
        price=fields.get("InstanceMarketOptions.SpotOptions.MaxPrice"), image_id=fields.get("ImageId"),
        spot_instance_type="one-time", valid_from=None, valid_until=None, launch_group=None,
        availability_zone_group=None, key_name=fields.get("KeyName"), security_groups=[], user_data=None,
        instance_type=fields.get("InstanceType"), placement=None, kernel_id=None, ramdisk_id=None,
        monitoring_enabled=False, subnet_id=None, tags={"spot-instances-request": tags_of(fields)}, spot_fleet_id=None,
        instance_interruption_behaviour=None)
    made.state, made._status_code, made.token = "open", "price-too-low", token
    known[made.id] = made
    return made


def tags_of(fields):
    """Those that a launch gives to its spot request."""
    found = {}
    for name, value in fields.items():
        if name.endswith(".ResourceType") and value == "spot-instances-request":
            start = name[:-len("ResourceType")] + "Tag."
            for key in fields:
                if key.startswith(start) and key.endswith(".Key"):
                    found[fields[key]] = fields.get(key[:-len("Key")] + "Value", "")
    return found


def states():
    from moto.ec2.models import ec2_backends
    return [{"id": one.id, "state": one.state, "token": getattr(one, "token", None)}
            for backend in list(ec2_backends[ACCOUNT].values()) for one in list(backend.spot_instance_requests.values())]


def set_prices(said):
    prices.clear()
    prices.update(said)


def price_history(self):
    """By default two prices for each type that is asked for, in each zone: a third of a cent an hour, and what it was a
    day ago."""
    from moto.core.responses import ActionResult
    kinds = self._get_param("InstanceTypes", []) or sorted({name.split("/")[0] for name in prices})
    wanted = self._filters_from_querystring()
    zones = [zone.name for zone in self.ec2_backend.describe_availability_zones()]
    now = datetime.datetime.now(datetime.timezone.utc)
    usual = [[(now - datetime.timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ"), price]
             for days, price in ((0, "0.003300"), (1, "0.003200"))]
    found = []
    for kind in kinds:
        for zone in zones:
            if zone not in wanted.get("availability-zone", [zone]):
                continue
            for at, price in prices.get(f"{kind}/{zone}", prices.get(kind, usual)):
                found.append({"InstanceType": kind, "AvailabilityZone": zone, "SpotPrice": price, "Timestamp": at,
                              "ProductDescription": "Linux/UNIX"})
    return ActionResult({"SpotPriceHistory": found})
