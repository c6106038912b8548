//! Each finding of the doctor, made true in a scripted account: what it says, and what it says to do.

use std::path::Path;
use std::process::Command;

use busybee::master::provisioner::Finding;
use busybee::master::provisioner::Verdict;
use busybee::master::provisioner::ec2::Ec2Provisioner;
use busybee::master::provisioner::ec2::doctor::Circumstances;
use busybee::master::provisioner::ec2::settings::Disk;
use busybee::master::provisioner::ec2::settings::Ec2Settings;
use busybee::master::provisioner::ec2::settings::Image;
use busybee::master::provisioner::ec2::settings::Market;
use busybee::model::time::Timestamp;
use serde_json::Value;

use crate::ec2;
use crate::scripted::Aws;
use crate::scripted::Scripted;
use crate::scripted::quota;
use crate::slips::REFUSED;
use crate::slips::SLIPS;

fn settings(aws: &Aws) -> Ec2Settings {
    Ec2Settings {
        region: "eu-west-1".to_owned(),
        endpoint: Some(format!("http://{}", aws.address)),
        credentials_file: Some(aws.folder.path().join("credentials")),
        profile: Some("test".to_owned()),
        image: Image::Id("ami-1".to_owned()),
        instance_types: vec!["c7i.xlarge".to_owned()],
        subnets: vec!["subnet-a".to_owned()],
        market: Market::SpotThenOnDemand,
        security_groups: vec!["sg-1".to_owned()],
        key_name: Some("ops".to_owned()),
        ..ec2::settings()
    }
}

pub(crate) fn around() -> Circumstances {
    Circumstances {
        master_port: 8443,
        architectures: vec!["x86_64".to_owned()],
        max_instances: 10,
        now: Timestamp(2_000_000_000_000),
    }
}

async fn examine(settings: Ec2Settings, around: &Circumstances) -> Vec<Finding> {
    let provisioner = Ec2Provisioner::new(settings, "test".to_owned(), "cloud".into());
    provisioner.expect("it is set up").examine(ec2::an_order(), around).await
}

fn told(findings: &[Finding]) -> String {
    findings.iter().map(|it| format!("{:?}: {}\n  → {}\n", it.verdict, it.what, it.fix)).collect()
}

/// The only finding that is not good says these words, and has these in its fix.
fn only(findings: &[Finding], verdict: Verdict, what: &str, fix: &str) {
    let not_good: Vec<&Finding> =
        findings.iter().filter(|finding| finding.verdict != Verdict::Good).collect();
    let is_it =
        |it: &&Finding| it.verdict == verdict && it.what.contains(what) && it.fix.contains(fix);
    let [one] = not_good[..] else {
        panic!("one finding was to be made, with \"{what}\":\n{}", told(findings));
    };
    assert!(is_it(&one), "\"{what}\" and \"{fix}\" are not in\n{}", told(findings));
}

#[tokio::test]
async fn in_a_well_kept_account_everything_is_good() {
    let aws = Aws::well().await;
    let found = examine(settings(&aws), &around()).await;
    let text = told(&found);
    assert!(found.iter().all(|finding| finding.verdict == Verdict::Good), "{text}");
    for line in [
        "the clocks agree",
        "subnet-a in eu-west-1a has 250 free addresses, and a public address",
        "sg-1 lets nothing in",
        "the key pair ops is there",
        "the account has its role for spot",
        "10 × c7i.xlarge (spot) are 40 vCPUs, and the account's quota is 64",
        "may launch c7i.xlarge spot in subnet-a (dry run)",
    ] {
        assert!(text.contains(line), "\"{line}\" is not in\n{text}");
    }
    assert!(found.iter().all(|finding| finding.fix.is_empty()), "{text}");
}

#[tokio::test]
async fn each_slip_in_an_account_is_found_alone_and_has_its_fix() {
    for (action, part, by, verdict, what, fix) in SLIPS {
        let aws = Aws::well().await;
        aws.changes(action, part, by);
        only(&examine(settings(&aws), &around()).await, *verdict, what, fix);
    }
}

#[tokio::test]
async fn each_refusal_is_told_in_awss_words_and_has_its_fix() {
    for (action, status, code, message, verdict, what, fix) in REFUSED {
        let aws = Aws::well().await;
        aws.says(action, Scripted::Error(*status, code, message));
        only(&examine(settings(&aws), &around()).await, *verdict, what, fix);
    }
}

#[tokio::test]
async fn a_root_disk_that_is_named_by_its_role_and_by_its_device_is_told_once() {
    let aws = Aws::well().await;
    let disk = Disk { size_gb: Some(100), ..Disk::default() };
    let disks = [("/dev/xvda".to_owned(), disk.clone())].into();
    let by_device = Ec2Settings { disks, ..settings(&aws) };
    let found = examine(by_device.clone(), &around()).await;
    assert!(found.iter().all(|finding| finding.verdict == Verdict::Good), "{}", told(&found));
    let twice = Ec2Settings { root_disk: disk, ..by_device };
    let what = "volumes names the root disk twice: as \"root\", and as /dev/xvda";
    only(&examine(twice, &around()).await, Verdict::Bad, what, "leave one of the two");
}

#[tokio::test]
async fn a_dry_run_that_is_refused_says_what_would_let_it_through() {
    let denied = "UnauthorizedOperation";
    for (status, code, message, verdict, fix) in [
        (
            403,
            denied,
            "not authorized to perform: iam:PassRole on resource: r",
            Verdict::Bad,
            "iam:PassRole for exactly",
        ),
        (
            403,
            denied,
            "with an explicit deny in a service control policy",
            Verdict::Bad,
            "under `tags`",
        ),
        (
            403,
            denied,
            "Encoded authorization failure message: abc",
            Verdict::Bad,
            "decode-authorization-message",
        ),
        (
            403,
            denied,
            "not authorized to perform: ec2:RunInstances",
            Verdict::Bad,
            "deploy/iam-policy.json",
        ),
        (
            400,
            "TagPolicyViolation",
            "The tag policy does not allow it",
            Verdict::Bad,
            "under `tags`",
        ),
        (
            400,
            "PendingVerification",
            "Your request is being validated",
            Verdict::Bad,
            "wait for its mail",
        ),
        (400, "VcpuLimitExceeded", "You have requested more vCPU", Verdict::Bad, "Service Quotas"),
        (
            403,
            "AuthFailure.ServiceLinkedRoleCreationNotPermitted",
            "The provided credentials do not have permission to create the service-linked role",
            Verdict::Bad,
            "create-service-linked-role",
        ),
        (
            400,
            "InvalidParameterValue",
            "Value (x) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name",
            Verdict::Bad,
            "instance_profile",
        ),
        (
            400,
            "Unsupported",
            "is not supported in your requested Availability Zone",
            Verdict::Doubtful,
            "skipped",
        ),
    ] {
        let aws = Aws::well().await;
        aws.says("RunInstances", Scripted::Error(status, code, message));
        // Spot and on demand are refused alike, and told once.
        let found = examine(settings(&aws), &around()).await;
        only(&found, verdict, code, fix);
        only(&found, verdict, "cannot launch c7i.xlarge spot in subnet-a, nor c7i.xlarge in", fix);
    }
}

#[tokio::test]
async fn a_quota_is_told_before_it_is_met() {
    let on_demand = |aws: &Aws| Ec2Settings { market: Market::OnDemand, ..settings(aws) };
    for (answer, verdict, what) in [
        (
            Scripted::Json(200, quota(5)),
            Verdict::Doubtful,
            "are 40 vCPUs, and the account's quota is 5",
        ),
        (Scripted::Json(200, quota(2)), Verdict::Bad, "quota is 2"),
        (
            Scripted::Json(400, "{\"__type\": \"NoSuchResourceException\"}".to_owned()),
            Verdict::Doubtful,
            "a new account has about 5",
        ),
        (
            Scripted::Json(
                400,
                "{\"__type\": \"a#AccessDeniedException\", \"Message\": \"no\"}".to_owned(),
            ),
            Verdict::Doubtful,
            "AccessDenied",
        ),
    ] {
        let aws = Aws::well().await;
        aws.says("GetServiceQuota", answer);
        only(&examine(on_demand(&aws), &around()).await, verdict, what, "");
    }
}

#[tokio::test]
async fn a_clock_that_is_off_and_an_image_without_an_agent_are_found() {
    let aws = Aws::well().await;
    aws.is_behind(60);
    only(&examine(settings(&aws), &around()).await, Verdict::Doubtful, "s ahead of EC2's", "NTP");
    aws.is_behind(900);
    only(&examine(settings(&aws), &around()).await, Verdict::Bad, "which refuses that", "NTP");

    let aws = Aws::well().await;
    let around = Circumstances { architectures: vec!["aarch64".to_owned()], ..around() };
    only(
        &examine(settings(&aws), &around).await,
        Verdict::Bad,
        "no agent is here for x86_64",
        "agent_dir",
    );
}

#[tokio::test]
async fn keys_of_ones_own_that_encrypt_disks_are_told() {
    let aws = Aws::well().await;
    aws.changes("GetEbsEncryptionByDefault", "false", "true");
    let found = examine(settings(&aws), &around()).await;
    assert!(told(&found).contains("by AWS's own key"), "{}", told(&found));
    aws.changes("GetEbsDefaultKmsKeyId", "alias/aws/ebs", "arn:aws:kms:eu-west-1:1:key/k");
    only(&examine(settings(&aws), &around()).await, Verdict::Doubtful, "key/k", "docs/ec2.md");
}

#[tokio::test]
async fn an_instance_past_its_expiry_is_told_and_another_master_s_is_not() {
    let instance = |master: &str| {
        format!(
            "<reservationSet><item><instancesSet><item><instanceId>i-1</instanceId><instanceState>\
             <name>stopped</name></instanceState><tagSet><item><key>busybee:master</key>\
             <value>{master}</value></item><item><key>busybee:expires</key><value>1000</value></item>\
             </tagSet></item></instancesSet></item></reservationSet>"
        )
    };
    let aws = Aws::well().await;
    let would = Scripted::Error(412, "DryRunOperation", "It would have worked.");
    aws.says("TerminateInstances", would.clone());
    aws.says("GetConsoleOutput", would);
    aws.says("DescribeInstances", Scripted::Xml(instance("other")));
    let found = examine(settings(&aws), &around()).await;
    assert!(found.iter().all(|it| it.verdict == Verdict::Good), "{}", told(&found));
    assert!(told(&found).contains("may end instances (dry run)"), "{}", told(&found));
    aws.says("DescribeInstances", Scripted::Xml(instance("test")));
    let found = examine(settings(&aws), &around()).await;
    only(
        &found,
        Verdict::Doubtful,
        "1 instance of this master past their expiry: i-1 (stopped)",
        "reap",
    );
}

#[tokio::test]
async fn without_subnets_the_default_vpc_must_be_there() {
    let aws = Aws::well().await;
    let any = Ec2Settings { subnets: Vec::new(), ..settings(&aws) };
    let found = examine(any.clone(), &around()).await;
    assert!(told(&found).contains("one of the default VPC (eu-west-1a)"), "{}", told(&found));
    aws.says("DescribeSubnets", Scripted::Xml("<subnetSet/>".to_owned()));
    let found = examine(any, &around()).await;
    only(&found, Verdict::Bad, "eu-west-1 has no default VPC", "create-default-vpc");
}

#[tokio::test]
async fn credentials_that_are_wrong_are_told_once_and_nothing_more_is_asked() {
    let aws = Aws::well().await;
    aws.says(
        "DescribeImages",
        Scripted::Error(401, "AuthFailure", "not able to validate the credentials"),
    );
    only(&examine(settings(&aws), &around()).await, Verdict::Bad, "AuthFailure", "credentials");
    assert!(!aws.asked().contains(&"RunInstances".to_owned()), "{:?}", aws.asked());
}

/// A database of the newest schema, with an open row of pool "linux".
fn write_ledger(data_dir: &Path) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/db");
    let mut files: Vec<_> = std::fs::read_dir(fixtures)
        .expect("the fixtures are there")
        .map(|file| file.expect("a file").path())
        .collect();
    files.sort();
    let sql = std::fs::read_to_string(files.last().expect("there is one")).expect("read it");
    std::fs::create_dir_all(data_dir).expect("make data_dir");
    let database = rusqlite::Connection::open(data_dir.join("busybee.sqlite3")).expect("open it");
    database.execute_batch(&sql).expect("it is a database as text");
}

#[tokio::test]
async fn the_program_tells_all_of_it_and_what_the_ledger_has_of_pools_that_are_gone() {
    let aws = Aws::well().await;
    let folder = aws.folder.path();
    write_ledger(&folder.join("data"));
    let file = folder.join("busybee.toml");
    let text = format!(
        "[master]\nurl = \"https://127.0.0.1:1\"\ndata_dir = \"data\"\nid = \"test\"\n\
         [[pool]]\nname = \"cloud\"\nprovisioner = \"ec2\"\nmax_instances = 2\n[pool.ec2]\n\
         region = \"eu-west-1\"\nendpoint = \"http://{}\"\ncredentials_file = \"credentials\"\n\
         profile = \"test\"\nami = \"ami-1\"\ninstance_types = [\"c7i.xlarge\"]\n\
         subnets = [\"subnet-a\"]\nsecurity_groups = [\"sg-1\"]\n",
        aws.address
    );
    std::fs::write(&file, text).expect("write the file");
    let run = async |more: &'static str| {
        let file = file.clone();
        let run = tokio::task::spawn_blocking(move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_busybee"));
            command.arg("doctor").arg("--config").arg(file).args(more.split_whitespace());
            command.output().expect("busybee starts")
        });
        run.await.expect("it ends")
    };
    let output = run("--json").await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    assert_eq!((output.status.code(), &told["ok"]), (Some(1), &Value::Bool(false)), "{told:#}");
    let finding = |part: usize, words: &str| {
        let findings = told["parts"][part]["findings"].as_array().expect("a list");
        let found = findings.iter().find(|one| one["what"].as_str().expect("text").contains(words));
        found.unwrap_or_else(|| panic!("\"{words}\" is not in {told:#}")).clone()
    };
    let itself = finding(0, "which on an instance is the instance itself");
    assert_eq!(itself["verdict"], "bad");
    let gone = finding(0, "1 instance of pool \"linux\" is open in the ledger");
    assert_eq!(gone["verdict"], "bad");
    assert!(gone["fix"].as_str().expect("text").contains("put the pool back"), "{gone:#}");
    assert_eq!(finding(1, "may launch c7i.xlarge in subnet-a")["verdict"], "good");

    let read = String::from_utf8(run("").await.stdout).expect("text");
    assert!(read.contains("  bad   1 instance of pool \"linux\""), "{read}");
}

#[tokio::test]
async fn moto_s_answers_are_read_as_the_scripted_ones_are() {
    let test = "moto_s_answers_are_read_as_the_scripted_ones_are";
    let Some(api) = ec2::api(test, &[]) else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/provisioners/slips.py");
    let made = Command::new(ec2::python(test).expect("it was there"))
        .args([script, api.endpoint()])
        .output()
        .expect("python starts");
    let ids: Value = serde_json::from_slice(&made.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&made.stderr)));
    let id = |name: &str| ids[name].as_str().expect("it was made").to_owned();
    let wanted = Ec2Settings {
        subnets: vec![id("subnet")],
        security_groups: vec![id("group")],
        key_name: Some("ops".to_owned()),
        market: Market::Spot,
        ..ec2::settings()
    };
    let provisioner = api.provisioner_of("AKIAANY", "any", wanted);
    let text = told(&provisioner.examine(ec2::an_order(), &around()).await);
    for line in [
        format!(
            "Bad: instances in {} get no public address, and its route leads to {}",
            id("subnet"),
            id("gateway")
        ),
        format!("Doubtful: the network ACL {} of {} keeps answers out", id("acl"), id("subnet")),
        format!("Doubtful: {} has no DNS", id("vpc")),
        format!("Doubtful: {} has inbound rules", id("group")),
        "Bad: no security group lets instances out to port 8443".to_owned(),
        "InvalidKeyPair.NotFound".to_owned(),
        format!(
            "Doubtful: 1 volume of this master belong to no instance: {} (7 GiB)",
            id("volume")
        ),
        "Good: the account has its role for spot".to_owned(),
        "Good: disks are encrypted, by AWS's own key".to_owned(),
        "Doubtful: t3.small works at full speed only while it has credits".to_owned(),
    ] {
        assert!(text.contains(&line), "\"{line}\" is not in\n{text}");
    }
}
