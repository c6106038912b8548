"""`up --auth`: moto checks signatures and policies, and there is a key that may do everything.

moto looks at a policy's actions only: it matches the resource against `*` and passes over conditions.
"""
import json
import os

from .tools import ACCOUNT

MASTER = "rig"
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}

# As EC2 says it, where moto has IAM's words.
UNAUTHORIZED = """<?xml version="1.0" encoding="UTF-8"?>
<Response><Errors><Error><Code>UnauthorizedOperation</Code>
<Message>You are not authorized to perform this operation.</Message></Error></Errors>
<RequestID>00000000-0000-0000-0000-000000000000</RequestID></Response>"""


def enable():
    """What a caller needs: a key with which users, policies and keys of less power are made, by IAM at
    the same endpoint. RIG_FREE_CALLS calls before need no key."""
    from moto import settings
    from moto.core.exceptions import AccessDeniedError
    from moto.iam.access_control import IAMRequest
    from moto.iam.models import iam_backends
    backend = iam_backends[ACCOUNT]["aws"]
    backend.create_user("us-east-1", MASTER)
    backend.put_user_policy(MASTER, "everything", json.dumps(EVERYTHING))
    key = backend.create_access_key(MASTER)
    deny = IAMRequest._raise_access_denied

    def deny_as_the_service_does(self):
        if self._service == "ec2":
            refused = AccessDeniedError("", "")
            refused.error_type, refused.description = "UnauthorizedOperation", UNAUTHORIZED
            raise refused
        deny(self)

    IAMRequest._raise_access_denied = deny_as_the_service_does
    free = int(os.environ.get("RIG_FREE_CALLS", "0"))
    settings.INITIAL_NO_AUTH_ACTION_COUNT = free
    return {"access_key_id": key.access_key_id, "secret_access_key": key.secret_access_key, "free_calls": free}
