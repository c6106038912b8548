//! An instance's own address and volumes, against moto's API: given once, never taken from anybody, and
//! left as they are when the instance is gone.

use std::net::Ipv4Addr;
use std::process::Command;

use busybee::master::domain::event::LaunchFailure;
use busybee::master::provisioner::EquipOrder;
use busybee::master::provisioner::Finding;
use busybee::master::provisioner::LaunchError;
use busybee::master::provisioner::LaunchOrder;
use busybee::master::provisioner::PrepareOrder;
use busybee::master::provisioner::Prepared;
use busybee::master::provisioner::Provisioner;
use busybee::master::provisioner::ec2::Ec2Provisioner;
use busybee::master::provisioner::ec2::settings::Attached;
use busybee::master::provisioner::ec2::settings::Ec2Settings;
use busybee::master::provisioner::ec2::settings::ElasticIp;
use busybee::model::ids::CloudId;
use busybee::model::ids::LaunchId;
use busybee::model::secret::Secret;
use busybee::model::time::Timestamp;
use serde_json::Value;

use crate::contract;
use crate::doctor;
use crate::ec2;
use crate::ec2::Api;

/// moto, whose instances are up at once.
pub(crate) fn at_once(test: &str) -> Option<Api> {
    ec2::served(test, &[concat!(env!("CARGO_MANIFEST_DIR"), "/tests/provisioners/at_once.py")])
}

/// What `belongings.py` says.
pub(crate) fn ask(api: &Api, arguments: &[&str]) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/provisioners/belongings.py");
    let python = ec2::python("belongings").expect("it was there");
    let output = Command::new(python).arg(script).arg(api.endpoint()).args(arguments).output();
    let output = output.expect("python starts");
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {problem}");
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

fn prepare_order(number: u32, seat: u32) -> PrepareOrder {
    PrepareOrder {
        launch: LaunchId(format!("{number:032}")),
        worker: "cloud-1".into(),
        candidate: 0,
        seat: Some(seat),
        user_data: contract::with_password_place("true"),
        expires_at: Timestamp(4_000_000_000_000),
    }
}

/// A launch of this number in this seat, up to what EC2 calls it.
async fn launched(provisioner: &Ec2Provisioner, number: u32, seat: u32) -> EquipOrder {
    let order = prepare_order(number, seat);
    let launch = order.launch.clone();
    let Prepared { request, .. } = provisioner.prepare(order).await.expect("it is prepared");
    let password = Secret::new("secret".to_owned());
    let order = LaunchOrder { launch: launch.clone(), request: request.clone(), password };
    let cloud_id = provisioner.launch(order).await.expect("it is launched");
    EquipOrder { launch, cloud_id, request }
}

/// Asks until it is no longer "not yet", as the domain does.
async fn equipped(provisioner: &Ec2Provisioner, order: &EquipOrder) -> Result<(), LaunchError> {
    let mut outcome = Ok(());
    contract::eventually("it is settled", async || {
        outcome = provisioner.equip(order.clone()).await;
        !matches!(&outcome, Err(why) if why.failure == LaunchFailure::Unsettled)
    })
    .await;
    outcome
}

/// Two seats: an address each, and a volume each of the first zone.
fn seated(made: &Value) -> Ec2Settings {
    let zone = text(&made["zones"][0]);
    let volumes = made["volumes"][&zone].as_array().expect("a list").iter().map(text).collect();
    let address: Ipv4Addr = text(&made["addresses"][0]).parse().expect("an address");
    let other = ElasticIp::Allocation(text(&made["allocations"][1]));
    Ec2Settings {
        elastic_ips: vec![ElasticIp::Address(address), other],
        attached: vec![Attached { volumes, device: "/dev/sdf".to_owned() }],
        ..ec2::settings()
    }
}

#[tokio::test]
async fn each_seat_has_its_address_and_volume_and_they_outlive_the_instance() {
    let test = "each_seat_has_its_address_and_volume_and_they_outlive_the_instance";
    let Some(api) = at_once(test) else { return };
    let made = ask(&api, &["make"]);
    let provisioner = api.provisioner_of("AKIAANY", "any", seated(&made));
    let zone = text(&made["zones"][0]);
    for seat in [0, 1] {
        let order = launched(&provisioner, 10 + seat, seat).await;
        let id = order.cloud_id.clone();
        assert_eq!(ask(&api, &["show", id.as_str()])["zone"], zone.as_str(), "where its volume is");
        equipped(&provisioner, &order).await.expect("it gets what is its own");
        provisioner.equip(order.clone()).await.expect("the same again changes nothing");
        let index = seat as usize;
        let address = text(&made["addresses"][index]);
        let volume = text(&made["volumes"][&zone][index]);
        let holders = ask(&api, &["look", &address, &volume]);
        assert_eq!(
            (&holders["address"], &holders["volume"]),
            (&id.0.clone().into(), &id.0.clone().into())
        );

        // Whoever comes while it is there waits for it: it is one of ours.
        let waits =
            provisioner.prepare(prepare_order(20 + seat, seat)).await.expect_err("it is taken");
        assert_eq!(waits.failure, LaunchFailure::Unsettled, "{waits}");

        provisioner.terminate(order.launch.clone(), Some(id)).await.expect("it ends");
        let is_free = async || {
            let holders = ask(&api, &["look", &address, &volume]);
            holders["address"] == "" && holders["volume"] == ""
        };
        contract::eventually("both are free, and there", is_free).await;
    }
}

#[tokio::test]
async fn what_somebody_else_has_is_an_error_of_that_launch_and_stays_theirs() {
    let test = "what_somebody_else_has_is_an_error_of_that_launch_and_stays_theirs";
    let Some(api) = at_once(test) else { return };
    let made = ask(&api, &["make"]);
    let provisioner = api.provisioner_of("AKIAANY", "any", seated(&made));
    let early = launched(&provisioner, 1, 0).await;
    let (address, volume) =
        (text(&made["addresses"][0]), text(&made["volumes"][&text(&made["zones"][0])][0]));
    let stranger = text(&ask(&api, &["take", &address, &volume]));

    let late = provisioner.prepare(prepare_order(2, 0)).await.expect_err("it is taken");
    assert_eq!(late.failure, LaunchFailure::Other, "{late}");
    assert!(late.sentence.contains(&format!("{address} is taken by {stranger}")), "{late}");
    let refused = equipped(&provisioner, &early).await.expect_err("it was taken meanwhile");
    assert_eq!(refused.failure, LaunchFailure::Other, "{refused}");
    let holders = ask(&api, &["look", &address, &volume]);
    assert_eq!((text(&holders["address"]), text(&holders["volume"])), (stranger.clone(), stranger));

    let told = examined(&provisioner).await;
    assert!(told.contains(&format!("Bad: {address} is taken by")), "{told}");
    assert!(told.contains(&format!("Bad: {volume} is attached to")), "{told}");
    assert!(told.contains("Good: the elastic IP"), "the other one is free\n{told}");
}

/// What a doctor finds, one a line.
async fn examined(provisioner: &Ec2Provisioner) -> String {
    let findings = provisioner
        .examine(PrepareOrder { seat: None, ..prepare_order(9, 0) }, &doctor::around())
        .await;
    let one = |finding: &Finding| format!("{:?}: {}\n", finding.verdict, finding.what);
    findings.iter().map(one).collect()
}

#[tokio::test]
async fn volumes_bind_an_instance_to_their_zone_and_a_doctor_says_so() {
    let test = "volumes_bind_an_instance_to_their_zone_and_a_doctor_says_so";
    let Some(api) = at_once(test) else { return };
    let made = ask(&api, &["make"]);
    let (here, there) = (text(&made["zones"][0]), text(&made["zones"][1]));
    let subnet = |zone: &str| text(&made["subnets"][zone]);
    let settings = Ec2Settings {
        elastic_ips: Vec::new(),
        subnets: vec![subnet(&there), subnet(&here)],
        ..seated(&made)
    };
    let provisioner = api.provisioner_of("AKIAANY", "any", settings.clone());
    let elsewhere =
        provisioner.prepare(prepare_order(1, 0)).await.expect_err("the volume is not there");
    assert_eq!(elsewhere.failure, LaunchFailure::Unsupported, "{elsewhere}");
    let right = PrepareOrder { candidate: 1, ..prepare_order(2, 0) };
    provisioner.prepare(right).await.expect("the volume is there");
    let told = examined(&provisioner).await;
    let expected = format!("Doubtful: {} is in {there}, and volumes are in {here}", subnet(&there));
    assert!(told.contains(&expected), "{told}");

    let apart = Ec2Settings { subnets: vec![subnet(&there)], ..settings.clone() };
    let told = examined(&api.provisioner_of("AKIAANY", "any", apart)).await;
    let expected = format!("Bad: no subnet of the pool is in {here}, where its volumes are");
    assert!(told.contains(&expected), "{told}");

    let torn = Attached {
        volumes: made["volumes"][&there].as_array().expect("a list").iter().map(text).collect(),
        device: "/dev/sdg".to_owned(),
    };
    let attached = settings.attached.iter().cloned().chain([torn]).collect();
    let torn = Ec2Settings { attached, subnets: Vec::new(), ..settings };
    let torn = api.provisioner_of("AKIAANY", "any", torn);
    let refused = torn.prepare(prepare_order(3, 0)).await.expect_err("in two zones");
    assert_eq!(refused.failure, LaunchFailure::Invalid, "{refused}");
    let told = examined(&torn).await;
    assert!(told.contains("Bad: volumes of one instance are in"), "{told}");
}

#[tokio::test]
async fn groups_by_name_are_looked_up_and_disks_beside_the_root_end_with_the_instance() {
    let test = "groups_by_name_are_looked_up_and_disks_beside_the_root_end_with_the_instance";
    let Some(api) = at_once(test) else { return };
    let made = ask(&api, &["make"]);
    let cache = busybee::master::provisioner::ec2::settings::Disk {
        size_gb: Some(3),
        ..Default::default()
    };
    let settings = Ec2Settings {
        security_groups: vec!["ci workers".to_owned()],
        disks: [("/dev/sdh".to_owned(), cache)].into(),
        ..ec2::settings()
    };
    let provisioner = api.provisioner_of("AKIAANY", "any", settings.clone());
    let order = contract::order(&provisioner, &LaunchId("a000".into()), "true").await;
    let id: CloudId = provisioner.launch(order).await.expect("it is launched");
    let shown = ask(&api, &["show", id.as_str()]);
    assert_eq!(shown["groups"], serde_json::json!([made["group"]]), "{shown}");
    let disks = shown["disks"].as_object().expect("an object");
    assert!(disks.contains_key("/dev/sdh"), "{shown}");
    assert!(disks.values().all(|ends| *ends == true), "{shown}");

    let unknown = Ec2Settings { security_groups: vec!["no such".to_owned()], ..settings };
    let unknown = api.provisioner_of("AKIAANY", "any", unknown);
    let refused = unknown.prepare(PrepareOrder { seat: None, ..prepare_order(3, 0) }).await;
    let refused = refused.expect_err("there is no such group");
    assert_eq!(refused.failure, LaunchFailure::Invalid, "{refused}");
    let told = examined(&unknown).await;
    assert!(told.contains("Bad: there is no security group \"no such\""), "{told}");
}
