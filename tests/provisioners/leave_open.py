"""leave_open.py ENDPOINT EXPIRES: a spot request that its master did not live to cancel."""
import sys

import boto3
from botocore.exceptions import ClientError

endpoint, expires = sys.argv[1:]
ec2 = boto3.client("ec2", region_name="us-east-1", endpoint_url=endpoint,
                   aws_access_key_id="AKIAANY", aws_secret_access_key="any")
image = ec2.describe_images(Owners=["self"])["Images"][0]["ImageId"]
tags = {"busybee:master": "test", "busybee:pool": "cloud", "busybee:expires": expires}
try:
    ec2.run_instances(
        ImageId=image, InstanceType="t3.small", MinCount=1, MaxCount=1,
        InstanceMarketOptions={"MarketType": "spot", "SpotOptions": {"MaxPrice": "0.0001"}},
        TagSpecifications=[{"ResourceType": "spot-instances-request",
                            "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}])
except ClientError as error:
    sys.exit(error.response["Error"]["Code"] != "SpotMaxPriceTooLow")
sys.exit("it was not refused")
