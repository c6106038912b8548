//! The `ec2` provisioner against moto's API, without machines behind it: the contract, and what
//! becomes of keys and permissions that are wrong.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use busybee::master::domain::event::LaunchFailure;
use busybee::master::domain::event::MachineState;
use busybee::master::provisioner::Finding;
use busybee::master::provisioner::PrepareOrder;
use busybee::master::provisioner::Provisioner;
use busybee::master::provisioner::ec2::Ec2Provisioner;
use busybee::master::provisioner::ec2::marked::Region;
use busybee::master::provisioner::ec2::prices::Prices;
use busybee::master::provisioner::ec2::settings::Disk;
use busybee::master::provisioner::ec2::settings::Ec2Settings;
use busybee::master::provisioner::ec2::settings::Image;
use busybee::master::provisioner::ec2::settings::Market;
use busybee::master::provisioner::ec2::settings::Placement;
use busybee::model::ids::LaunchId;
use busybee::model::money::Money;
use busybee::model::time::Timestamp;
use serde_json::Value;

use crate::contract;

/// moto, for as long as a test wants it.
pub(crate) struct Api {
    process: Child,
    facts: Value,
    pub(crate) folder: tempfile::TempDir,
}

impl Drop for Api {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

/// The Python that has moto and botocore; where there is none, the test is skipped by name.
pub(crate) fn python(test: &str) -> Option<String> {
    let var = std::env::var("RIG_VAR").unwrap_or_else(|_| "/var/tmp/busybee-rig".to_owned());
    let python = format!("{var}/venv/bin/python");
    if !std::path::Path::new(&python).exists() {
        assert!(std::env::var_os("BUSYBEE_REQUIRE_TOOLS").is_none(), "{test} needs {python}");
        println!("SKIPPED {test}: there is no moto at {python}; tests/run makes it");
        return None;
    }
    Some(python)
}

/// Nothing where there is no moto.
pub(crate) fn api(test: &str, arguments: &[&str]) -> Option<Api> {
    served(test, &[&["-m", "ec2rig", "api"], arguments].concat())
}

/// The same by another script. Nothing where there is no moto.
pub(crate) fn served(test: &str, arguments: &[&str]) -> Option<Api> {
    let python = python(test)?;
    let mut process = Command::new(python)
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

/// Of a pool like any other.
pub(crate) fn settings() -> Ec2Settings {
    Ec2Settings {
        region: "us-east-1".to_owned(),
        endpoint: None,
        credentials_file: None,
        profile: None,
        image: Image::Newest { owners: vec!["self".into()], name: "debian-12-*".into() },
        instance_types: vec!["t3.small".to_owned()],
        subnets: Vec::new(),
        market: Market::OnDemand,
        max_price: None,
        security_groups: Vec::new(),
        key_name: None,
        instance_profile: None,
        public_ip: None,
        ipv6: false,
        cpu_credits: None,
        elastic_ips: Vec::new(),
        root_disk: Disk::default(),
        disks: BTreeMap::new(),
        attached: Vec::new(),
        placement: Placement::default(),
        tags: BTreeMap::from([("team".to_owned(), "a+b *~ü".to_owned())]),
        prices: Default::default(),
    }
}

impl Api {
    /// A provisioner whose key is this one, by way of a profile of its own.
    pub(crate) fn provisioner(&self, id: &str, secret: &str) -> Ec2Provisioner {
        self.provisioner_of(id, secret, settings())
    }

    pub(crate) fn provisioner_of(
        &self,
        id: &str,
        secret: &str,
        settings: Ec2Settings,
    ) -> Ec2Provisioner {
        let settings = self.here(id, secret, settings);
        Ec2Provisioner::new(settings, "test".to_owned(), "cloud".into()).expect("it is set up")
    }

    /// As the master with this id, with any key.
    pub(crate) fn provisioner_for(&self, master: &str, settings: Ec2Settings) -> Ec2Provisioner {
        let settings = self.here("AKIAANY", "any", settings);
        Ec2Provisioner::new(settings, master.to_owned(), "cloud".into()).expect("it is set up")
    }

    fn here(&self, id: &str, secret: &str, settings: Ec2Settings) -> Ec2Settings {
        Ec2Settings {
            endpoint: Some(self.endpoint().to_owned()),
            credentials_file: Some(self.credentials(id, secret)),
            profile: Some("test".to_owned()),
            ..settings
        }
    }

    pub(crate) fn endpoint(&self) -> &str {
        self.fact("endpoint")
    }

    pub(crate) fn fact(&self, name: &str) -> &str {
        self.facts[name].as_str().expect("it tells it")
    }

    pub(crate) fn credentials(&self, id: &str, secret: &str) -> std::path::PathBuf {
        let path = self.folder.path().join(format!("credentials-{id}"));
        let text = format!("[test]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
        std::fs::write(&path, text).expect("write the key down");
        path
    }

    pub(crate) fn key(&self, user: &str) -> (String, String) {
        let key = |name: &str| {
            let key = self.facts["users"][user][name].as_str();
            key.expect("the user was made").to_owned()
        };
        (key("id"), key("secret"))
    }
}

pub(crate) fn an_order() -> PrepareOrder {
    PrepareOrder {
        launch: LaunchId("a0000000000000000000000000000000".into()),
        worker: "cloud-1".into(),
        candidate: 0,
        seat: None,
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

#[tokio::test]
async fn an_instance_that_was_stopped_is_listed_so_and_can_be_started_again() {
    let Some(api) = api("an_instance_that_was_stopped_is_listed_so", &[]) else { return };
    let provisioner = api.provisioner("AKIAANY", "any");
    let order = contract::order(&provisioner, &an_order().launch, "true").await;
    let id = provisioner.launch(order.clone()).await.expect("it is launched");
    let is = async |state: MachineState| {
        let machines = provisioner.list().await.expect("the listing works");
        machines.iter().any(|machine| machine.cloud_id == id && machine.state == state)
    };
    provisioner.stop(id.clone()).await.expect("what is there can be stopped");
    contract::eventually("it is stopped", async || is(MachineState::Stopped).await).await;
    provisioner.start(id.clone()).await.expect("what is stopped can be started");
    contract::eventually("it starts", async || is(MachineState::Starting).await).await;
    provisioner.terminate(order.launch, Some(id.clone())).await.expect("it ends");
    let gone = provisioner.start(id.clone()).await.expect_err("it has ended");
    assert!(gone.sentence.contains("StartInstances"), "{gone}");
    let unknown = provisioner.stop("i-0123456789abcdef0".into()).await.expect_err("there is none");
    assert!(unknown.sentence.contains("InvalidInstanceID.NotFound"), "{unknown}");
}

#[tokio::test]
async fn a_spot_price_that_is_too_low_leaves_no_request_behind() {
    let test = "a_spot_price_that_is_too_low_leaves_no_request_behind";
    let Some(api) = api(test, &[]) else { return };
    let (market, max_price) = (Market::Spot, Some("0.0001".to_owned()));
    let settings = Ec2Settings { market, max_price, ..settings() };
    let provisioner = api.provisioner_of("AKIAANY", "any", settings.clone());
    let order = contract::order(&provisioner, &an_order().launch, "true").await;
    let refused = provisioner.launch(order).await.expect_err("nobody sells at that price");
    assert_eq!(refused.failure, LaunchFailure::Capacity, "{refused}");
    assert!(refused.sentence.contains("SpotMaxPriceTooLow"), "{refused}");
    let region = Region::new(&api.here("AKIAANY", "any", settings)).expect("it is set up");
    // EC2 would start it later, for nobody.
    assert_eq!(region.open_spot_requests().await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_launch_has_the_price_of_its_market_and_what_the_admin_says_goes_first() {
    let test = "a_launch_has_the_price_of_its_market_and_what_the_admin_says_goes_first";
    let Some(api) = api(test, &[]) else { return };
    let own = Prices { own: [("t3.small".to_owned(), Money(25_000))].into() };
    for (market, max_price, prices, micros) in [
        (Market::OnDemand, None, Prices::default(), 20_800),
        (Market::OnDemand, None, own.clone(), 25_000),
        // What the stand-in sells everything for.
        (Market::Spot, None, own.clone(), 3_300),
        (Market::Spot, Some("0.0005"), own, 500),
    ] {
        let max_price = max_price.map(str::to_owned);
        let settings = Ec2Settings { market, max_price, prices, ..settings() };
        let provisioner = api.provisioner_of("AKIAANY", "any", settings);
        let prepared = provisioner.prepare(an_order()).await.expect("it can be asked for");
        assert_eq!(prepared.price_per_hour, Some(Money(micros)), "{market:?}");
    }
}

/// What a doctor finds, one a line.
async fn examined(provisioner: &Ec2Provisioner) -> String {
    let findings = provisioner.examine(an_order(), &crate::doctor::around()).await;
    let one = |finding: &Finding| format!("{:?}: {}\n", finding.verdict, finding.what);
    findings.iter().map(one).collect()
}

#[tokio::test]
async fn a_doctor_says_what_a_launch_would_lack() {
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/iam-policy.json");
    let Some(api) = api("a_doctor_says_what_a_launch_would_lack", &["--policy", policy]) else {
        return;
    };
    let (id, secret) = api.key("master");
    let right = api.provisioner(&id, &secret);
    let told = examined(&right).await;
    assert!(!told.contains("Bad"), "{told}");
    // moto's default VPC has no gateway; its six subnets are told as one.
    let ways = told.lines().filter(|line| line.contains("no way to the internet"));
    let ways: Vec<&str> = ways.collect();
    assert!(matches!(ways[..], [one] if one.contains("and 4 more")), "{told}");
    for line in [
        "Good: EC2 answers, and the clocks agree",
        "Good: image ami-",
        "Good: t3.small runs images for x86_64",
        "Good: the master may launch t3.small (dry run)",
        "Good: whether the master may end instances shows only on one that is there",
    ] {
        assert!(told.contains(line), "{line} is not in\n{told}");
    }
    let order = contract::order(&right, &an_order().launch, "true").await;
    right.launch(order.clone()).await.expect("it may");
    let told = examined(&right).await;
    assert!(told.contains("Good: the master may end instances (dry run)"), "{told}");
    assert!(told.contains("Good: the master may read their consoles"), "{told}");
    right.terminate(order.launch, None).await.expect("it ends");

    let arm = Ec2Settings { instance_types: vec!["t4g.small".to_owned()], ..settings() };
    let told = examined(&api.provisioner_of(&id, &secret, arm)).await;
    assert!(told.contains("Bad: t4g.small is for arm64, the image for x86_64"), "{told}");
    let subnet = Ec2Settings { subnets: vec!["subnet-0bad".to_owned()], ..settings() };
    let told = examined(&api.provisioner_of(&id, &secret, subnet)).await;
    assert!(told.contains("Bad: ") && told.contains("InvalidSubnetID.NotFound"), "{told}");
    let group = Ec2Settings { security_groups: vec!["sg-0bad".to_owned()], ..settings() };
    let told = examined(&api.provisioner_of(&id, &secret, group)).await;
    assert!(told.contains("Bad: ") && told.contains("InvalidGroup.NotFound"), "{told}");

    let (id, secret) = api.key("stranger");
    let told = examined(&api.provisioner(&id, &secret)).await;
    assert!(told.contains("Bad: ") && told.contains("ec2:RunInstances"), "{told}");
    let told = examined(&api.provisioner("AKIAUNKNOWNKEY", "any")).await;
    assert!(told.contains("Bad: ") && told.contains("AuthFailure"), "{told}");
}
