"""belongings.py ENDPOINT COMMAND [ARGUMENT...]: what an account has beside instances, made and looked at.

make                    prints JSON: two addresses, two volumes in each of two zones, a group, and the subnets by zone
look ADDRESS VOLUME     prints JSON: which instance has the address, and which the volume ("" for none)
take ADDRESS VOLUME     gives both to an instance of somebody else's; prints its id
show INSTANCE           prints JSON: its volumes by device (and whether they end with it), groups, zone
"""
import json
import sys

import boto3

endpoint, command, *arguments = sys.argv[1:]
ec2 = boto3.client("ec2", region_name="us-east-1", endpoint_url=endpoint,
                   aws_access_key_id="AKIAANY", aws_secret_access_key="any")


def make():
    subnets = {one["AvailabilityZone"]: one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]}
    zones = sorted(subnets)[:2]
    addresses = [ec2.allocate_address(Domain="vpc") for _ in range(2)]
    volumes = {zone: [ec2.create_volume(AvailabilityZone=zone, Size=1)["VolumeId"] for _ in range(2)] for zone in zones}
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    group = ec2.create_security_group(GroupName="ci workers", Description="x", VpcId=vpc)["GroupId"]
    return {"addresses": [one["PublicIp"] for one in addresses], "allocations": [one["AllocationId"] for one in addresses],
            "volumes": volumes, "zones": zones, "group": group, "subnets": subnets}


def look(address, volume):
    found = ec2.describe_addresses(PublicIps=[address])["Addresses"][0]
    attachments = ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["Attachments"]
    holders = [one["InstanceId"] for one in attachments if one["State"] != "detached"]
    return {"address": found.get("InstanceId") or owner(found.get("NetworkInterfaceId")),
            "volume": holders[0] if holders else ""}


def owner(card):
    """The instance of a network card."""
    for reservation in ec2.describe_instances()["Reservations"] if card else []:
        for one in reservation["Instances"]:
            if card in [found["NetworkInterfaceId"] for found in one["NetworkInterfaces"]]:
                return one["InstanceId"]
    return ""


def take(address, volume):
    zone = ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["AvailabilityZone"]
    image = ec2.describe_images(Owners=["self"])["Images"][0]["ImageId"]
    instance = ec2.run_instances(ImageId=image, InstanceType="t3.small", MinCount=1, MaxCount=1,
                                 Placement={"AvailabilityZone": zone})["Instances"][0]["InstanceId"]
    ec2.get_waiter("instance_running").wait(InstanceIds=[instance], WaiterConfig={"Delay": 1})
    ec2.associate_address(PublicIp=address, InstanceId=instance)
    ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device="/dev/sdf")
    return instance


def show(instance):
    found = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
    disks = {one["DeviceName"]: one["Ebs"].get("DeleteOnTermination") for one in found["BlockDeviceMappings"]}
    return {"disks": disks, "zone": found["Placement"]["AvailabilityZone"],
            "groups": [one["GroupId"] for card in found["NetworkInterfaces"] for one in card["Groups"]]}


print(json.dumps({"make": make, "look": look, "take": take, "show": show}[command](*arguments)))
