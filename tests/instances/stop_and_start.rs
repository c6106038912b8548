//! Idle instances that are stopped, and started again for the next job: on their disk are the agent, its key
//! and what the bootstrap script has made.

use serde_json::Value;

use crate::TRUE;
use crate::gate::Cut;
use crate::house::House;
use crate::house::Plan;
use crate::rig::may_run;

const POOL: &str = "max_instances = 1\nidle_timeout = \"15s\"\nboot_timeout = \"5m\"\n\
                    when_idle = \"stop\"\nbootstrap = \"marks.sh\"";

/// As long as the installation of a compiler takes at least.
const SCRIPTS: &[(&str, &str)] = &[("marks.sh", "echo ran >>/root/ran; sleep 3\n")];

fn open() -> House {
    House::open(&Plan { pipeline: TRUE, pool: POOL, scripts: SCRIPTS, ..Plan::default() })
}

fn build(house: &House, number: u64) -> Value {
    house.push(&[("more.txt", &number.to_string())], "one more");
    let build = house.finished(number, 180);
    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    build
}

/// Waits until the one instance is stopped, for EC2 and for us. A master that has just started does not trust
/// what it sees within two minutes of the instance's last start.
fn is_stopped(house: &House) {
    house.eventually(180, "the instance is stopped", |house| {
        let alive = house.rig().alive();
        let row = house.ledger().pop().expect("there is a row");
        alive.len() == 1 && alive[0]["state"] == "stopped" && row["status"] == "stopped"
    });
}

fn seconds_between(from: &Value, until: &Value) -> f64 {
    let seconds = |at: &Value| -> f64 {
        let text = at.as_str().expect("a moment");
        let clock: Vec<f64> =
            text[11..23].split(':').map(|number| number.parse().expect("a number")).collect();
        clock[0] * 3600.0 + clock[1] * 60.0 + clock[2]
    };
    (seconds(until) - seconds(from)).rem_euclid(86_400.0)
}

#[test]
fn an_idle_instance_is_stopped_and_started_again_with_its_worker_and_its_disk() {
    if !may_run("an_idle_instance_is_stopped_and_started_again_with_its_worker_and_its_disk") {
        return;
    }
    let house = open();
    let first = build(&house, 1);
    is_stopped(&house);
    let worker = first["jobs"][0]["worker"].as_str().expect("somebody built it").to_owned();
    let shown = house.json(&["worker", "show", &worker]);
    assert_eq!(shown["status"], "idle", "{shown:#}");
    assert!(shown["reason"].as_str().is_some_and(|why| why.contains("is stopped")), "{shown:#}");

    let second = build(&house, 2);
    assert_eq!(second["jobs"][0]["worker"], worker.as_str(), "{second:#}");
    assert_eq!(house.rig().instances().len(), 1, "no other was launched");
    let id = house.rig().alive()[0]["id"].as_str().expect("it has an id").to_owned();
    let once = "test \"$(cat /root/ran)\" = ran";
    assert!(house.rig().exec(&id, once), "the bootstrap script ran once: {}", house.story());
    let is_armed = "systemctl is-active busybee-deadman && test -s /usr/local/lib/busybee/lived";
    assert!(house.rig().exec(&id, is_armed), "the timer is there again: {}", house.story());
    is_stopped(&house);

    let row = house.ledger().pop().expect("there is a row");
    let runs = row["runs"].as_array().expect("its runs").clone();
    assert_eq!(runs.len(), 2, "{row:#}");
    assert!(row["seconds"].as_u64() >= Some(120), "each start costs a minute: {row:#}");
    let ready = |run: &Value| seconds_between(&run["asked_at"], &run["ready_at"]);
    println!(
        "ready: a new instance {:.1} s, a started one {:.1} s",
        ready(&runs[0]),
        ready(&runs[1])
    );

    house.busybee(&["worker", "stop", &worker]);
    house.everything_has_ended(60);
    house.close();
}

#[test]
fn a_master_killed_at_any_point_of_a_stop_or_a_start_goes_on_with_it() {
    if !may_run("a_master_killed_at_any_point_of_a_stop_or_a_start_goes_on_with_it") {
        return;
    }
    let mut house = open();
    for (number, cut) in (1..).zip([
        Cut::Before("StopInstances"),
        Cut::Before("StartInstances"),
        Cut::After("StartInstances"),
    ]) {
        let cut_off = |house: &mut House| {
            house.gate.wait_for_it();
            house.kill_master();
            house.start_master();
        };
        if cut == Cut::Before("StopInstances") {
            build(&house, number);
            house.gate.stop_at(cut);
            cut_off(&mut house);
        } else {
            house.gate.stop_at(cut);
            house.push(&[("more.txt", &number.to_string())], "one more");
            cut_off(&mut house);
            let build = house.finished(number, 180);
            assert_eq!(build["status"], "passed", "{cut:?} {build:#}\n{}", house.story());
        }
        assert_eq!(house.rig().instances().len(), 1, "{cut:?}: no other was launched");
        if cut != Cut::After("StartInstances") {
            is_stopped(&house);
        }
    }
    let row = house.ledger().pop().expect("there is a row");
    assert_eq!(row["runs"].as_array().map(Vec::len), Some(3), "{row:#}");
    house.busybee(&["worker", "stop", row["worker"].as_str().expect("its worker")]);
    house.everything_has_ended(60);
    house.close();
}

#[test]
fn an_instance_that_does_not_come_back_is_ended_and_another_takes_its_place() {
    if !may_run("an_instance_that_does_not_come_back_is_ended_and_another_takes_its_place") {
        return;
    }
    let pool = POOL.replace("\"5m\"", "\"25s\"");
    let plan = Plan { pipeline: TRUE, pool: &pool, scripts: SCRIPTS, ..Plan::default() };
    let house = House::open(&plan);
    let first = build(&house, 1);
    let id = house.rig().alive()[0]["id"].as_str().expect("it has an id").to_owned();
    assert!(house.rig().exec(&id, "systemctl disable busybee-agent.service"), "{}", house.story());
    is_stopped(&house);
    let second = build(&house, 2);
    assert_ne!(first["jobs"][0]["worker"], second["jobs"][0]["worker"], "{second:#}");
    let row = house.ledger().pop().expect("the first row");
    let why = row["why_ended"].as_str().unwrap_or_default();
    assert!(why.contains("its agent never called"), "{row:#}");
    let worker = first["jobs"][0]["worker"].as_str().expect("somebody built it");
    house.eventually(60, "its console is kept below the log of its first boot", |house| {
        house.boot_log(worker).contains("It was started again, and no agent called from it")
    });
    house.busybee(&["worker", "stop", second["jobs"][0]["worker"].as_str().expect("its worker")]);
    house.everything_has_ended(120);
    house.close();
}
