//! `busybee instance reap` against moto's API: the real program, a file that names its pools, and neither
//! a master nor what one would have kept.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use busybee::master::provisioner::PrepareOrder;
use busybee::master::provisioner::Provisioner;
use busybee::master::provisioner::ec2::Ec2Provisioner;
use busybee::model::ids::CloudId;
use busybee::model::ids::LaunchId;
use busybee::model::time::Timestamp;
use busybee::runtime::clock;
use serde_json::Value;

use crate::contract;
use crate::ec2;
use crate::ec2::Api;

const HOUR_MS: u64 = 3_600_000;

/// A file with this key, and two pools in one region. No part of it but the pools is there.
fn write_file(api: &Api, id: &str, secret: &str) -> PathBuf {
    let path = api.folder.path().join(format!("busybee-{id}.toml"));
    let pool = |name: &str| {
        format!(
            "[[pool]]\nname = \"{name}\"\nprovisioner = \"ec2\"\n[pool.ec2]\nregion = \"us-east-1\"\n\
             endpoint = \"{}\"\ncredentials_file = \"{}\"\nprofile = \"test\"\nami = \"ami-0123456789\"\n\
             instance_types = [\"t3.small\"]\n",
            api.endpoint(),
            api.credentials(id, secret).display()
        )
    };
    let master =
        "[master]\nurl = \"https://ci.example.com\"\ndata_dir = \"nowhere\"\nid = \"test\"\n";
    std::fs::write(&path, format!("{master}{}{}", pool("cloud"), pool("more"))).expect("write it");
    path
}

/// Runs `busybee instance reap --expired …`: its exit code and what it printed.
fn reap(file: &Path, more: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_busybee"))
        .args(["instance", "reap", "--expired", "--config"])
        .arg(file)
        .args(more)
        .output()
        .expect("busybee starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let told = String::from_utf8(output.stdout).expect("it prints text");
    (output.status.code().unwrap_or(-1), if told.is_empty() { said } else { told })
}

fn reaped(file: &Path, more: &[&str]) -> Value {
    let (code, told) = reap(file, &[&["--json"], more].concat());
    assert_eq!(code, 0, "{told}");
    serde_json::from_str(&told).expect("--json prints JSON")
}

/// The ids in one list of an answer, in order.
fn ids(answer: &Value, list: &str) -> Vec<String> {
    let found = answer[list].as_array().expect("a list").iter();
    let mut ids: Vec<String> =
        found.map(|one| one["id"].as_str().expect("it has an id").to_owned()).collect();
    ids.sort();
    ids
}

/// Launches an instance with our own request, as a master would have.
async fn launched(provisioner: &Ec2Provisioner, number: u8, expires_at: Timestamp) -> CloudId {
    let launch = LaunchId(format!("{number:032}"));
    let order = PrepareOrder {
        launch: launch.clone(),
        worker: "cloud-1".into(),
        candidate: 0,
        seat: None,
        user_data: contract::with_password_place("true"),
        expires_at,
    };
    let prepared = provisioner.prepare(order).await.expect("it is prepared");
    let password = busybee::model::secret::Secret::new("secret".to_owned());
    let order =
        busybee::master::provisioner::LaunchOrder { launch, request: prepared.request, password };
    provisioner.launch(order).await.expect("it is launched")
}

fn sorted(ids: &[&CloudId]) -> Vec<String> {
    let mut ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn reap_ends_what_is_ours_and_past_its_expiry_and_leaves_the_rest() {
    let test = "reap_ends_what_is_ours_and_past_its_expiry_and_leaves_the_rest";
    let Some(api) = ec2::api(test, &[]) else { return };
    let now = clock::now();
    let (past, later) = (Timestamp(now.0 - HOUR_MS), Timestamp(now.0 + HOUR_MS));
    let ours = api.provisioner("AKIAANY", "any");
    let running = launched(&ours, 1, past).await;
    let stopped = launched(&ours, 2, past).await;
    ours.stop(stopped.clone()).await.expect("it can be stopped");
    let young = launched(&ours, 3, later).await;
    let gone = launched(&ours, 4, past).await;
    ours.terminate(LaunchId(format!("{:032}", 4)), Some(gone)).await.expect("it ends");
    let of_trial =
        launched(&api.provisioner_for("test-doctor-0123abcd", ec2::settings()), 5, past).await;
    let foreign = launched(&api.provisioner_for("other", ec2::settings()), 6, past).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/provisioners/leave_open.py");
    let left_open = Command::new(ec2::python(test).expect("it was there"))
        .args([script, api.endpoint(), &(past.0 / 1000).to_string()])
        .status();
    assert!(left_open.expect("python starts").success());
    let file = write_file(&api, "AKIAANY", "any");

    let dry = reaped(&file, &["--dry-run"]);
    assert_eq!(dry["dry_run"], true);
    let wet = reaped(&file, &[]);
    assert_eq!(wet["dry_run"], false);
    assert_eq!(
        ids(&dry, "ended"),
        ids(&wet, "ended"),
        "a dry run ends nothing, and tells the same"
    );
    let expected = sorted(&[&running, &stopped, &of_trial]);
    let (requests, instances): (Vec<_>, Vec<_>) =
        ids(&wet, "ended").into_iter().partition(|id| id.starts_with("sir-"));
    assert_eq!(instances, expected);
    assert_eq!(requests.len(), 1, "{wet:#}");
    assert_eq!(ids(&wet, "left"), sorted(&[&young, &foreign]));
    let of_stopped = wet["ended"].as_array().expect("a list").iter();
    let of_stopped = of_stopped.clone().find(|one| one["id"] == stopped.as_str());
    assert_eq!(of_stopped.expect("it is told")["state"], "stopped");

    // It is so, and not only said: nothing is left for a second run.
    contract::eventually("they end", async || {
        let alive = contract::alive(&ours).await;
        alive == [LaunchId(format!("{:032}", 3))]
    })
    .await;
    let again = reaped(&file, &[]);
    assert_eq!(ids(&again, "ended"), Vec::<String>::new());
    let (code, told) = reap(&file, &["--master", "other"]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains(&format!("ended {foreign} (pending, pool cloud")), "{told}");
    assert!(told.contains("it belongs to the master \"test\""), "{told}");
    assert!(told.contains("master \"other\": 1 ended, 1 left alone"), "{told}");
    assert!(!api.folder.path().join("nowhere").exists(), "and no data_dir was made");
}

#[tokio::test]
async fn reap_says_what_it_could_neither_see_nor_end() {
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/iam-policy.json");
    let test = "reap_says_what_it_could_neither_see_nor_end";
    let Some(api) = ec2::api(test, &["--policy", policy]) else { return };
    let (id, secret) = api.key("master");
    let ours = api.provisioner(&id, &secret);
    let instance = launched(&ours, 1, Timestamp(clock::now().0 - HOUR_MS)).await;

    let (stranger, its_secret) = api.key("stranger");
    let (code, told) = reap(&write_file(&api, &stranger, &its_secret), &[]);
    assert_eq!(code, 4, "{told}");
    for part in [
        &format!("could not end {instance}"),
        "not authorized to perform: ec2:TerminateInstances",
        "us-east-1: cannot see what is there: EC2 refused DescribeSpotInstanceRequests",
        "0 ended, 0 left alone, 1 could not be ended",
    ] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    // The policy that comes with Busybee is enough for all of it.
    let (code, told) = reap(&write_file(&api, &id, &secret), &[]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains(&format!("ended {instance}")), "{told}");
}

#[test]
fn reap_wants_to_know_whose_instances_and_where() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("busybee.toml");
    let master = "[master]\nurl = \"https://ci.example.com\"\ndata_dir = \"data\"\n";
    std::fs::write(&path, master).expect("write it");
    let (code, told) = reap(&path, &[]);
    assert!(code == 1 && told.contains("say --master ID"), "{code} {told}");
    let (code, told) = reap(&path, &["--master", "ci"]);
    assert!(code == 1 && told.contains("no pool with provisioner = \"ec2\""), "{code} {told}");
    // The id that the master made at its first start is its id.
    std::fs::create_dir(folder.path().join("data")).expect("a folder");
    std::fs::write(folder.path().join("data/id"), "3fa29c\n").expect("write it");
    let (code, told) = reap(&path, &[]);
    assert!(code == 1 && told.contains("no pool"), "{code} {told}");
}
