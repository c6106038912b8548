"""slips.py ENDPOINT: an account in which nothing of a pool's network is as it should be; its ids as JSON."""
import json
import sys

import boto3

(endpoint,) = sys.argv[1:]
account = {"region_name": "us-east-1", "endpoint_url": endpoint,
           "aws_access_key_id": "AKIAANY", "aws_secret_access_key": "any"}
ec2 = boto3.client("ec2", **account)
# By hand: moto calls the one that it makes for the service otherwise than AWS.
boto3.client("iam", **account).create_role(RoleName="AWSServiceRoleForEC2Spot", AssumeRolePolicyDocument="{}",
                                           Path="/aws-service-role/spot.amazonaws.com/")

vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsSupport={"Value": False})
subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.7.1.0/24", AvailabilityZone="us-east-1b")["Subnet"]["SubnetId"]

# Out by a gateway that takes only public addresses, which its instances have not.
gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)

# Out, and no answer in.
acl = ec2.create_network_acl(VpcId=vpc)["NetworkAcl"]["NetworkAclId"]
ec2.create_network_acl_entry(NetworkAclId=acl, RuleNumber=1, Protocol="-1", RuleAction="allow", Egress=True,
                             CidrBlock="0.0.0.0/0")
ec2.create_network_acl_entry(NetworkAclId=acl, RuleNumber=1, Protocol="6", RuleAction="allow", Egress=False,
                             CidrBlock="0.0.0.0/0", PortRange={"From": 443, "To": 443})
acls = ec2.describe_network_acls(Filters=[{"Name": "association.subnet-id", "Values": [subnet]}])["NetworkAcls"]
of_subnet = next(one for one in acls[0]["Associations"] if one["SubnetId"] == subnet)
ec2.replace_network_acl_association(AssociationId=of_subnet["NetworkAclAssociationId"], NetworkAclId=acl)

# Open to all, and shut for the master's port.
group = ec2.create_security_group(GroupName="workers", Description="workers", VpcId=vpc)["GroupId"]
everywhere = [{"CidrIp": "0.0.0.0/0"}]
ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[
    {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": everywhere}])
ec2.revoke_security_group_egress(GroupId=group, IpPermissions=[{"IpProtocol": "-1", "IpRanges": everywhere}])
ec2.authorize_security_group_egress(GroupId=group, IpPermissions=[
    {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": everywhere}])

volume = ec2.create_volume(AvailabilityZone="us-east-1b", Size=7, TagSpecifications=[
    {"ResourceType": "volume", "Tags": [{"Key": "busybee:master", "Value": "test"}]}])["VolumeId"]
ec2.enable_ebs_encryption_by_default()
print(json.dumps({"vpc": vpc, "subnet": subnet, "gateway": gateway, "acl": acl, "group": group, "volume": volume}))
