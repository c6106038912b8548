//! The whole road on one machine, with real processes: from a push to a build on a worker that did
//! not exist, and to its end.

use std::path::Path;

use crate::house::House;
use crate::house::Plan;

mod attacks;
mod doctor;
mod event_stream;
mod fences;
mod foreign;
mod groups;
mod house;
mod left_behind;
mod limits;
mod numbered;
mod restart;
mod secrets;
mod upgrade;
mod wire;

/// Ends idle workers at once, so that a test sees their end.
const POOL: &str = "max_instances = 2\nidle_timeout = \"1s\"";

pub(crate) const HELLO: &str = "version: 1
jobs:
  test:
    steps:
      - name: greet
        run: |
          echo hello from $BUSYBEE_PROJECT/$BUSYBEE_BUILD
          test -f .busybee.yaml
";

#[test]
fn a_push_is_built_on_a_worker_that_did_not_exist_and_is_gone_afterwards() {
    let house = House::open(&Plan { pipeline: HELLO, pool: POOL });
    assert!(house.json(&["instance", "list", "--all"])["instances"].as_array().unwrap().is_empty());

    let commit = house.push(&[("more.txt", "more")], "a second commit");
    let build = house.finished(1);

    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    assert_eq!(build["commit"], commit.as_str());
    assert_eq!(build["ref"], "refs/heads/main");
    assert_eq!(build["branch"], "main");
    assert_eq!(build["event"], "push");
    assert_eq!(build["jobs"][0]["attempts"], 1);
    let log = house.log(&["hello/1", "--step", "greet"]);
    assert_eq!(String::from_utf8_lossy(&log), "hello from hello/1\n");
    house.eventually("the worker is gone", |house| {
        let instances = house.json(&["instance", "list", "--all"]);
        let instances = instances["instances"].as_array().unwrap();
        instances.len() == 1 && instances[0]["status"] == "terminated"
    });
    assert!(house.processes("local-machine").is_empty());
    assert!(house.processes("busybee-agent").is_empty());
}

#[test]
fn a_cut_wire_a_killed_master_and_a_killed_agent_lose_and_double_nothing() {
    const GATED: &str = r#"version: 1
jobs:
  count:
    steps:
      - name: count
        run: |
          for part in 1 2 3 4; do
            i=0
            while [ $i -lt 5000 ]; do
              i=$((i+1)); echo "part $part line $i of the numbered log"
            done
            until [ -e "$GATES/$part" ]; do sleep 0.05; done
          done
        env: { GATES: "@gates@" }
"#;
    let gates = tempfile::tempdir().unwrap();
    let pipeline = GATED.replace("@gates@", &gates.path().display().to_string());
    let mut house = House::open(&Plan { pipeline: &pipeline, pool: POOL });
    house.push(&[("more.txt", "more")], "count");
    let open_gate = |part: u32| std::fs::write(gates.path().join(part.to_string()), "").unwrap();
    let part_is_written = |house: &House, part: u32| {
        house.eventually(&format!("part {part} is in the log"), |house| {
            let output = house.busybee(&["build", "logs", "hello/1", "--step", "count"]);
            let end = format!("part {part} line 5000 of the numbered log\n");
            output.stdout.ends_with(end.as_bytes())
        });
    };

    part_is_written(&house, 1);
    assert!(house.wire.cut() > 0, "there was a connection to cut");
    open_gate(1);
    part_is_written(&house, 2);
    house.kill_master();
    open_gate(2);
    house.start_master();
    part_is_written(&house, 3);
    let agents = house.processes("busybee-agent run");
    assert_eq!(agents.len(), 1, "{agents:?}");
    let agent = rustix::process::Pid::from_raw(agents[0]).unwrap();
    rustix::process::kill_process(agent, rustix::process::Signal::KILL).unwrap();
    open_gate(3);
    part_is_written(&house, 4);
    open_gate(4);
    let build = house.finished(1);

    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    assert_eq!(build["jobs"][0]["attempts"], 1);
    let mut expected = String::new();
    for part in 1..=4 {
        for line in 1..=5000 {
            expected.push_str(&format!("part {part} line {line} of the numbered log\n"));
        }
    }
    let log = house.log(&["hello/1", "--step", "count"]);
    assert!(
        log == expected.as_bytes(),
        "the log differs: {} bytes of {}",
        log.len(),
        expected.len()
    );
}

#[test]
fn a_failing_step_makes_a_red_build_and_the_steps_that_want_to_still_run() {
    const FAILING: &str = r#"version: 1
jobs:
  first:
    steps:
      - { name: breaks, run: "echo before; exit 7" }
      - { name: never, run: echo never }
      - { name: tidy, when: always(), run: echo tidied }
  second:
    needs: [first]
    steps: [{ run: echo second }]
"#;
    let house = House::open(&Plan { pipeline: FAILING, pool: POOL });
    house.push(&[("more.txt", "more")], "break it");
    let build = house.finished(1);

    assert_eq!(build["status"], "failed");
    assert_eq!(build["jobs"][0]["status"], "failed");
    assert_eq!(build["jobs"][1]["status"], "skipped");
    let reason = build["jobs"][1]["reason"].as_str().unwrap();
    assert!(reason.contains("first"), "{reason}");
    let log = String::from_utf8(house.log(&["hello/1"])).unwrap();
    assert!(
        log.contains("before\n") && log.contains("tidied\n") && !log.contains("never"),
        "{log}"
    );
    let waited = house.busybee(&["build", "start", "hello", "--ref", "main", "--wait"]);
    assert_eq!(waited.status.code(), Some(1));
}

#[test]
fn a_broken_pipeline_file_makes_a_red_build_that_says_why() {
    let house = House::open(&Plan { pipeline: HELLO, pool: POOL });
    house.push(
        &[(".busybee.yaml", "version: 1\njobs:\n  test:\n    stepz: []\n")],
        "break the file",
    );
    let build = house.finished(1);
    assert_eq!(build["status"], "failed");
    let reason = build["reason"].as_str().unwrap();
    assert!(reason.contains(".busybee.yaml:4:5"), "{reason}");
    assert!(reason.contains("steps"), "{reason}");
}

#[test]
fn a_build_that_somebody_starts_sees_what_it_was_started_with() {
    const DEPLOY: &str = r#"version: 1
triggers:
  manual:
    inputs:
      dry_run: { type: boolean, default: true }
      target: { type: choice, options: [staging, production] }
jobs:
  deploy:
    env: { DRY_RUN: "${{ event.inputs.dry_run }}" }
    steps:
      - name: say
        run: echo "$DRY_RUN $TARGET"
        env: { TARGET: "to ${{ event.inputs.target }}" }
      - name: ship
        run: echo shipped
        when: "!event.inputs.dry_run"
"#;
    let house = House::open(&Plan { pipeline: DEPLOY, pool: POOL });
    let there_are = "the inputs are: dry_run (true or false, default true), \
                     target (one of staging, production, no default)";
    for (input, why) in [
        ("dry_run=false", "the input \"target\" must be given"),
        ("target=moon", "must be one of staging, production, not \"moon\""),
        ("tagret=staging", "did you mean \"target\"?"),
    ] {
        let refused = house.busybee(&["build", "start", "hello", "--input", input]);
        assert_eq!(refused.status.code(), Some(1), "{input}");
        let told = String::from_utf8_lossy(&refused.stderr);
        assert!(told.contains(why) && told.contains(there_are), "{input}: {told}");
    }
    assert!(house.json(&["build", "list"])["builds"].as_array().unwrap().is_empty());

    let inputs = ["--input", "target=production", "--input", "dry_run=false"];
    let start = [&["build", "start", "hello"], &inputs[..], &["--wait"]].concat();
    assert_eq!(house.busybee(&start).status.code(), Some(0), "{}", house.story());
    let log = String::from_utf8(house.log(&["hello/1"])).unwrap();
    assert!(log.contains("false to production\n") && log.contains("shipped\n"), "{log}");
    let expected = serde_json::json!({ "dry_run": "false", "target": "production" });
    assert_eq!(house.json(&["build", "show", "hello/1"])["inputs"], expected);

    assert!(house.busybee(&["build", "retry", "hello/1"]).status.success());
    let again = house.finished(1);
    assert_eq!((&again["inputs"], &again["jobs"][0]["attempts"]), (&expected, &2.into()));
    let log = String::from_utf8(house.log(&["hello/1", "--step", "say"])).unwrap();
    assert_eq!(log, "false to production\n");
}

#[test]
fn a_cancelled_build_ends_its_step_and_exits_3() {
    const ENDLESS: &str = "version: 1
jobs:
  test:
    steps: [{ name: endless, run: 'echo on its way; sleep 1000' }]
";
    let house = House::open(&Plan { pipeline: ENDLESS, pool: POOL });
    let started = house.json(&["build", "start", "hello"]);
    assert_eq!(started["number"], 1);
    house.eventually("the step runs", |house| {
        house.busybee(&["build", "logs", "hello/1", "--step", "endless"]).stdout == b"on its way\n"
    });
    assert!(house.busybee(&["build", "cancel", "hello/1"]).status.success());
    let build = house.finished(1);
    assert_eq!(build["status"], "cancelled");
    assert!(house.processes("sleep 1000").is_empty());
}

#[test]
fn the_first_sight_of_a_project_starts_nothing_and_a_new_branch_does() {
    let house = House::open(&Plan { pipeline: HELLO, pool: POOL });
    assert!(house.json(&["build", "list"])["builds"].as_array().unwrap().is_empty());
    house.git(Path::new("work"), &["checkout", "-q", "-b", "topic"]);
    house.push(&[("topic.txt", "topic")], "on a branch");
    let build = house.finished(1);
    assert_eq!(build["branch"], "topic");
    house.push(&[], "leave this one out [skip ci]");
    house.push(&[], "but not this");
    let build = house.finished(2);
    assert_eq!(build["status"], "passed");
}
