"""The fault layer: each effect once, by what callers and instances see of it."""
import json
import time
import urllib.error
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from cloud import Cloud, check, eventually, inside, rig, same

SPOT = {"InstanceMarketOptions": {"MarketType": "spot"}}


class Plain(Cloud):
    """A caller that never tries again."""

    def __init__(self, facts):
        super().__init__(facts)
        self.ec2 = boto3.client("ec2", region_name=facts["region"], endpoint_url=facts["endpoint"],
                                aws_access_key_id="x", aws_secret_access_key="x",
                                config=Config(retries={"total_max_attempts": 1}, read_timeout=1))

    def rules(self, *rules, **more):
        said = json.dumps({"rules": list(rules), **more}).encode()
        urllib.request.urlopen(urllib.request.Request(self.facts["control"] + "/faults", said, method="PUT"))

    def count(self):
        return len([one for page in self.search() for one in page])

    def outcome(self, call=None, **asked):
        try:
            (call or self.run)(**asked)
        except ClientError as error:
            return error.response["Error"]["Code"]
        except ConnectionClosedError:
            return "closed"
        except ReadTimeoutError:
            return "late"
        return "done"


def calls(cloud):
    run = {"action": "RunInstances"}
    cloud.rules({**run, "type": "t3.s*", "zone": "us-east-1a", "do": {"refuse": "InsufficientInstanceCapacity"}},
                {**run, "type": "t3.medium", "count": 1, "do": {"refuse": {"code": "VcpuLimitExceeded", "message": "5"}}})
    same("no room for a type", cloud.outcome(InstanceType="t3.small"), "InsufficientInstanceCapacity")
    same("for another there is a limit", cloud.outcome(InstanceType="t3.medium"), "VcpuLimitExceeded")
    same("once", cloud.outcome(InstanceType="t3.medium"), "done")
    same("in another zone there is room", cloud.outcome(Placement={"AvailabilityZone": "us-east-1b"}), "done")
    same("a dry run meets no rule", cloud.refused(DryRun=True), "DryRunOperation")

    listing, before = cloud.ec2.describe_instances, cloud.count()
    cloud.rules({**run, "count": 1, "do": {"lose": "reply"}})
    same("a reply is lost", cloud.outcome(ClientToken="lost"), "closed")
    same("though there is an instance", cloud.count(), before + 1)
    same("the same again brings it", [[cloud.run(ClientToken="lost")]], cloud.search(client_token=["lost"]))
    cloud.rules({**run, "count": 1, "do": {"lose": "request"}})
    same("a request is lost", cloud.outcome(), "closed")
    same("and brings nothing", cloud.count(), before + 1)
    cloud.rules({**run, "count": 1, "do": {"refuse": {"code": "InternalError", "carried_out": True}}})
    same("an error that came after the effect", (cloud.outcome(), cloud.count()), ("InternalError", before + 2))
    cloud.rules({"action": "Describe*", "skip": 1, "count": 1, "do": {"refuse": "RequestLimitExceeded"}})
    same("a limit of calls, at the second", [cloud.outcome(listing) for _ in range(3)],
         ["done", "RequestLimitExceeded", "done"])
    cloud.rules({"action": "DescribeInstances", "count": 1, "do": {"wait": 1.5}})
    same("a slow answer", cloud.outcome(listing), "late")
    cloud.rules({"action": "DescribeInstances", "do": {"page": 1}})
    pages = cloud.search()
    same("small pages", (len(pages) > 3, sum(map(len, pages))), (True, before + 2))
    cloud.rules({"chance": 0.5, "do": {"refuse": "Throttling"}}, seed=3)
    first = [cloud.outcome(listing) for _ in range(20)]
    cloud.rules({"chance": 0.5, "do": {"refuse": "Throttling"}}, seed=3)
    check("the same seed, the same luck", first == [cloud.outcome(listing) for _ in range(20)] and len(set(first)) == 2)
    try:
        cloud.rules({"akshun": "*", "do": {"page": 1}})
    except urllib.error.HTTPError as error:
        check("a rule that is none is refused", "akshun" in error.read().decode())
    cloud.rules()


def tokens(cloud):
    subnets = {one["AvailabilityZone"]: one["SubnetId"] for one in cloud.ec2.describe_subnets()["Subnets"]}
    there = [cloud.run(ClientToken="zones", SubnetId=subnets[zone])
             for zone in ("us-east-1a", "us-east-1b", "us-east-1a")]
    check("a token is of its zone", there[0] == there[2] != there[1])


def instances(cloud):
    cloud.rules({"action": "RunInstances", "count": 1, "do": {"lag": 2}})
    id = cloud.run(ClientToken="lag")
    same("lists are behind", [cloud.search(client_token=["lag"]) for _ in range(3)], [[[]], [[]], [[id]]])
    cloud.rules({"action": "RunInstances", "count": 1, "do": {"die": "Client.VolumeLimitExceeded"}})
    id = cloud.run()
    eventually("an instance dies at once", lambda: cloud.state(id) == "terminated")
    same("with its reason", cloud.find(id)["StateReason"]["Code"], "Client.VolumeLimitExceeded")
    cloud.rules({"action": "RunInstances", "count": 1, "do": {"stop": {"seconds": 0.5}}})
    id = cloud.run()
    eventually("one is stopped by hand", lambda: cloud.state(id) == "stopped")
    cloud.rules({"action": "RunInstances", "count": 1, "do": {"vanish": {"listings": 1}}})
    id = cloud.run(ClientToken="gone")
    same("one is in no list any more", [cloud.search(client_token=["gone"]) for _ in range(3)], [[[id]], [[]], [[]]])
    same("nor known", cloud.outcome(cloud.ec2.terminate_instances, InstanceIds=[id]), "InvalidInstanceID.NotFound")
    cloud.rules()
    urllib.request.urlopen(urllib.request.Request(cloud.facts["control"] + "/faults", method="DELETE"))
    same("until all is forgotten", cloud.search(client_token=["gone"]), [[id]])
    cloud.rules({"action": "RunInstances", "count": 1, "do": {"leave_open": {"seconds": 1}}})
    same("a spot request is left open", cloud.outcome(**SPOT), "SpotMaxPriceTooLow")
    requests = lambda state: [one["SpotInstanceRequestId"] for one in cloud.ec2.describe_spot_instance_requests(
        Filters=[{"Name": "state", "Values": [state]}])["SpotInstanceRequests"]]
    same("one", len(requests("open")), 1)
    eventually("and fulfilled later", lambda: requests("open") == [] and len(requests("active")) == 1)
    found = cloud.ec2.describe_spot_price_history(InstanceTypes=["t3.small"])["SpotPriceHistory"]
    check("there are spot prices", {one["InstanceType"] for one in found} == {"t3.small"})


def imds(id, path):
    fetch = ("t=$(curl -sX PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token); "
             f"curl -sf -H \"X-aws-ec2-metadata-token: $t\" http://169.254.169.254/latest/meta-data/{path}")
    return inside(id, "sh", "-c", fetch)


def notices(cloud):
    id = cloud.run(**SPOT)
    # Before its user-data, cloud-init takes the network up and down again.
    eventually("an instance has booted", lambda: inside(id, "cat", "/root/ran") == "ran")
    same("it is a spot instance", imds(id, "instance-life-cycle"), "spot")
    same("no notice is there", imds(id, "spot/instance-action"), "")
    same("no event", imds(id, "events/maintenance/scheduled"), "[]")
    same("it cannot be stopped", cloud.outcome(cloud.ec2.stop_instances, InstanceIds=[id]), "UnsupportedOperation")
    check("its host is to be retired", rig("fault", "instance", id, '{"retire": {}}').returncode == 0)
    same("which it can read", json.loads(imds(id, "events/maintenance/scheduled"))[0]["Code"], "instance-stop")
    status = cloud.ec2.describe_instance_status(InstanceIds=[id])["InstanceStatuses"][0]
    same("as can the account", [one["Code"] for one in status.get("Events", [])], ["instance-stop"])
    check("it is taken back", rig("fault", "instance", id, '{"interrupt": {"in": 4}}').returncode == 0)
    same("with a notice", json.loads(imds(id, "spot/instance-action"))["action"], "terminate")
    same("before its end", cloud.state(id), "running")
    eventually("which comes", lambda: cloud.state(id) == "terminated")
    same("with its reason", cloud.find(id)["StateReason"]["Code"], "Server.SpotInstanceTermination")


def all_of(facts):
    cloud = Plain(facts)
    began = time.monotonic()
    calls(cloud)
    tokens(cloud)
    instances(cloud)
    notices(cloud)
    cloud.ec2.terminate_instances(InstanceIds=[one for page in cloud.search(instance_state_name=["pending", "running"])
                                               for one in page])
    print(f"ok: faults, {time.monotonic() - began:.0f} s", flush=True)
