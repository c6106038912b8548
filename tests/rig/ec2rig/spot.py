"""A spot price that is too low: the launch is refused, and its request stays open, as EC2's error codes say."""
from . import refusals

PRICE = 0.001  # dollars an hour, for every type


def hook():
    from moto.ec2.models.spot_requests import SpotInstanceRequest
    from moto.ec2.responses.instances import InstanceResponse
    from moto.ec2.utils import random_spot_request_id
    run = InstanceResponse.run_instances

    class Open(SpotInstanceRequest):
        """One that has brought no instance."""
        instance_id = None

        def launch_instance(self):
            return None

    def leave_open(request, price):
        of_launch = {name: request._get_param(name) for name in ("ImageId", "KeyName", "InstanceType", "ClientToken")}
        known = request.ec2_backend.spot_instance_requests
        token = of_launch["ClientToken"]
        if token and any(getattr(one, "token", None) == token for one in known.values()):
            return
        made = Open(
            ec2_backend=request.ec2_backend, spot_request_id=random_spot_request_id(), price=price,
            image_id=of_launch["ImageId"], spot_instance_type="one-time", valid_from=None, valid_until=None,
            launch_group=None, availability_zone_group=None, key_name=of_launch["KeyName"], security_groups=[],
            user_data=None, instance_type=of_launch["InstanceType"], placement=None, kernel_id=None, ramdisk_id=None,
            monitoring_enabled=False, subnet_id=None, tags=request._parse_tag_specification(), spot_fleet_id=None,
            instance_interruption_behaviour=None)
        made.state, made._status_code, made.token = "open", "price-too-low", token
        known[made.id] = made

    def run_at_a_price(self):
        price = self._get_param("InstanceMarketOptions.SpotOptions.MaxPrice")
        if price is None or float(price) >= PRICE or self._get_param("DryRun"):
            return run(self)
        leave_open(self, price)
        raise refusals.refusal(
            "SpotMaxPriceTooLow", f"Your Spot request price of {price} is lower than the minimum required, {PRICE}.")

    InstanceResponse.run_instances = run_at_a_price
