//! What an instance is told besides, and what belongs to it, on one that boots.

use std::process::Command;

use serde_json::Value;

use crate::POOL;
use crate::house::House;
use crate::house::Plan;
use crate::rig::Rig;
use crate::rig::may_run;

/// Stands in a plan for an elastic IP, and for a volume, that are the account's already.
const ADDRESS: &str = "@address@";
const VOLUME: &str = "@volume@";

/// Both parts of the user-data have done their work, however late that comes.
const LOOK: &str = "version: 1
jobs:
  test:
    worker: [cloud]
    checkout: false
    steps:
      - run: |
          for second in $(seq 60); do
            test -e /srv/configured && test -e /srv/ran && exit 0
            sleep 1
          done
          exit 1
";

/// What `tests/provisioners/belongings.py` says of a rig's account.
fn ask(rig: &Rig, arguments: &[&str]) -> Value {
    let var = std::env::var("RIG_VAR").unwrap_or_else(|_| "/var/tmp/busybee-rig".to_owned());
    let output = Command::new(format!("{var}/venv/bin/python"))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/provisioners/belongings.py"))
        .arg(rig.fact("endpoint"))
        .args(arguments)
        .output()
        .expect("python starts");
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"))
}

/// The keys of a plan, with an address and a volume made for them where it has a place for them.
pub(crate) fn with_belongings(rig: &Rig, keys: &str) -> String {
    if !keys.contains(ADDRESS) {
        return keys.to_owned();
    }
    let made = ask(rig, &["make"]);
    let zone = made["zones"][0].as_str().expect("a zone");
    let address = made["addresses"][0].as_str().expect("an address");
    let volume = made["volumes"][zone][0].as_str().expect("a volume");
    keys.replace(ADDRESS, address).replace(VOLUME, volume)
}

/// What stands in quotes behind a key of the master's file.
fn value(file: &str, key: &str) -> String {
    let (_, rest) = file.split_once(&format!("{key} = \"")).expect("the key is there");
    rest.split('"').next().expect("and its value").to_owned()
}

#[test]
fn an_instance_has_its_address_its_volume_and_what_its_admin_adds_to_its_user_data() {
    let test = "an_instance_has_its_address_its_volume_and_what_its_admin_adds_to_its_user_data";
    if !may_run(test) {
        return;
    }
    let pool = POOL.replace("max_instances = 3", "max_instances = 1");
    let pool = format!("{pool}\nbootstrap = \"debian.sh\"");
    let ec2 = "elastic_ip = \"@address@\"\n\
               attach_volumes = [{ id = \"@volume@\", device = \"/dev/sdf\" }]\n\
               user_data = [\n\
               { text = \"#cloud-config\\nwrite_files: [{ path: /srv/configured, content: x }]\\n\" },\n\
               { text = \"#!/bin/sh\\n: > /srv/ran\\n\" }]";
    let house = House::open(&Plan { pipeline: LOOK, pool: &pool, ec2, ..Plan::default() });
    let file = std::fs::read_to_string(house.path("busybee.toml")).expect("it was written");
    let (address, volume) = (value(&file, "elastic_ip"), value(&file, "[{ id"));
    house.push(&[("more.txt", "more")], "try it");
    // Whoever has them when the bootstrap script runs is whom they were meant for.
    house.eventually(120, "its bootstrap script runs", |house| {
        let workers = house.json(&["worker", "list"]);
        workers["workers"]
            .as_array()
            .is_some_and(|workers| workers.iter().any(|worker| worker["status"] != "starting"))
    });
    let id = house.ledger()[0]["cloud_id"].clone();
    let holders = ask(house.rig(), &["look", &address, &volume]);
    assert_eq!((&holders["address"], &holders["volume"]), (&id, &id), "{}", house.story());
    let build = house.finished(1, 300);
    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    house.everything_has_ended(120);
    house.close();
}
