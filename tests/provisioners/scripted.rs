//! A small stand-in of AWS that answers what a test tells it to, by the action that is asked for. What it
//! answers where a test says nothing is an account in which all is well.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::UNIX_EPOCH;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use busybee::runtime::clock;

/// The namespace of EC2's answers, as it sends it.
const NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";

/// What all the calls of one action are answered.
#[derive(Clone, Debug)]
pub(crate) enum Scripted {
    /// The inside of the answer.
    Xml(String),
    /// An error's code and message.
    Error(u16, &'static str, &'static str),
    /// A whole document.
    Json(u16, String),
}

#[derive(Default)]
struct Script {
    answers: Mutex<BTreeMap<String, Scripted>>,
    clock_off: Mutex<i64>,
    asked: Mutex<Vec<String>>,
}

/// An account of AWS, for as long as a test wants it.
pub(crate) struct Aws {
    script: Arc<Script>,
    pub(crate) address: SocketAddr,
    pub(crate) folder: tempfile::TempDir,
}

impl Aws {
    pub(crate) async fn well() -> Aws {
        let script = Arc::new(Script::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it has one");
        let router = axum::Router::new().fallback(answer).with_state(Arc::clone(&script));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let folder = tempfile::tempdir().expect("a folder");
        let key = "[test]\naws_access_key_id = AKIAANY\naws_secret_access_key = any\n";
        std::fs::write(folder.path().join("credentials"), key).expect("write the key down");
        let aws = Aws { script, address, folder };
        for (action, inside) in WELL {
            aws.says(action, Scripted::Xml((*inside).to_owned()));
        }
        aws.says("RunInstances", Scripted::Error(412, "DryRunOperation", "It would have worked."));
        aws.says("GetServiceQuota", Scripted::Json(200, quota(64)));
        aws
    }

    /// From now on this action is answered so.
    pub(crate) fn says(&self, action: &str, answer: Scripted) {
        self.script.answers.lock().expect("no panic").insert(action.to_owned(), answer);
    }

    /// The same answer with one of its parts changed.
    pub(crate) fn changes(&self, action: &str, part: &str, by: &str) {
        let mut answers = self.script.answers.lock().expect("no panic");
        let Some(Scripted::Xml(inside)) = answers.get(action).cloned() else {
            panic!("{action} has no answer to change");
        };
        assert!(inside.contains(part), "{part} is not in {inside}");
        answers.insert(action.to_owned(), Scripted::Xml(inside.replace(part, by)));
    }

    /// Its clock is behind ours by this.
    pub(crate) fn is_behind(&self, seconds: i64) {
        *self.script.clock_off.lock().expect("no panic") = seconds;
    }

    /// Which actions were asked for.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.script.asked.lock().expect("no panic").clone()
    }
}

/// Service Quotas' answer.
pub(crate) fn quota(value: u32) -> String {
    format!("{{\"Quota\": {{\"QuotaCode\": \"L-1216C47A\", \"Value\": {value}.0}}}}")
}

async fn answer(State(script): State<Arc<Script>>, headers: HeaderMap, body: Bytes) -> Response {
    let text = String::from_utf8_lossy(&body);
    let by_target = headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    let action = match by_target.and_then(|target| target.rsplit('.').next()) {
        Some(action) => action.to_owned(),
        None => {
            let mut pairs = text.split('&').filter_map(|pair| pair.strip_prefix("Action="));
            pairs.next().unwrap_or_default().to_owned()
        }
    };
    script.asked.lock().expect("no panic").push(action.clone());
    let scripted = script.answers.lock().expect("no panic").get(&action).cloned();
    let mut response = match scripted {
        None => error(400, "InvalidAction", "The action is not valid."),
        Some(Scripted::Xml(inside)) => {
            format!("<{action}Response xmlns=\"{NAMESPACE}\"><requestId>r</requestId>{inside}</{action}Response>")
                .into_response()
        }
        Some(Scripted::Error(status, code, message)) => error(status, code, message),
        Some(Scripted::Json(status, document)) => {
            let status = StatusCode::from_u16(status).expect("a status");
            (status, document).into_response()
        }
    };
    let off = *script.clock_off.lock().expect("no panic");
    if off != 0 {
        let now = UNIX_EPOCH + Duration::from_millis(clock::now().0);
        let now = now - Duration::from_secs(off.unsigned_abs());
        let date = httpdate::fmt_http_date(now).parse().expect("a header");
        response.headers_mut().insert("date", date);
    }
    response
}

fn error(status: u16, code: &str, message: &str) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    let body = format!(
        "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
         <RequestID>r</RequestID></Response>"
    );
    (status, body).into_response()
}

/// A well-kept account: shapes as the API reference and EC2 itself give them.
const WELL: &[(&str, &str)] = &[
    (
        "DescribeImages",
        "<imagesSet><item><imageId>ami-1</imageId><imageState>available</imageState>\
         <architecture>x86_64</architecture><name>debian-12</name>\
         <creationDate>2026-01-01T00:00:00.000Z</creationDate><enaSupport>true</enaSupport>\
         <deprecationTime>2099-01-01T00:00:00.000Z</deprecationTime>\
         <rootDeviceName>/dev/xvda</rootDeviceName><blockDeviceMapping><item>\
         <deviceName>/dev/xvda</deviceName><ebs><snapshotId>snap-1</snapshotId>\
         <volumeSize>8</volumeSize><encrypted>false</encrypted></ebs></item></blockDeviceMapping>\
         </item></imagesSet>",
    ),
    (
        "DescribeSubnets",
        "<subnetSet><item><subnetId>subnet-a</subnetId><vpcId>vpc-1</vpcId>\
         <availabilityZone>eu-west-1a</availabilityZone>\
         <availableIpAddressCount>250</availableIpAddressCount>\
         <mapPublicIpOnLaunch>true</mapPublicIpOnLaunch><ipv6Native>false</ipv6Native></item></subnetSet>",
    ),
    (
        "DescribeRouteTables",
        "<routeTableSet><item><routeTableId>rtb-1</routeTableId><vpcId>vpc-1</vpcId><routeSet>\
         <item><destinationCidrBlock>172.31.0.0/16</destinationCidrBlock><gatewayId>local</gatewayId>\
         <state>active</state></item>\
         <item><destinationCidrBlock>0.0.0.0/0</destinationCidrBlock><gatewayId>igw-1</gatewayId>\
         <state>active</state></item></routeSet>\
         <associationSet><item><routeTableId>rtb-1</routeTableId><main>true</main></item>\
         </associationSet></item></routeTableSet>",
    ),
    (
        "DescribeNetworkAcls",
        "<networkAclSet><item><networkAclId>acl-1</networkAclId><vpcId>vpc-1</vpcId><entrySet>\
         <item><ruleNumber>100</ruleNumber><protocol>-1</protocol><ruleAction>allow</ruleAction>\
         <egress>true</egress><cidrBlock>0.0.0.0/0</cidrBlock></item>\
         <item><ruleNumber>100</ruleNumber><protocol>-1</protocol><ruleAction>allow</ruleAction>\
         <egress>false</egress><cidrBlock>0.0.0.0/0</cidrBlock></item>\
         <item><ruleNumber>32767</ruleNumber><protocol>-1</protocol><ruleAction>deny</ruleAction>\
         <egress>false</egress><cidrBlock>0.0.0.0/0</cidrBlock></item></entrySet>\
         <associationSet><item><networkAclId>acl-1</networkAclId><subnetId>subnet-a</subnetId></item>\
         </associationSet></item></networkAclSet>",
    ),
    (
        "DescribeVpcAttribute",
        "<vpcId>vpc-1</vpcId><enableDnsSupport><value>true</value></enableDnsSupport>",
    ),
    (
        "DescribeSecurityGroups",
        "<securityGroupInfo><item><groupId>sg-1</groupId><vpcId>vpc-1</vpcId><ipPermissions/>\
         <ipPermissionsEgress><item><ipProtocol>-1</ipProtocol><ipRanges><item>\
         <cidrIp>0.0.0.0/0</cidrIp></item></ipRanges></item></ipPermissionsEgress></item>\
         </securityGroupInfo>",
    ),
    (
        "DescribeInstanceTypes",
        "<instanceTypeSet><item><instanceType>c7i.xlarge</instanceType><processorInfo>\
         <supportedArchitectures><item>x86_64</item></supportedArchitectures></processorInfo>\
         <vCpuInfo><defaultVCpus>4</defaultVCpus></vCpuInfo><supportedUsageClasses>\
         <item>on-demand</item><item>spot</item></supportedUsageClasses>\
         <burstablePerformanceSupported>false</burstablePerformanceSupported><networkInfo>\
         <enaSupport>required</enaSupport></networkInfo></item></instanceTypeSet>",
    ),
    (
        "DescribeInstanceTypeOfferings",
        "<instanceTypeOfferingSet><item><instanceType>c7i.xlarge</instanceType>\
         <locationType>availability-zone</locationType><location>eu-west-1a</location></item>\
         </instanceTypeOfferingSet>",
    ),
    ("DescribeInstances", "<reservationSet/>"),
    ("DescribeVolumes", "<volumeSet/>"),
    ("DescribeKeyPairs", "<keySet><item><keyName>ops</keyName></item></keySet>"),
    (
        "GetInstanceMetadataDefaults",
        "<accountLevel><httpTokens>required</httpTokens></accountLevel>",
    ),
    ("GetEbsEncryptionByDefault", "<ebsEncryptionByDefault>false</ebsEncryptionByDefault>"),
    ("GetEbsDefaultKmsKeyId", "<kmsKeyId>alias/aws/ebs</kmsKeyId>"),
    (
        "GetRole",
        "<GetRoleResult><Role><RoleName>AWSServiceRoleForEC2Spot</RoleName></Role></GetRoleResult>",
    ),
];
