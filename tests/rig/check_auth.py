"""`up --auth`: keys and policies are checked, and refused with EC2's words."""
import json

import boto3

from cloud import Cloud, check, same

MAY = {"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": ["ec2:DescribeInstances", "ec2:RunInstances"], "Resource": "*"}]}


def refusals(facts):
    key = facts["auth"]["id"], facts["auth"]["secret"]
    iam = boto3.client("iam", region_name=facts["region"], endpoint_url=facts["endpoint"],
                       aws_access_key_id=key[0], aws_secret_access_key=key[1])
    iam.create_user(UserName="little")
    iam.put_user_policy(UserName="little", PolicyName="may", PolicyDocument=json.dumps(MAY))
    made = iam.create_access_key(UserName="little")["AccessKey"]
    little = Cloud(facts, made["AccessKeyId"], made["SecretAccessKey"])
    id = little.run()
    check("what the policy allows is done", little.state(id) in ("pending", "running"))
    for dry in (False, True):
        same("the rest is refused", little.refused(little.ec2.terminate_instances, InstanceIds=[id], DryRun=dry),
             "UnauthorizedOperation")
    same("a dry run of what is allowed", little.refused(DryRun=True), "DryRunOperation")
    for key in (("x", "x"), (made["AccessKeyId"], "x")):
        stranger = Cloud(facts, *key)
        same("a stranger is refused", stranger.refused(stranger.ec2.describe_instances), "AuthFailure")
