//! The `ec2` provisioner against moto's API, without machines behind it: the contract, and what
//! becomes of keys and permissions that are wrong.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use busybee::master::domain::event::LaunchFailure;
use busybee::master::provisioner::PrepareOrder;
use busybee::master::provisioner::Provisioner;
use busybee::master::provisioner::ec2::Ec2Provisioner;
use busybee::master::provisioner::ec2::settings::Ec2Settings;
use busybee::master::provisioner::ec2::settings::Image;
use busybee::master::provisioner::ec2::settings::Market;
use busybee::master::provisioner::ec2::settings::RootDisk;
use busybee::model::ids::LaunchId;
use busybee::model::time::Timestamp;
use serde_json::Value;

use crate::contract;

/// moto, for as long as a test wants it.
struct Api {
    process: Child,
    facts: Value,
    folder: tempfile::TempDir,
}

impl Drop for Api {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

/// Nothing where there is no moto; the test is skipped by name then.
fn api(test: &str, arguments: &[&str]) -> Option<Api> {
    let var = std::env::var("RIG_VAR").unwrap_or_else(|_| "/var/tmp/busybee-rig".to_owned());
    let python = format!("{var}/venv/bin/python");
    if !std::path::Path::new(&python).exists() {
        assert!(std::env::var_os("BUSYBEE_REQUIRE_TOOLS").is_none(), "{test} needs {python}");
        println!("SKIPPED {test}: there is no moto at {python}; tests/run makes it");
        return None;
    }
    let mut process = Command::new(python)
        .args(["-m", "ec2rig", "api"])
        .args(arguments)
        .env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rig"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("python starts");
    let mut line = String::new();
    let output = process.stdout.take().expect("its output is ours");
    std::io::BufReader::new(output).read_line(&mut line).expect("it says where it is");
    let facts = serde_json::from_str(&line).expect("it prints JSON");
    Some(Api { process, facts, folder: tempfile::tempdir().expect("a folder") })
}

impl Api {
    /// A provisioner whose key is this one, by way of a profile of its own.
    fn provisioner(&self, id: &str, secret: &str) -> Ec2Provisioner {
        let settings = Ec2Settings {
            region: "us-east-1".to_owned(),
            endpoint: self.facts["endpoint"].as_str().map(str::to_owned),
            credentials_file: Some(self.credentials(id, secret)),
            profile: Some("test".to_owned()),
            image: Image::Newest { owners: vec!["self".into()], name: "debian-12-*".into() },
            instance_types: vec!["t3.small".to_owned()],
            subnets: Vec::new(),
            market: Market::OnDemand,
            max_price: None,
            security_groups: Vec::new(),
            key_name: None,
            instance_profile: None,
            public_ip: None,
            root_disk: RootDisk::default(),
            tags: BTreeMap::from([("team".to_owned(), "a+b *~ü".to_owned())]),
        };
        Ec2Provisioner::new(settings, "test".to_owned(), "cloud".into()).expect("it is set up")
    }

    fn credentials(&self, id: &str, secret: &str) -> std::path::PathBuf {
        let path = self.folder.path().join(format!("credentials-{id}"));
        let text = format!("[test]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
        std::fs::write(&path, text).expect("write the key down");
        path
    }

    fn key(&self, user: &str) -> (String, String) {
        let key = |name: &str| {
            let key = self.facts["users"][user][name].as_str();
            key.expect("the user was made").to_owned()
        };
        (key("id"), key("secret"))
    }
}

fn an_order() -> PrepareOrder {
    PrepareOrder {
        launch: LaunchId("a0000000000000000000000000000000".into()),
        worker: "cloud-1".into(),
        candidate: 0,
        user_data: contract::with_password_place("true"),
        expires_at: Timestamp(4_000_000_000_000),
    }
}

#[tokio::test]
async fn the_ec2_provisioner_keeps_the_contract() {
    let Some(api) = api("the_ec2_provisioner_keeps_the_contract", &[]) else { return };
    contract::check(&api.provisioner("AKIAANY", "any"), "true").await;
}

#[tokio::test]
async fn a_right_key_works_and_every_wrong_one_is_told_in_awss_words() {
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/iam-policy.json");
    let test = "a_right_key_works_and_every_wrong_one_is_told_in_awss_words";
    let Some(api) = api(test, &["--policy", policy]) else { return };
    let (id, secret) = api.key("master");
    let right = api.provisioner(&id, &secret);
    right.list().await.expect("the right key may list");
    let order = contract::order(&right, &an_order().launch, "true").await;
    right.launch(order.clone()).await.expect("and launch");
    right.terminate(order.launch.clone(), None).await.expect("and end");

    for (id, secret, expected) in
        [(id.as_str(), "wrong", "SignatureDoesNotMatch"), ("AKIAUNKNOWNKEY", "any", "AuthFailure")]
    {
        let wrong = api.provisioner(id, secret);
        let told = wrong.list().await.expect_err("it is refused");
        let is_told = told.contains(expected) || told.contains("AuthFailure");
        assert!(is_told && told.contains("DescribeInstances"), "{expected}: {told}");
        let refused = wrong.prepare(an_order()).await.expect_err("it is refused");
        assert_eq!(refused.failure, LaunchFailure::Denied, "{refused}");
    }

    let (id, secret) = api.key("stranger");
    let stranger = api.provisioner(&id, &secret);
    let order = contract::order(&stranger, &LaunchId("b000".into()), "true").await;
    let refused = stranger.launch(order).await.expect_err("its policy lacks RunInstances");
    assert_eq!(refused.failure, LaunchFailure::Denied, "{refused}");
    let told = "is not authorized to perform: ec2:RunInstances";
    assert!(refused.sentence.contains(told), "{refused}");
}
