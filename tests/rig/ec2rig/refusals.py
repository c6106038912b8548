"""What EC2 refuses and moto takes, or answers with a page of HTML, and lists in pages that hold together."""
import base64

from . import front, outages

USER_DATA_BYTES_MAX = 16 * 1024
PAGE_MIN, PAGE_MAX = 5, 1000
ALL = "1000000000"


def hook():
    from moto import settings
    from moto.ec2.responses.instances import InstanceResponse
    settings.ENABLE_AMI_VALIDATION = True
    run, describe = InstanceResponse.run_instances, InstanceResponse.describe_instances

    def run_checked(self):
        check_launch(self)
        # moto starts MinCount of them.
        self.params["MinCount"] = self._get_param("MaxCount")
        return run(self)

    def describe_paged(self):
        try:
            return paged(self, describe)
        except NotImplementedError as error:  # moto's word for a filter that it does not know
            name = str(error).split("'")[1]
            raise refusal("InvalidParameterValue", f"The filter '{name}' is invalid") from error

    InstanceResponse.run_instances = run_checked
    InstanceResponse.describe_instances = describe_paged


def refusal(code, message):
    from moto.ec2.exceptions import EC2ClientError
    return EC2ClientError(code, message)


def check_launch(request):
    from moto.ec2.models.instance_types import INSTANCE_TYPES
    key = request._get_param("KeyName")
    if key:
        request.ec2_backend.describe_key_pairs([key])  # raises InvalidKeyPair.NotFound
    kind = request._get_param("InstanceType")
    if kind is not None and kind not in INSTANCE_TYPES:
        raise refusal("InvalidParameterValue", f"Invalid value '{kind}' for InstanceType.")
    for name in ("ImageId", "MinCount", "MaxCount"):
        if request._get_param(name) is None:
            raise refusal("MissingParameter", f"The request must contain the parameter {name}")
    least, most = int(request._get_param("MinCount")), int(request._get_param("MaxCount"))
    if not 1 <= least <= most:
        raise refusal("InvalidParameterValue", f"MinCount {least} and MaxCount {most} are no range")
    if len(base64.b64decode(str(request._get_param("UserData") or ""))) > USER_DATA_BYTES_MAX:
        raise refusal("InvalidParameterValue", f"User data is limited to {USER_DATA_BYTES_MAX} bytes")


def paged(request, describe):
    """moto finds the place in the list by the last one that was shown, and fails if that one no longer
    passes the filter: an instance that ends between two pages. Here the place is one in the whole list."""
    size = request._get_param("MaxResults")
    token = request._get_param("NextToken")
    order = {id: place for place, id in enumerate(request.ec2_backend.reservations)}
    if size is not None and not PAGE_MIN <= int(size) <= PAGE_MAX:
        raise refusal("InvalidParameterValue", f"MaxResults is from {PAGE_MIN} to {PAGE_MAX}")
    if token and token not in order:
        raise refusal("InvalidNextToken", f"The token '{token}' is invalid")
    request.params["MaxResults"] = ALL
    request.params.pop("NextToken", None)
    answer = describe(request)
    found = [one for one in answer.result["Reservations"] if not any(row.id in outages.unseen for row in one.instances)]
    if token:
        found = [one for one in found if order.get(one.id, len(order)) > order[token]]
    page = found[:min(int(size or PAGE_MAX), front.here.page or PAGE_MAX)]
    answer.result["Reservations"] = page
    answer.result["NextToken"] = page[-1].id if len(page) < len(found) else None
    return answer
