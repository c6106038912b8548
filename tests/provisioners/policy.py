"""policy.py <QUESTION: what is wrong with policies, by what they say to the requests that we make.

AWS's own simulator is out of reach, and moto looks at neither resources nor conditions. This is what can be
done without them: parliament knows each action, and which conditions AWS offers for it on which resource (its
copy of the service authorization reference); and the few kinds of statement that our policy is made of are
weighed here as IAM's reference says: an action is allowed if every resource of it is allowed by a statement.
A statement of a kind that this does not know is an error, never a yes.

QUESTION is JSON: {"policies": [text...], "requests": [{"what", "query": [[name, value]...], "allowed", "owner"?}...]},
each request a RunInstances, by the master "ci", of an image of this owner. The answer is a list of problems for each
policy.
"""
import json
import sys
import warnings
from fnmatch import fnmatchcase

warnings.simplefilter("ignore")
import parliament  # noqa: E402

ACCOUNT = "arn:aws:ec2:us-east-1:123456789012"

# What the reference leaves out, and EC2's user guide asks for ("Grant permission to tag spot instance requests").
MORE = {("RunInstances", "spot-instances-request"): ["aws:RequestTag/${TagKey}"]}

# Each statement names a part of what RunInstances needs: together they must name all, which is looked at here.
BY_STATEMENT = "RESOURCE_MISMATCH"


# The one role that is looked at.
SPOT_ROLE = "arn:aws:iam::123456789012:role/aws-service-role/spot.amazonaws.com/AWSServiceRoleForEC2Spot"


def arn(kind, id="x"):
    if kind == "role":
        return SPOT_ROLE
    return f"arn:aws:ec2:us-east-1::{kind}/{id}" if kind in ("image", "snapshot") else f"{ACCOUNT}:{kind}/{id}"


def is_of_kind(pattern, kind):
    """Whether what stands under Resource names some of this kind, whichever."""
    return pattern == "*" or pattern.split(":", 5)[-1].split("/")[0] == kind


def lists(value):
    return value if isinstance(value, list) else [value]


def definition(action, service="ec2"):
    """Resource type -> the condition keys that it offers; and the types that are always needed."""
    known = next(one for one in parliament.iam_definition if one["prefix"] == service)
    kinds = {of["resource_type"].rstrip("*"): of
             for one in known["privileges"] if one["privilege"] == action for of in one["resource_types"]}
    anywhere = kinds.pop("", {"condition_keys": []})["condition_keys"]
    offered = {kind: one["condition_keys"] + anywhere for kind, one in kinds.items()}
    needed = [kind for kind, one in kinds.items() if one["resource_type"].endswith("*")]
    for (of, kind), keys in MORE.items():
        if of == action:
            offered.setdefault(kind, keys + anywhere)
    return offered, needed


def conditions(statement):
    for operator, wanted in statement.get("Condition", {}).items():
        for key, values in wanted.items():
            yield operator, key, lists(values)


def general(key):
    """aws:RequestTag/busybee:master -> aws:RequestTag/${TagKey}"""
    name, slash, _ = key.partition("/")
    return name + ("/${TagKey}" if slash else "")


def allows(statement, action, resource, context, service):
    if statement["Effect"] != "Allow" or set(statement) - {"Sid", "Effect", "Action", "Resource", "Condition"}:
        sys.exit(f"this test does not know such a statement: {statement}")
    if f"{service}:{action}" not in lists(statement["Action"]):
        return False
    if not any(fnmatchcase(resource, pattern) for pattern in lists(statement["Resource"])):
        return False
    for operator, key, values in conditions(statement):
        found = context.get(key)
        if operator == "StringEquals":
            holds = found in values
        elif operator == "StringLike":
            holds = found is not None and any(fnmatchcase(found, value) for value in values)
        else:
            sys.exit(f"this test does not know the operator {operator}")
        if not holds:
            return False
    return True


def is_allowed(policy, action, resource, context, service="ec2"):
    return any(allows(statement, action, resource, context, service) for statement in policy["Statement"])


def resources_of(query, owner):
    """What a RunInstances touches: (resource type, id, its context), and which types it tags."""
    tags, kinds = {}, []
    for number in range(1, 10):
        kind = query.get(f"TagSpecification.{number}.ResourceType")
        if kind:
            given = {}
            for index in range(1, 60):
                key = query.get(f"TagSpecification.{number}.Tag.{index}.Key")
                if key:
                    given[f"aws:RequestTag/{key}"] = query[f"TagSpecification.{number}.Tag.{index}.Value"]
            tags[kind] = given
    kinds.append(("instance", "x", {
        "ec2:MetadataHttpTokens": query.get("MetadataOptions.HttpTokens", "optional"),
        "ec2:InstanceType": query["InstanceType"]}))
    kinds += [("volume", "x", {}), ("network-interface", "x", {}), ("snapshot", "x", {}),
              ("image", query["ImageId"], {"ec2:Owner": owner}),
              ("subnet", query["NetworkInterface.1.SubnetId"], {}),
              ("security-group", query["NetworkInterface.1.SecurityGroupId.1"], {})]
    if "KeyName" in query:
        kinds.append(("key-pair", query["KeyName"], {}))
    if query.get("InstanceMarketOptions.MarketType") == "spot":
        kinds.append(("spot-instances-request", "x", {}))
    if "Placement.GroupName" in query:
        kinds.append(("placement-group", query["Placement.GroupName"], {}))
    if "Placement.HostId" in query:
        kinds.append(("dedicated-host", query["Placement.HostId"], {}))
    return [(kind, id, {**context, **tags.get(kind, {})}) for kind, id, context in kinds], tags


def launches(policy, query, owner):
    """The first refusal, or None."""
    touched, tags = resources_of(query, owner)
    for kind, id, context in touched:
        if not is_allowed(policy, "RunInstances", arn(kind, id), context):
            return f"RunInstances on {kind}"
    for kind, given in tags.items():
        if not is_allowed(policy, "CreateTags", arn(kind), {**given, "ec2:CreateAction": "RunInstances"}):
            return f"CreateTags on {kind}"
    return None


def well_made(policy, text):
    """Every action exists, and every condition is one that AWS looks at, on every resource of its statement."""
    problems = [f"parliament: {one.issue}: {one.detail}" for one in parliament.analyze_policy_string(text).findings
                if one.issue != BY_STATEMENT]
    named = {}
    for statement in policy["Statement"]:
        for action in lists(statement["Action"]):
            service, _, name = action.partition(":")
            offered, needed = definition(name, service)
            kinds = [kind for kind in offered
                     if any(is_of_kind(pattern, kind) for pattern in lists(statement["Resource"]))]
            named.setdefault(action, (set(), needed))[0].update(kinds)
            if offered and not kinds:
                problems.append(f"{statement['Sid']}: {action} has none of its resources")
            for _, key, _ in conditions(statement):
                blind = [kind for kind in kinds if general(key) not in offered[kind]]
                if blind:
                    problems.append(f"{statement['Sid']}: {action} offers no {key} on {', '.join(blind)}")
    for action, (kinds, needed) in named.items():
        lacking = set(needed) - kinds
        if lacking:
            problems.append(f"{action} needs {', '.join(sorted(lacking))} as well")
    return problems


def problems(text, requests):
    policy = json.loads(text)
    found = well_made(policy, text)
    for one in requests:
        refused = launches(policy, dict(one["query"]), one.get("owner", "136693071363"))
        if one["allowed"] != (refused is None):
            found.append(f"{one['what']}: {refused or 'it is allowed'}")
    ours = {"aws:ResourceTag/busybee:master": "ci"}
    for action, kind in (("TerminateInstances", "instance"), ("StopInstances", "instance"),
                         ("StartInstances", "instance"), ("GetConsoleOutput", "instance"),
                         ("CancelSpotInstanceRequests", "spot-instances-request"),
                         ("AttachVolume", "instance"), ("AssociateAddress", "instance"),
                         ("AssociateAddress", "network-interface")):
        for tags, expected in ((ours, True), ({"aws:ResourceTag/busybee:master": "ci-doctor-0123abcd"}, True),
                               ({}, False), ({"aws:ResourceTag/team": "db"}, False),
                               ({"aws:ResourceTag/busybee:master": "another"}, False)):
            if is_allowed(policy, action, arn(kind), tags) != expected:
                found.append(f"{action} on what has the tags {tags}: {'refused' if expected else 'allowed'}")
    # Of roles only that for spot is seen.
    for resource, expected in ((SPOT_ROLE, True), (SPOT_ROLE.replace("spot", "ecs"), False)):
        if is_allowed(policy, "GetRole", resource, {}, "iam") != expected:
            found.append(f"GetRole on {resource}: {'refused' if expected else 'allowed'}")
    for action, kind, id in (("AttachVolume", "volume", "vol-0123456789abcdef0"),
                             ("AssociateAddress", "elastic-ip", "eipalloc-0123456789abcdef0")):
        if not is_allowed(policy, action, arn(kind, id), {}):
            found.append(f"{action} of what was there before is refused")
        if is_allowed(policy, action, arn(kind, "somebody-elses"), {}):
            found.append(f"{action} of what is not listed is allowed")
    # Nothing is made or given back that was there before.
    for action, kind in (("AllocateAddress", "elastic-ip"), ("ReleaseAddress", "elastic-ip"),
                         ("DisassociateAddress", "elastic-ip"), ("DetachVolume", "volume"),
                         ("CreateVolume", "volume"), ("DeleteVolume", "volume")):
        if is_allowed(policy, action, arn(kind), ours):
            found.append(f"{action} is allowed, and never asked for")
    # A tag that was put on what is somebody else's would make it ours.
    for beside in ({}, {"ec2:CreateAction": "CreateVolume"}):
        if is_allowed(policy, "CreateTags", arn("instance"), {"aws:RequestTag/busybee:master": "ci", **beside}):
            found.append(f"CreateTags is allowed beside a launch ({beside})")
    return found


def main():
    question = json.load(sys.stdin)
    print(json.dumps([problems(text, question["requests"]) for text in question["policies"]]))


main()
