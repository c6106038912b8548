//! Concurrency groups with real processes: who waits, who gives way, and a master that dies meanwhile.

use serde_json::Value;

use crate::house::House;
use crate::house::Plan;

const POOL: &str = "max_instances = 2\nidle_timeout = \"1s\"";

/// Builds of one branch wait or give way; each step ends when its build's gate is open.
fn pipeline(on_new: &str, gates: &std::path::Path) -> String {
    format!(
        r#"version: 1
concurrency: {{ group: "${{{{ event.branch }}}}", on_new: {on_new} }}
jobs:
  work:
    checkout: false
    steps:
      - name: work
        run: |
          echo build $BUSYBEE_BUILD works
          until [ -e "{gates}/$BUSYBEE_BUILD" ]; do sleep 0.05; done
"#,
        gates = gates.display()
    )
}

fn start(house: &House) -> u64 {
    house.json(&["build", "start", "hello"])["number"].as_u64().expect("a build has a number")
}

fn job(house: &House, number: u64) -> Value {
    house.json(&["build", "show", &format!("hello/{number}")])["jobs"][0].clone()
}

#[test]
fn a_build_waits_for_its_turn_also_while_the_master_dies_and_says_for_whom() {
    let gates = tempfile::tempdir().unwrap();
    let mut house = House::open(&Plan { pipeline: &pipeline("queue", gates.path()), pool: POOL });
    start(&house);
    house.eventually("the first runs", |house| job(house, 1)["status"] == "running");
    start(&house);
    let waits = |house: &House| {
        let second = job(house, 2);
        assert_eq!(second["status"], "waiting", "{second:#}");
        let why = "build 1 comes first: group \"main\" runs 1 build at a time";
        assert_eq!(second["reason"], why, "{second:#}");
    };
    waits(&house);
    house.kill_master();
    house.start_master();
    waits(&house);
    let build = house.json(&["build", "show", "hello/2"]);
    assert_eq!((&build["group"], &build["jobs"][0]["group"]), (&"main".into(), &Value::Null));
    let workers = house.json(&["worker", "list"]);
    assert_eq!(workers["workers"].as_array().map(Vec::len), Some(1), "{workers:#}");

    std::fs::write(gates.path().join("2"), "").unwrap();
    std::fs::write(gates.path().join("1"), "").unwrap();
    let (first, second) = (house.finished(1), house.finished(2));
    assert_eq!(first["status"], "passed", "{first:#}\n{}", house.story());
    assert_eq!(second["status"], "passed", "{second:#}\n{}", house.story());
    let (ended, began) = (first["finished_at"].as_str(), second["started_at"].as_str());
    assert!(ended.is_some() && ended <= began, "{ended:?} {began:?}");
}

#[test]
fn a_build_takes_the_place_of_the_one_that_runs_and_leaves_its_log() {
    let gates = tempfile::tempdir().unwrap();
    let house = House::open(&Plan { pipeline: &pipeline("cancel", gates.path()), pool: POOL });
    start(&house);
    house.eventually("the first has said something", |house| {
        let output = house.busybee(&["build", "logs", "hello/1", "--step", "work"]);
        !output.stdout.is_empty()
    });
    std::fs::write(gates.path().join("2"), "").unwrap();
    start(&house);
    let (first, second) = (house.finished(1), house.finished(2));
    assert_eq!(first["status"], "cancelled", "{first:#}\n{}", house.story());
    assert_eq!(first["jobs"][0]["reason"], "build 2 took its place in group \"main\"");
    assert_eq!(second["status"], "passed", "{second:#}\n{}", house.story());
    let log = String::from_utf8_lossy(&house.log(&["hello/1", "--step", "work"])).into_owned();
    assert!(log.starts_with("build 1 works\n"), "{log}");
}

#[test]
fn a_build_that_is_left_out_says_so_to_whoever_started_it() {
    let gates = tempfile::tempdir().unwrap();
    let house = House::open(&Plan { pipeline: &pipeline("skip", gates.path()), pool: POOL });
    start(&house);
    house.eventually("the first runs", |house| job(house, 1)["status"] == "running");
    let output = house.busybee(&["build", "start", "hello", "--follow"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    let why = "left out: build 1 comes first: group \"main\" runs 1 build at a time";
    assert!(said.contains(&format!("cancelled: {why}")), "{said}");
    std::fs::write(gates.path().join("1"), "").unwrap();
    let first = house.finished(1);
    assert_eq!(first["status"], "passed", "{first:#}\n{}", house.story());
}
