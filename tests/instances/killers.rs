//! What ends an instance, each with the others out of the way: the master, the agent, the timer inside, and
//! `instance reap` for what has neither master nor agent nor timer.

use busybee::master::provisioner::LaunchOrder;
use busybee::master::provisioner::PASSWORD_PLACE;
use busybee::master::provisioner::PrepareOrder;
use busybee::master::provisioner::Provisioner;
use busybee::master::provisioner::ec2::Ec2Provisioner;
use busybee::master::provisioner::ec2::settings::Disk;
use busybee::master::provisioner::ec2::settings::Ec2Settings;
use busybee::master::provisioner::ec2::settings::Image;
use busybee::master::provisioner::ec2::settings::Market;
use busybee::master::provisioner::ec2::settings::Placement;
use busybee::model::ids::CloudId;
use busybee::model::ids::LaunchId;
use busybee::model::secret::Secret;
use busybee::model::time::Timestamp;
use busybee::runtime::clock;

use crate::TRUE;
use crate::house::House;
use crate::house::Plan;
use crate::rig::may_run;

const BY_THE_API: &str = "Client.UserInitiatedShutdown";
const BY_ITSELF: &str = "Client.InstanceInitiatedShutdown";

/// A house whose one instance has done a job and idles, and its id.
fn idling(pool: &str) -> (House, String) {
    let pool = format!("max_instances = 1\nidle_timeout = \"10m\"\n{pool}");
    let house = House::open(&Plan { pipeline: TRUE, pool: &pool, ..Plan::default() });
    house.push(&[("more.txt", "more")], "try it");
    let build = house.finished(1, 180);
    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    let id = house.rig().alive()[0]["id"].as_str().expect("it idles").to_owned();
    (house, id)
}

fn kill_agent(house: &House, id: &str) {
    // Not masked: that is refused for a unit whose file is where a mask would be.
    assert!(house.rig().exec(id, "systemctl disable --now busybee-agent.service"));
    let is_gone = "! systemctl is-active busybee-agent && ! pgrep busybee-agent";
    assert!(house.rig().exec(id, is_gone), "{}", house.story());
}

/// Both of it: the unit, and what user-data has begun at the first boot.
fn kill_timer(house: &House, id: &str) {
    let user_data = "'[/]var/lib/cloud/instance/scripts'";
    let kill =
        format!("systemctl disable --now busybee-deadman.service && pkill -9 -f {user_data}");
    assert!(house.rig().exec(id, &kill), "{}", house.story());
    let is_gone = format!("! systemctl is-active busybee-deadman && ! pgrep -f {user_data}");
    assert!(house.rig().exec(id, &is_gone), "{}", house.story());
}

/// How EC2 says that the one instance there was has ended.
fn end_of(house: &House, id: &str, seconds: u64) -> String {
    house.eventually(seconds, "it has ended", |house| house.rig().alive().is_empty());
    let instances = house.rig().instances();
    let ended = instances.iter().find(|one| one["id"] == id).expect("it is listed for a while");
    ended["reason"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn the_master_ends_an_instance_that_has_neither_agent_nor_timer() {
    if !may_run("the_master_ends_an_instance_that_has_neither_agent_nor_timer") {
        return;
    }
    let (house, id) =
        idling("reconnect_grace = \"10m\"\nboot_timeout = \"80s\"\nmax_lifetime = \"90s\"");
    kill_timer(&house, &id);
    kill_agent(&house, &id);
    assert_eq!(end_of(&house, &id, 120), BY_THE_API, "{}", house.story());
    house.eventually(30, "the ledger says why", |house| {
        house.ledger()[0]["why_ended"] == "its lifetime is over"
    });
    house.close();
}

#[test]
fn the_agent_ends_an_instance_that_has_neither_master_nor_timer() {
    if !may_run("the_agent_ends_an_instance_that_has_neither_master_nor_timer") {
        return;
    }
    let (mut house, id) = idling("boot_timeout = \"80s\"\nmax_lifetime = \"90s\"");
    kill_timer(&house, &id);
    house.kill_master();
    assert_eq!(end_of(&house, &id, 120), BY_ITSELF, "{}", house.story());
    assert!(house.rig().logs(&id).contains("Powering off"), "{}", house.story());
    house.close();
}

#[test]
fn an_instance_without_master_and_agent_powers_itself_off_after_a_reboot_too() {
    if !may_run("an_instance_without_master_and_agent_powers_itself_off_after_a_reboot_too") {
        return;
    }
    for has_rebooted in [false, true] {
        let (mut house, id) = idling("");
        house.kill_master();
        if has_rebooted {
            house.rig().exec(&id, "touch /run/before && systemctl reboot");
            let is_up = "test ! -e /run/before && systemctl is-active busybee-deadman.service";
            house.eventually(60, "its timer is there again", |house| house.rig().exec(&id, is_up));
        }
        kill_agent(&house, &id);
        // As if its quarter of an hour were over: nobody writes a later second into the file.
        house.rig().exec(&id, "echo 1 >/run/busybee-deadman");
        assert_eq!(end_of(&house, &id, 120), BY_ITSELF, "{}", house.story());
        house.start_master();
        house.eventually(30, "the ledger says why", |house| {
            house.ledger()[0]["why_ended"] == "the machine shut itself down"
        });
        house.close();
    }
}

#[test]
fn a_reboot_does_not_make_a_life_longer() {
    if !may_run("a_reboot_does_not_make_a_life_longer") {
        return;
    }
    let (mut house, id) = idling("boot_timeout = \"80s\"\nmax_lifetime = \"90s\"");
    // The master would end it, and so would the agent.
    house.kill_master();
    let is_old = "test $(cut -d. -f1 /proc/uptime) -ge 70";
    house.eventually(90, "most of its life is over", |house| house.rig().exec(&id, is_old));
    house.rig().exec(&id, "systemctl disable busybee-agent.service && systemctl reboot");
    // The timer looks every 15 s; by its new uptime alone it would have 90 s from here.
    assert_eq!(end_of(&house, &id, 60), BY_ITSELF, "{}", house.story());
    house.close();
}

/// A provisioner of the house's master, as another process of that master would have it.
fn provisioner(house: &House) -> Ec2Provisioner {
    let credentials_file = house.path("credentials");
    let text = "[default]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = secret\n";
    std::fs::write(&credentials_file, text).expect("write the key down");
    let settings = Ec2Settings {
        region: "us-east-1".to_owned(),
        endpoint: Some(house.rig().fact("endpoint").to_owned()),
        credentials_file: Some(credentials_file),
        profile: None,
        image: Image::Newest { owners: vec!["self".into()], name: "debian-12-amd64".into() },
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
        disks: [].into(),
        attached: Vec::new(),
        placement: Placement::default(),
        tags: std::collections::BTreeMap::new(),
        prices: Default::default(),
    };
    Ec2Provisioner::new(settings, "test".to_owned(), "cloud".into()).expect("it is set up")
}

/// An instance of ours that never becomes a worker and has no timer; nobody can want it after `expires_at`.
async fn bare(provisioner: &Ec2Provisioner, name: &str, expires_at: Timestamp) -> CloudId {
    let launch = LaunchId(format!("{name:0<32}"));
    let order = PrepareOrder {
        launch: launch.clone(),
        worker: "cloud-9".into(),
        candidate: 0,
        seat: None,
        user_data: format!("#!/bin/sh\n: {PASSWORD_PLACE}\n"),
        expires_at,
    };
    let prepared = provisioner.prepare(order).await.expect("it is prepared");
    let password = Secret::new("none".to_owned());
    let order = LaunchOrder { launch, request: prepared.request, password };
    provisioner.launch(order).await.expect("it is launched")
}

#[test]
fn reap_ends_what_has_neither_master_nor_agent_nor_timer() {
    if !may_run("reap_ends_what_has_neither_master_nor_agent_nor_timer") {
        return;
    }
    let mut house = House::open(&Plan { pipeline: TRUE, pool: "", ..Plan::default() });
    house.kill_master();
    std::fs::remove_dir_all(house.path("data")).expect("the master's memory is lost");
    let provisioner = provisioner(&house);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let now = clock::now().0;
    let (running, stopped, wanted) = runtime.block_on(async {
        let past = Timestamp(now - 60_000);
        (
            bare(&provisioner, "a", past).await,
            bare(&provisioner, "b", past).await,
            bare(&provisioner, "c", Timestamp(now + 3_600_000)).await,
        )
    });
    let is = |house: &House, id: &CloudId, state: &str| {
        let instances = house.rig().instances();
        instances.iter().any(|one| one["id"] == id.as_str() && one["state"] == state)
    };
    for id in [&running, &stopped, &wanted] {
        house.eventually(60, "it runs", |house| is(house, id, "running"));
    }
    runtime.block_on(provisioner.stop(stopped.clone())).expect("it can be stopped");
    house.eventually(60, "it is stopped", |house| is(house, &stopped, "stopped"));

    let reaped = house.json(&["instance", "reap", "--expired"]);
    let ended: Vec<_> = reaped["ended"].as_array().expect("a list").iter().collect();
    assert_eq!(ended.len(), 2, "{reaped:#}");
    for id in [&running, &stopped] {
        house.eventually(60, "it has ended", |house| is(house, id, "terminated"));
    }
    assert!(is(&house, &wanted, "running"), "{reaped:#}");
    assert_eq!(reaped["left"][0]["id"], wanted.as_str(), "{reaped:#}");
    assert!(!house.path("data").exists(), "it kept nothing");
    house.close();
}
