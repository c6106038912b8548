//! `deploy/iam-policy.json` beyond what moto looks at: resources and conditions, weighed against the very
//! requests that we send. `policy.py` says what that proves, and what only AWS itself could.

use std::io::Write;
use std::process::Command;
use std::process::Stdio;

use busybee::master::provisioner::PrepareOrder;
use busybee::master::provisioner::Provisioner;
use busybee::master::provisioner::ec2::Ec2Provisioner;
use busybee::master::provisioner::ec2::settings::Ec2Settings;
use busybee::master::provisioner::ec2::settings::Market;
use busybee::model::ids::LaunchId;
use busybee::model::time::Timestamp;
use serde_json::Value;
use serde_json::json;

use crate::contract;
use crate::ec2;

const POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/iam-policy.json");

/// What the words in capitals stand for here.
const OURS: [(&str, &str); 10] = [
    ("MASTER_ID", "ci"),
    ("INSTANCE_TYPE", "t3.small\", \"t3.large"),
    ("IMAGE_OWNER", "136693071363"),
    ("SUBNET", "subnet-0123456789abcdef0"),
    ("SECURITY_GROUP", "sg-0123456789abcdef0"),
    ("KEY_NAME", "ops"),
    ("PLACEMENT_GROUP", "near"),
    ("HOST", "h-0123456789abcdef0"),
    ("ALLOCATION", "eipalloc-0123456789abcdef0"),
    ("VOLUME", "vol-0123456789abcdef0"),
];

type Query = Vec<(String, String)>;

/// The request of a launch, as it is sent but for its password.
async fn request(provisioner: &Ec2Provisioner) -> Query {
    let order = PrepareOrder {
        launch: LaunchId("a0000000000000000000000000000000".into()),
        worker: "cloud-1".into(),
        candidate: 0,
        seat: None,
        user_data: contract::with_password_place("true"),
        expires_at: Timestamp(4_000_000_000_000),
    };
    let prepared = provisioner.prepare(order).await.expect("it is prepared");
    serde_json::from_str(&prepared.request).expect("it is a list of parameters")
}

/// Without the tag of our master on one kind of resource.
fn untagged(query: &Query, resource: &str) -> Query {
    let named = query.iter().find(|(_, value)| value == resource);
    let number =
        named.and_then(|(name, _)| name.strip_suffix(".ResourceType")).expect("it is tagged");
    let tag =
        query.iter().find(|(name, value)| name.starts_with(number) && value == "busybee:master");
    let tag = tag.and_then(|(name, _)| name.strip_suffix(".Key")).expect("with our tag").to_owned();
    let is_ours = |name: &str| name.strip_prefix(&tag).is_some_and(|rest| rest.starts_with('.'));
    query.iter().filter(|(name, _)| !is_ours(name)).cloned().collect()
}

fn with(query: &Query, name: &str, value: &str) -> Query {
    let others = query.iter().filter(|(known, _)| known != name).cloned();
    others.chain([(name.to_owned(), value.to_owned())]).collect()
}

/// What `policy.py` finds wrong with each policy.
fn weighed(python: &str, policies: &[String], requests: &[Value]) -> Vec<Vec<String>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/provisioners/policy.py");
    let mut child = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    let mut stdin = child.stdin.take().expect("its input is ours");
    let question = json!({ "policies": policies, "requests": requests });
    stdin.write_all(question.to_string().as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "its reason stands above");
    serde_json::from_slice(&output.stdout).expect("it answers in JSON")
}

#[tokio::test]
async fn the_policy_allows_what_we_ask_for_and_nothing_that_lacks_our_marks() {
    let test = "the_policy_allows_what_we_ask_for_and_nothing_that_lacks_our_marks";
    let Some(api) = ec2::api(test, &[]) else { return };
    let python = ec2::python(test).expect("it was there");
    let listed = Ec2Settings {
        subnets: vec!["subnet-0123456789abcdef0".to_owned()],
        security_groups: vec!["sg-0123456789abcdef0".to_owned()],
        ..ec2::settings()
    };
    let plain = request(&api.provisioner_for("ci", listed.clone())).await;
    let everything = Ec2Settings {
        market: Market::Spot,
        key_name: Some("ops".to_owned()),
        public_ip: Some(true),
        ..listed.clone()
    };
    let spot = request(&api.provisioner_for("ci", everything)).await;
    let others = request(&api.provisioner_for("another", listed.clone())).await;
    let trial = request(&api.provisioner_for("ci-doctor-0123abcd", listed)).await;
    let near = with(&plain, "Placement.GroupName", "near");
    let mut requests = vec![
        json!({ "what": "on-demand", "query": plain, "allowed": true }),
        json!({ "what": "spot, with all there is", "query": spot, "allowed": true }),
        json!({ "what": "in a placement group, on a dedicated host", "allowed": true,
                "query": with(&near, "Placement.HostId", "h-0123456789abcdef0") }),
        json!({ "what": "a trial of the doctor's", "query": trial, "allowed": true }),
        json!({ "what": "as another master", "query": others, "allowed": false }),
        json!({ "what": "of an image of somebody's", "query": plain, "allowed": false, "owner": "1" }),
    ];
    for (what, name, value) in [
        ("version 1 of the metadata service", "MetadataOptions.HttpTokens", "optional"),
        ("of a type that is not listed", "InstanceType", "p5.48xlarge"),
        ("in another subnet", "NetworkInterface.1.SubnetId", "subnet-1"),
        ("in another group", "NetworkInterface.1.SecurityGroupId.1", "sg-1"),
        ("with another key", "KeyName", "somebodys"),
        ("on another host", "Placement.HostId", "h-1"),
    ] {
        let query = with(&plain, name, value);
        requests.push(json!({ "what": what, "query": query, "allowed": false }));
    }
    for resource in ["instance", "volume", "network-interface", "spot-instances-request"] {
        let query = untagged(&spot, resource);
        requests.push(
            json!({ "what": format!("no tag on {resource}"), "query": query, "allowed": false }),
        );
    }
    let text = std::fs::read_to_string(POLICY).expect("the policy is there");
    let text = OURS.iter().fold(text, |text, (word, ours)| {
        assert!(text.contains(word), "{word} is not in the policy");
        text.replace(word, ours)
    });
    // It can say no: of each of these slips it is told what is wrong.
    let slips = [
        ("ec2:MetadataHttpTokens", "ec2:HttpTokens", "UNKNOWN_CONDITION_FOR_ACTION"),
        ("\"ec2:MetadataHttpTokens\": \"required\",", "", "version 1 of the metadata service"),
        (
            ",\n          \"ec2:InstanceType\": [\"t3.small\", \"t3.large\"]",
            "",
            "that is not listed",
        ),
        ("\"ec2:Owner\": [\"136693071363\"]", "", "of an image of somebody's"),
        ("subnet/subnet-0123456789abcdef0", "subnet/*", "in another subnet"),
        ("volume/vol-0123456789abcdef0", "volume/*", "of what is not listed"),
        ("ec2:GetConsoleOutput", "ec2:GetConsole", "UNKNOWN_ACTION"),
        ("aws:ResourceTag/", "aws:RequestTag/", "offers no aws:RequestTag"),
        ("arn:aws:ec2:*:*:network-interface/*", "arn:aws:ec2:*:*:eni/*", "needs network-interface"),
        ("arn:aws:ec2:*:*:spot-instances-request/*", "arn:aws:ec2:*:*:spot/*", "with all there is"),
        ("\"ec2:CreateAction\": \"RunInstances\"", "", "beside a launch"),
        ("spot.amazonaws.com/AWSServiceRoleForEC2Spot", "*", "GetRole on"),
        ("servicequotas:GetServiceQuota", "servicequotas:GetQuota", "UNKNOWN_ACTION"),
        (
            "\"aws:ResourceTag/busybee:master\": [\"ci\", \"ci-doctor-*\"]",
            "",
            "TerminateInstances on what has",
        ),
        (
            "\"aws:ResourceTag/busybee:master\": [\"ci\", \"ci-doctor-*\"]",
            "\"aws:ResourceTag/busybee:master\": \"*\"",
            "{'aws:ResourceTag/busybee:master': 'another'}: allowed",
        ),
        ("arn:aws:ec2:*:*:placement-group/", "arn:aws:ec2:*:*:group/", "in a placement group"),
        ("arn:aws:ec2:*:*:elastic-ip/", "arn:aws:ec2:*:*:ip/", "of what was there before"),
    ];
    let slipped = slips.iter().map(|(right, slip, _)| {
        assert!(text.contains(right), "{right} is not in the policy");
        text.replace(right, slip)
    });
    let policies: Vec<String> = std::iter::once(text.clone()).chain(slipped).collect();
    let found = weighed(&python, &policies, &requests);
    assert_eq!(found[0], Vec::<String>::new());
    for ((right, slip, expected), found) in slips.iter().zip(&found[1..]) {
        let is_told = found.iter().any(|problem| problem.contains(expected));
        assert!(is_told, "{right} → {slip}: {expected} is not in {found:#?}");
    }
}

#[test]
fn the_docs_fill_in_every_word_that_a_pool_needs() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ec2.md");
    let docs = std::fs::read_to_string(docs).expect("they are there");
    let (_, rest) = docs.split_once("$ sed -e ").expect("they say how");
    let (line, _) = rest.split_once(" > busybee-policy.json").expect("and where to");
    let output = Command::new("sh")
        .args(["-c", &format!("sed -e {line}")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("sh starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let policy: Value = serde_json::from_slice(&output.stdout).expect("it is JSON still");
    let text = policy.to_string();
    for (word, _) in OURS {
        let for_some = ["KEY_NAME", "PLACEMENT_GROUP", "HOST", "ALLOCATION", "VOLUME"];
        let is_for_some = for_some.contains(&word);
        assert_eq!(text.contains(word), is_for_some, "{word}");
        assert!(docs.contains(word), "{word} is not told of");
    }
}
