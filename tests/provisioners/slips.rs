//! What can be wrong in an account, one thing at a time, and what the doctor says of it.

use busybee::master::provisioner::Verdict;

/// An answer, a part of it, what that becomes; and what the doctor says of it.
pub(crate) type Slip =
    (&'static str, &'static str, &'static str, Verdict, &'static str, &'static str);

/// What is wrong by one word of one answer.
pub(crate) const SLIPS: &[Slip] = &[
    (
        "DescribeSubnets",
        "<availableIpAddressCount>250",
        "<availableIpAddressCount>0",
        Verdict::Bad,
        "subnet-a in eu-west-1a has no free address",
        "another subnet",
    ),
    (
        "DescribeSubnets",
        "<ipv6Native>false",
        "<ipv6Native>true",
        Verdict::Bad,
        "has IPv6 alone",
        "IPv4",
    ),
    (
        "DescribeSubnets",
        "<mapPublicIpOnLaunch>true",
        "<mapPublicIpOnLaunch>false",
        Verdict::Bad,
        "get no public address, and its route leads to igw-1",
        "public_ip = true",
    ),
    (
        "DescribeRouteTables",
        "0.0.0.0/0",
        "10.9.0.0/16",
        Verdict::Doubtful,
        "have no way to the internet: rtb-1",
        "NAT",
    ),
    (
        "DescribeRouteTables",
        "igw-1</gatewayId><state>active",
        "igw-1</gatewayId><state>blackhole",
        Verdict::Bad,
        "leads nowhere",
        "gateway",
    ),
    (
        "DescribeNetworkAcls",
        "<protocol>-1</protocol><ruleAction>allow</ruleAction><egress>false</egress>\
         <cidrBlock>0.0.0.0/0</cidrBlock>",
        "<protocol>6</protocol><ruleAction>allow</ruleAction><egress>false</egress>\
         <cidrBlock>0.0.0.0/0</cidrBlock><portRange><from>443</from><to>443</to></portRange>",
        Verdict::Doubtful,
        "acl-1 of subnet-a keeps answers out",
        "32768-60999",
    ),
    (
        "DescribeNetworkAcls",
        "<ruleAction>allow</ruleAction><egress>true",
        "<ruleAction>deny</ruleAction><egress>true",
        Verdict::Doubtful,
        "lets nothing out to port 8443 and 443",
        "allow TCP out",
    ),
    (
        "DescribeVpcAttribute",
        "<value>true",
        "<value>false",
        Verdict::Doubtful,
        "vpc-1 has no DNS",
        "--enable-dns-support",
    ),
    (
        "DescribeSecurityGroups",
        "<ipPermissions/>",
        "<ipPermissions><item><ipProtocol>tcp</ipProtocol><fromPort>22</fromPort><toPort>22</toPort>\
         </item></ipPermissions>",
        Verdict::Doubtful,
        "sg-1 has inbound rules",
        "they call the master",
    ),
    (
        "DescribeSecurityGroups",
        "<ipProtocol>-1</ipProtocol>",
        "<ipProtocol>tcp</ipProtocol><fromPort>443</fromPort><toPort>443</toPort>",
        Verdict::Bad,
        "lets instances out to port 8443",
        "outbound rule",
    ),
    (
        "DescribeSecurityGroups",
        "<ipProtocol>-1</ipProtocol>",
        "<ipProtocol>tcp</ipProtocol><fromPort>8443</fromPort><toPort>8443</toPort>",
        Verdict::Doubtful,
        "lets instances out to port 443",
        "443 and 80",
    ),
    (
        "DescribeSecurityGroups",
        "<vpcId>vpc-1",
        "<vpcId>vpc-2",
        Verdict::Bad,
        "sg-1 is of vpc-2, subnet-a of vpc-1",
        "one VPC",
    ),
    (
        "DescribeInstanceTypes",
        "<item>x86_64</item>",
        "<item>arm64</item>",
        Verdict::Bad,
        "c7i.xlarge is for arm64, the image for x86_64",
        "another type",
    ),
    (
        "DescribeInstanceTypes",
        "<item>spot</item>",
        "",
        Verdict::Doubtful,
        "c7i.xlarge is not sold as spot",
        "another type",
    ),
    (
        "DescribeInstanceTypes",
        "<burstablePerformanceSupported>false",
        "<burstablePerformanceSupported>true",
        Verdict::Doubtful,
        "only while it has credits",
        "types of c or m",
    ),
    (
        "DescribeInstanceTypeOfferings",
        "eu-west-1a",
        "eu-west-1b",
        Verdict::Bad,
        "c7i.xlarge is offered in none of the zones: eu-west-1a",
        "other zones",
    ),
    (
        "DescribeImages",
        "<encrypted>false",
        "<encrypted>true",
        Verdict::Doubtful,
        "image ami-1 is encrypted",
        "Client.InternalError",
    ),
    (
        "DescribeImages",
        "<enaSupport>true",
        "<enaSupport>false",
        Verdict::Bad,
        "needs an image with ENA",
        "another image",
    ),
    ("DescribeImages", "2099-01", "2020-01", Verdict::Doubtful, "is deprecated", "newer"),
    (
        "DescribeImages",
        "<imageState>available",
        "<imageState>pending",
        Verdict::Bad,
        "image ami-1 is pending",
        "available",
    ),
    (
        "DescribeVolumes",
        "<volumeSet/>",
        "<volumeSet><item><volumeId>vol-1</volumeId><size>40</size><status>available</status></item>\
         </volumeSet>",
        Verdict::Doubtful,
        "1 volume of this master belong to no instance: vol-1 (40 GiB)",
        "delete-volume",
    ),
];

/// An action, the error it is answered with; and what the doctor says of it.
pub(crate) type Refused =
    (&'static str, u16, &'static str, &'static str, Verdict, &'static str, &'static str);

pub(crate) const REFUSED: &[Refused] = &[
    (
        "DescribeKeyPairs",
        400,
        "InvalidKeyPair.NotFound",
        "The key pair 'ops' does not exist",
        Verdict::Bad,
        "InvalidKeyPair.NotFound",
        "take key_name out",
    ),
    (
        "GetRole",
        404,
        "NoSuchEntity",
        "The role cannot be found.",
        Verdict::Bad,
        "no role AWSServiceRoleForEC2Spot",
        "create-service-linked-role",
    ),
    (
        "GetRole",
        403,
        "AccessDenied",
        "not authorized to perform: iam:GetRole",
        Verdict::Doubtful,
        "may not be read",
        "deploy/iam-policy.json",
    ),
    (
        "DescribeRouteTables",
        403,
        "UnauthorizedOperation",
        "not authorized to perform: ec2:DescribeRouteTables",
        Verdict::Doubtful,
        "ec2:DescribeRouteTables",
        "deploy/iam-policy.json",
    ),
    (
        "GetInstanceMetadataDefaults",
        403,
        "UnauthorizedOperation",
        "not authorized",
        Verdict::Doubtful,
        "GetInstanceMetadataDefaults",
        "deploy/iam-policy.json",
    ),
    (
        "DescribeInstanceTypes",
        400,
        "InvalidInstanceType",
        "The following supplied instance types do not exist: [c7i.xlarge]",
        Verdict::Bad,
        "do not exist",
        "describe-instance-types",
    ),
];
