"""What the provisioner believes about EC2's answers, tried on moto with the rig's corrections."""
import os
import re

from cloud import check, eventually, same
from ec2rig.tools import RUN


def kept(cloud):
    """What a launch asked for is there again in the lists."""
    id = cloud.run(
        ClientToken="kept", InstanceMarketOptions={"MarketType": "spot"},
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {
            "VolumeSize": 20, "VolumeType": "gp3", "DeleteOnTermination": True}}],
        TagSpecifications=[{"ResourceType": kind, "Tags": [{"Key": "rig", "Value": kind}]}
                           for kind in ("instance", "volume", "spot-instances-request")])
    found = cloud.find(id)
    same("the client token is in the list", found["ClientToken"], "kept")
    same("an instance has its tags", found["Tags"], [{"Key": "rig", "Value": "instance"}])
    same("it is a spot instance", found["InstanceLifecycle"], "spot")
    options = found["MetadataOptions"]
    same("metadata options", (options["HttpTokens"], options["HttpPutResponseHopLimit"]), ("required", 1))
    volume = found["BlockDeviceMappings"][0]["Ebs"]
    check("its volume goes with it", volume["DeleteOnTermination"])
    volume = cloud.ec2.describe_volumes(VolumeIds=[volume["VolumeId"]])["Volumes"][0]
    same("the volume has its tags", volume["Tags"], [{"Key": "rig", "Value": "volume"}])
    same("and its size and type", (volume["Size"], volume["VolumeType"]), (20, "gp3"))
    behaviour = cloud.ec2.describe_instance_attribute(InstanceId=id, Attribute="instanceInitiatedShutdownBehavior")
    same("the shutdown behaviour", behaviour["InstanceInitiatedShutdownBehavior"]["Value"], "terminate")
    eventually("it runs", lambda: cloud.state(id) == "running")
    check("and has no reason for it", "StateReason" not in cloud.find(id))
    cloud.ec2.terminate_instances(InstanceIds=[id])
    same("an end by the API takes its time", cloud.state(id), "shutting-down")
    eventually("and comes", lambda: cloud.state(id) == "terminated")
    same("with its reason", cloud.find(id)["StateReason"]["Code"], "Client.UserInitiatedShutdown")
    words = cloud.find(id)["StateTransitionReason"]
    check("and when it was asked for", re.fullmatch(r"User initiated \(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d GMT\)", words))


def tokens(cloud, id):
    """`id` was started with the token `one`."""
    same("the same token and request give the same instance", cloud.run(ClientToken="one"), id)
    same("the same token and another request are refused",
         cloud.refused(ClientToken="one", InstanceType="t3.medium"), "IdempotentParameterMismatch")
    same("an instance is found by its token", cloud.search(client_token=["one"]), [[id]])
    same("a dry run says so", cloud.refused(DryRun=True), "DryRunOperation")
    same("and with a token that was used, too", cloud.refused(ClientToken="one", DryRun=True), "DryRunOperation")


def ends(cloud):
    """One end that meets another."""
    id = cloud.run()
    eventually("another runs", lambda: cloud.state(id) == "running")
    cloud.ec2.stop_instances(InstanceIds=[id])
    same("what is stopping cannot be started", cloud.refused(cloud.ec2.start_instances, InstanceIds=[id]),
         "IncorrectInstanceState")
    address = cloud.find(id)["PrivateIpAddress"]
    cloud.ec2.terminate_instances(InstanceIds=[id])
    other = cloud.run()
    check("its address is not another's while it ends", cloud.find(other)["PrivateIpAddress"] != address)
    cloud.ec2.terminate_instances(InstanceIds=[other])
    eventually("but terminated", lambda: cloud.state(id) == "terminated", seconds=15)
    same("and never stopped", cloud.refused(cloud.ec2.stop_instances, InstanceIds=[id]), "IncorrectInstanceState")
    id = cloud.run()
    eventually("another runs", lambda: cloud.state(id) == "running")
    cloud.ec2.stop_instances(InstanceIds=[id])
    eventually("is stopped", lambda: cloud.state(id) == "stopped", seconds=15)
    cloud.ec2.terminate_instances(InstanceIds=[id])
    eventually("and its disk goes with its end", lambda: not os.path.exists(f"{RUN}/i/{id}"))
    same("at once", cloud.state(id), "terminated")


def lists(cloud):
    made = cloud.ec2.run_instances(
        ImageId=cloud.image, InstanceType="t3.small", MinCount=1, MaxCount=2,
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "list", "Value": "a"}]}])["Instances"]
    same("as many are started as can be", len(made), 2)
    for _ in range(5):
        cloud.run(TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "list", "Value": "b"}]}])
    ids = sum(cloud.search(**{"tag:list": ["a", "b"]}), [])
    same("instances are found by a tag", len(ids), 7)
    same("and with other filters", cloud.search(**{"tag:list": ["a"], "instance_state_name": ["stopped"]}), [[]])
    pages = cloud.search(size=5, **{"tag-key": ["list"]})
    check("a list comes in pages", len(pages) > 1 and sum(pages, []) == ids)
    page = cloud.ec2.describe_instances(MaxResults=5, Filters=[{"Name": "tag:list", "Values": ["a", "b"]}])
    cloud.ec2.delete_tags(Resources=[page["Reservations"][-1]["Instances"][0]["InstanceId"]], Tags=[{"Key": "list"}])
    rest = cloud.ec2.describe_instances(
        MaxResults=5, Filters=[{"Name": "tag:list", "Values": ["a", "b"]}], NextToken=page["NextToken"])
    same("though what it had shown is no longer in it",
         [group["Instances"][0]["InstanceId"] for group in rest["Reservations"]], pages[-1])
    cloud.ec2.terminate_instances(InstanceIds=ids)
    # Some of them had only just begun: an end that meets a start is not lost, and needs no patience.
    eventually("many end at once", lambda: {cloud.state(id) for id in ids} == {"terminated"}, seconds=15)


def refusals(cloud):
    listing = cloud.ec2.describe_instances
    for code, asked in (
            ("InvalidAMIID.NotFound", {"ImageId": "ami-00000000000000000"}),
            ("InvalidParameterValue", {"InstanceType": "t99.large"}),
            ("InvalidKeyPair.NotFound", {"KeyName": "nobody's"}),
            ("InvalidSubnetID.NotFound", {"SubnetId": "subnet-00000000000000000"}),
            ("InvalidGroup.NotFound", {"SecurityGroupIds": ["sg-00000000000000000"]}),
            ("InvalidParameterValue", {"UserData": "#" * 16385}),
            ("InvalidInstanceID.NotFound", {"call": listing, "InstanceIds": ["i-00000000000000000"]}),
            ("InvalidInstanceID.NotFound", {"call": cloud.ec2.terminate_instances, "InstanceIds": ["i-00000000000000000"]}),
            ("InvalidParameterValue", {"call": listing, "MaxResults": 4}),
            ("InvalidNextToken", {"call": listing, "NextToken": "none"}),
            ("InvalidParameterCombination", {"call": listing, "MaxResults": 5, "InstanceIds": ["i-00000000000000000"]}),
            ("InvalidParameterValue", {"call": listing, "Filters": [{"Name": "none", "Values": ["x"]}]})):
        same(f"{code}: {list(asked)[-1]}", cloud.refused(**asked), code)
    low = {"MarketType": "spot", "SpotOptions": {"MaxPrice": "0.0001"}}
    tags = [{"ResourceType": "spot-instances-request", "Tags": [{"Key": "low", "Value": "yes"}]}]
    for _ in range(2):
        same("a spot price that is too low", cloud.refused(
            InstanceMarketOptions=low, TagSpecifications=tags, ClientToken="low"), "SpotMaxPriceTooLow")
    left = cloud.ec2.describe_spot_instance_requests(Filters=[{"Name": "tag:low", "Values": ["yes"]}])
    same("leaves its one request open", [one["State"] for one in left["SpotInstanceRequests"]], ["open"])
    ids = [one["SpotInstanceRequestId"] for one in left["SpotInstanceRequests"]]
    cloud.ec2.cancel_spot_instance_requests(SpotInstanceRequestIds=ids)
