"""Signs requests again with botocore: a JSON object a line in, its Authorization header a line out."""
import base64, datetime, json, sys
from unittest import mock

import botocore.auth, botocore.awsrequest, botocore.credentials

for line in sys.stdin:
    seen = json.loads(line)
    headers = {name.lower(): value for name, value in seen["headers"]}
    fields = dict(part.split("=", 1) for part in headers["authorization"].split(" ", 1)[1].split(", "))
    _key, _day, region, service, _end = fields["Credential"].split("/")
    at = datetime.datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ")
    # What we signed and botocore does not set by itself; what it does set must come out equal.
    own = ("x-amz-date", "x-amz-security-token")
    given = {name: headers[name] for name in fields["SignedHeaders"].split(";") if name not in own}
    request = botocore.awsrequest.AWSRequest(
        method=seen["method"], url=f"http://{headers['host']}{seen['path']}",
        headers=given, data=base64.b64decode(seen["body"]))
    credentials = botocore.credentials.Credentials(seen["id"], seen["secret"], seen["token"])
    # Its name has changed between versions of botocore.
    clock = "get_current_datetime" if hasattr(botocore.auth, "get_current_datetime") else None
    if clock:
        patch = mock.patch.object(botocore.auth, clock, return_value=at)
    else:
        patch = mock.patch("botocore.auth.datetime.datetime", mock.Mock(utcnow=lambda: at))
    with patch:
        botocore.auth.SigV4Auth(credentials, service, region).add_auth(request)
    print(request.headers["Authorization"], flush=True)
