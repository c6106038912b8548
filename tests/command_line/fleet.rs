//! Workers, pools and instances.

use busybee::api::fleet::Instance;
use busybee::api::fleet::InstanceJob;
use busybee::api::fleet::InstanceRun;
use busybee::api::fleet::LookAhead;
use busybee::api::fleet::Pool;
use busybee::api::fleet::Worker;
use serde_json::Value;
use serde_json::json;

use crate::fake_master::FakeMaster;
use crate::fake_master::Reply;
use crate::program::Ran;
use crate::program::busybee;
use crate::program::run;

fn ask(master: &FakeMaster, words: &str) -> Ran {
    let mut words: Vec<&str> = words.split(' ').collect();
    words.extend(["--url", &master.url]);
    run(busybee(&words))
}

fn worker() -> Worker {
    Worker {
        name: "linux-7".into(),
        pool: "linux".into(),
        status: "idle".into(),
        reason: None,
        instance: Some(3),
        project: Some("hello".into()),
        jobs_given: 2,
        created_at: "2026-01-31T12:00:00.000Z".into(),
        idle_since: Some("2026-01-31T12:05:00.000Z".into()),
        idle_until: None,
        ended_at: None,
        machine: None,
        notice: None,
    }
}

fn instance(id: u64) -> Instance {
    Instance {
        id,
        pool: "linux".into(),
        worker: format!("linux-{id}"),
        status: "terminated".into(),
        cloud_id: None,
        what: None,
        why_started: "1 job waits".into(),
        why_ended: Some("idle for 10 min".into()),
        requested_at: "2026-01-31T12:00:00.000Z".into(),
        accepted_at: None,
        running_at: None,
        contact_at: None,
        ready_at: None,
        ending_at: None,
        ended_at: None,
        seconds: 754,
        price_per_hour: Some("0.08925".into()),
        cost: Some("0.018693".into()),
        runs: Vec::new(),
        jobs: Vec::new(),
    }
}

#[test]
fn workers_are_listed_and_shown() {
    let master = FakeMaster::start();
    master.has("GET /workers", &json!({"workers": [worker()]}));
    master.has("GET /workers/linux-7", &worker());
    master.on("GET /workers/linux-7/log", |_| Reply::text(200, "user-data\ninstalling git\n"));
    insta::assert_snapshot!(ask(&master, "worker list").ended_with(0).text(), @r"
    WORKER   POOL   STATUS  JOBS  CREATED                   REASON
    linux-7  linux  idle    2     2026-01-31T12:00:00.000Z
    ");
    insta::assert_snapshot!(ask(&master, "worker show linux-7").ended_with(0).text(), @r"
    linux-7 idle
      pool     linux
      instance 3
      project  hello
      jobs     2
      created  2026-01-31T12:00:00.000Z
      idle     2026-01-31T12:05:00.000Z

    boot log
    user-data
    installing git
    ");
    assert_eq!(ask(&master, "worker list --json").json()["workers"][0]["name"], "linux-7");
    assert_eq!(ask(&master, "worker show linux-7 --json").json()["status"], "idle");
    let ran = ask(&master, "worker show linux-8").ended_with(1);
    assert!(ran.err.contains("/workers/linux-8"), "{}", ran.err);
}

#[test]
fn workers_and_pools_do_as_they_are_told() {
    let master = FakeMaster::start();
    for (words, what, said) in [
        ("worker drain linux-7", "POST /workers/linux-7/drain", "finishes its job"),
        ("worker stop linux-7", "POST /workers/linux-7/stop", "being ended"),
        ("pool pause linux", "POST /pools/linux/pause", "paused"),
        ("pool resume linux", "POST /pools/linux/resume", "launches again"),
    ] {
        master.has(what, &json!({"done": true}));
        let ran = ask(&master, words).ended_with(0);
        assert!(ran.text().contains(said) && ran.text().ends_with('\n'), "{ran:?}");
        let json = ask(&master, &format!("{words} --json")).ended_with(0).json();
        assert_eq!(json, json!({"done": true}));
        assert_eq!(master.asked(what).len(), 2, "{words}");
    }
}

#[test]
fn a_machine_of_ones_own_gets_its_lines_on_the_output_and_nothing_else_there() {
    let master = FakeMaster::start();
    let lines = ["BB_NAME=mine", "BB_PASSWORD=secret"];
    let added = json!({"name": "mine", "pool": "own", "environment": lines});
    master.on("POST /workers", move |asked| {
        let body: Value = serde_json::from_str(&asked.body).unwrap();
        assert_eq!(body, json!({"name": "mine", "pool": "own"}));
        Reply::json(&added).with_status(201)
    });
    let ran = ask(&master, "worker add mine --pool own").ended_with(0);
    assert_eq!(ran.text(), "BB_NAME=mine\nBB_PASSWORD=secret\n");
    assert!(ran.err.contains("shown this once") && !ran.err.contains("secret"), "{}", ran.err);
    let json = ask(&master, "worker add mine --pool own --json").ended_with(0).json();
    assert_eq!(json["environment"], json!(lines));
}

#[test]
fn a_workers_machine_is_told_from_asked_for_to_gone_with_its_jobs() {
    let master = FakeMaster::start();
    let at = |time: &str| format!("2026-01-31T12:{time}.000Z");
    let job = InstanceJob {
        project: "hello".into(),
        number: 12,
        job: "test".into(),
        attempt: 1,
        state: "passed".into(),
        from: at("00:50"),
        until: Some(at("03:00")),
    };
    let machine = Instance {
        accepted_at: Some(at("00:01")),
        running_at: Some(at("00:12")),
        contact_at: Some(at("00:30")),
        ready_at: Some(at("00:50")),
        jobs: vec![job],
        ..instance(3)
    };
    master.has("GET /workers/linux-7", &Worker { machine: Some(machine), ..worker() });
    master.on("GET /workers/linux-7/log", |_| Reply::text(200, ""));
    let shown = ask(&master, "worker show linux-7").ended_with(0);
    let life = shown.text().split_once("its machine").map(|(_, life)| life.to_owned());
    insta::assert_snapshot!(life.unwrap(), @r"
      2026-01-31T12:00:00.000Z       +0ms  requested
      2026-01-31T12:00:01.000Z        +1s  accepted
      2026-01-31T12:00:12.000Z       +12s  running
      2026-01-31T12:00:30.000Z       +30s  agent called
      2026-01-31T12:00:50.000Z       +50s  ready
      2026-01-31T12:00:50.000Z       +50s  hello/12 test passed
    ");
}

#[test]
fn a_worker_shows_when_its_machine_was_stopped_and_started_again() {
    let master = FakeMaster::start();
    let at = |clock: &str| format!("2026-01-31T12:{clock}.000Z");
    let run = |asked: &str, ready: &str, ended: &str| InstanceRun {
        asked_at: at(asked),
        started_at: None,
        ready_at: Some(at(ready)),
        ended_at: Some(at(ended)),
    };
    let runs = vec![run("00:00", "00:50", "05:00"), run("20:00", "20:20", "30:00")];
    let kept = Instance { ready_at: Some(at("00:50")), runs, ..instance(3) };
    let ended = Instance { ending_at: Some("2026-01-31T12:30:00.400Z".into()), ..kept.clone() };
    let life = |machine: Instance| {
        master.has("GET /workers/linux-7", &Worker { machine: Some(machine), ..worker() });
        master.on("GET /workers/linux-7/log", |_| Reply::text(200, ""));
        let shown = ask(&master, "worker show linux-7").ended_with(0);
        shown.text().split_once("its machine\n").map(|(_, life)| life.to_owned()).unwrap()
    };
    insta::assert_snapshot!(life(kept), @r"
      2026-01-31T12:00:00.000Z       +0ms  requested
      2026-01-31T12:00:50.000Z       +50s  ready
      2026-01-31T12:05:00.000Z    +5m 00s  stopped
      2026-01-31T12:20:00.000Z   +20m 00s  started again
      2026-01-31T12:20:20.000Z   +20m 20s  ready again
      2026-01-31T12:30:00.000Z   +30m 00s  stopped
    ");
    let ended = life(ended);
    assert_eq!(ended.matches("stopped").count(), 1, "its end is no stop: {ended}");
}

#[test]
fn a_paused_pool_says_why() {
    let master = FakeMaster::start();
    let pool = Pool {
        name: "linux".into(),
        labels: vec!["linux".into(), "x64".into()],
        provisioner: "local".into(),
        paused: true,
        reason: Some("3 launches in a row failed".into()),
        failures: 3,
        workers: 1,
        idle: 0,
        stopped: 0,
        max_instances: 10,
        min_idle: 0,
        daily_budget: Some("5.00".into()),
        spent_today: Some("5.019999".into()),
        spent_in_part: false,
        budget_hold: Some("pool linux has spent all".into()),
        boot_ms: Some(95_000),
        look_ahead: Some(LookAhead { hits: 7, misses: 2, open: 0 }),
    };
    master.has("GET /pools", &json!({"pools": [pool]}));
    insta::assert_snapshot!(ask(&master, "pool list").ended_with(0).text(), @r"
    POOL   STATE   PROVISIONER  WORKERS  IDLE  MAX  AHEAD   TODAY           LABELS     REASON
    linux  paused  local        1        0     10   7 of 9  $5.02 of $5.00  linux,x64  3 launches in a row failed; pool linux has spent all
    ");
    assert_eq!(ask(&master, "pool list --json").json()["pools"][0]["paused"], true);
}

#[test]
fn the_ledger_is_read_to_its_last_page() {
    let master = FakeMaster::start();
    master.on("GET /instances", |asked| {
        assert_eq!(asked.query.get("all").map(String::as_str), Some("true"));
        let before: u64 = asked.query.get("before").map_or(8, |text| text.parse().unwrap());
        let rows: Vec<Instance> = (1..before).rev().take(3).map(instance).collect();
        let next = rows.last().map(|row| row.id).filter(|id| *id > 1);
        Reply::json(&json!({"instances": rows, "next": next}))
    });
    let ran = ask(&master, "instance list --all --json").ended_with(0).json();
    let ids: Vec<u64> = ran["instances"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids, [7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(ran["next"], Value::Null);
    let ran = ask(&master, "instance list --all").ended_with(0);
    assert_eq!(ran.text().lines().count(), 8);
    insta::assert_snapshot!(ran.text().lines().take(2).collect::<Vec<_>>().join("\n"), @r"
    ID  POOL   WORKER   STATUS      REQUESTED                 BILLED   COST     WHY STARTED  WHY ENDED
    7   linux  linux-7  terminated  2026-01-31T12:00:00.000Z  12m 34s  $0.0187  1 job waits  idle for 10 min
    ");
}

#[test]
fn nothing_to_list_is_said_beside_the_output_not_in_it() {
    let master = FakeMaster::start();
    master.on("GET /instances", |asked| {
        assert!(!asked.query.contains_key("all"));
        Reply::json(&json!({"instances": [], "next": null}))
    });
    let ran = ask(&master, "instance list").ended_with(0);
    assert!(ran.out.is_empty() && ran.err.contains("--all"), "{ran:?}");
}
