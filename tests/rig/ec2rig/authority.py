"""Keys and policies: who they are for, and that every call is checked against them.

moto looks at neither resources nor conditions of a policy, so policies are given to it by their actions.
"""
import json
import os

from .tools import ACCOUNT, REGION

LOOK_ONLY = """{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Action": ["ec2:DescribeInstances", "ec2:DescribeImages"], "Resource": "*"}]}"""
EVERYTHING = """{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}"""

# As EC2 says it, where moto has IAM's words.
UNAUTHORIZED = """<?xml version="1.0" encoding="UTF-8"?>
<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>You are not authorized to perform this operation. \
User: {user} is not authorized to perform: {action}</Message></Error></Errors>
<RequestID>00000000-0000-0000-0000-000000000000</RequestID></Response>"""


def actions_of(policy):
    statements = [{"Effect": one["Effect"], "Action": one["Action"], "Resource": "*"}
                  for one in json.loads(policy)["Statement"]]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def make_user(name, policy):
    """A user with this policy, and its key."""
    from moto.iam.models import iam_backends
    backend = iam_backends[ACCOUNT]["aws"]
    backend.create_user(REGION, name)
    backend.put_user_policy(name, name, actions_of(policy))
    key = backend.create_access_key(name)
    return {"id": key.access_key_id, "secret": key.secret_access_key}


def check_every_call(free=0):
    """But the first few."""
    from moto import settings
    from moto.core.exceptions import AccessDeniedError
    from moto.iam.access_control import IAMRequest
    settings.INITIAL_NO_AUTH_ACTION_COUNT = float(free)
    deny = IAMRequest._raise_access_denied

    def deny_as_the_service_does(self):
        if self._service != "ec2":
            deny(self)
        refused = AccessDeniedError("", "")
        refused.error_type = "UnauthorizedOperation"
        refused.description = UNAUTHORIZED.format(user=self._access_key.arn, action=self._action)
        raise refused

    IAMRequest._raise_access_denied = deny_as_the_service_does


def enable():
    """What a caller of `up --auth` needs: a key with which users of less power and their keys are made, by
    IAM at the same endpoint."""
    free = int(os.environ.get("RIG_FREE_CALLS", "0"))
    key = make_user("rig", EVERYTHING)
    check_every_call(free)
    return {**key, "free_calls": free}
