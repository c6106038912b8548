//! Staying with a build: what is seen meanwhile, and with which code it ends.

use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc;

use busybee::api::build::Build;
use serde_json::Value;
use serde_json::json;

use crate::fake_master::FakeMaster;
use crate::fake_master::Part;
use crate::fake_master::Reply;
use crate::program::Ran;
use crate::program::busybee;
use crate::program::finish;
use crate::program::run;
use crate::program::run_on_terminal;
use crate::program::signal;
use crate::samples::build;
use crate::samples::job;
use crate::samples::step;

const BUILD: &str = "GET /projects/hello/builds/1";
const EVENTS: &str = "GET /projects/hello/builds/1/events";
const LOG: &str = "GET /projects/hello/builds/1/log";
const START: &str = "POST /projects/hello/builds";

/// A master whose build goes through these states: one further with each event stream, and to
/// the last once a log has been followed.
fn master_of(states: Vec<Build>) -> FakeMaster {
    let master = FakeMaster::start();
    let started = json!({"project": "hello", "number": 1, "url": "https://ci.example.com/hello/1"});
    master.on(START, move |_| Reply::json(&started).with_status(201));
    let now = Arc::new(Mutex::new(states[0].clone()));
    let told = now.clone();
    master.on(BUILD, move |_| Reply::json(&*told.lock().unwrap()));
    let (followed, last) = (now.clone(), states.last().unwrap().clone());
    master.on(LOG, move |asked| {
        let step = asked.query.get("step").map_or("", String::as_str);
        let log = format!("{}{step}\n", asked.query["job"]);
        let offset: usize = asked.query.get("offset").map_or(0, |text| text.parse().unwrap());
        let (followed, last) = (followed.clone(), last.clone());
        let over = move || *followed.lock().unwrap() = last;
        Reply::parts(vec![Part::Bytes(log[offset..].into()), Part::Then(Box::new(over))])
    });
    let mut states = states.into_iter().peekable();
    // Each stream brings one event, cut in two, and then the master "stops".
    master.on(EVENTS, move |_| {
        if let Some(state) = states.next() {
            *now.lock().unwrap() = state;
        }
        let event = [": still here\n\nevent: build\nda", "ta: {}\n\n"];
        Reply::parts(event.map(|part| Part::Bytes(part.into())).into())
    });
    master
}

fn ends_as(status: &str) -> Vec<Build> {
    vec![
        build("queued", vec![job("test", "queued", vec![])]),
        build("running", vec![job("test", "running", vec![step(0, "checkout", "running")])]),
        build(status, vec![job("test", status, vec![step(0, "checkout", "passed")])]),
    ]
}

#[test]
fn waiting_ends_as_the_build_does() {
    for (status, code) in
        [("passed", 0), ("failed", 1), ("cancelled", 3), ("infra", 4), ("of-tomorrow", 4)]
    {
        let master = master_of(ends_as(status));
        let words = ["build", "start", "hello", "--wait", "--url", &master.url];
        let ran = run(busybee(&words)).ended_with(code);
        let said = format!("hello/1 https://ci.example.com/hello/1\nhello/1 {status} in 1m 05s\n");
        assert_eq!(ran.text(), said);
        assert_eq!(ran.err, "");
    }
}

#[test]
fn waiting_with_json_prints_the_build_as_it_ended_and_nothing_else() {
    let master = master_of(ends_as("failed"));
    let words = ["build", "start", "hello", "--wait", "--json", "--url", &master.url];
    let ran = run(busybee(&words)).ended_with(1);
    assert_eq!(ran.json()["status"], "failed");
}

#[test]
fn a_terminal_sees_the_jobs_move() {
    let master = master_of(ends_as("passed"));
    let words = ["build", "start", "hello", "--wait", "--url", &master.url];
    let seen = run_on_terminal(busybee(&words)).ended_with(0);
    assert!(seen.text().contains("test running: checkout"), "{}", seen.text());
    assert!(seen.text().contains("\x1b[32mpassed\x1b[0m"), "{}", seen.text());
}

#[test]
fn following_into_a_pipe_writes_the_logs_and_keeps_its_own_words_beside_them() {
    let master = master_of(ends_as("failed"));
    let words = ["build", "start", "hello", "--follow", "--url", &master.url];
    let ran = run(busybee(&words)).ended_with(1);
    assert_eq!(ran.text(), "test\n");
    assert!(ran.err.contains("hello/1 failed in 1m 05s"), "{}", ran.err);
}

#[test]
fn following_with_json_ends_with_the_build() {
    let master = master_of(ends_as("passed"));
    let words = ["build", "start", "hello", "--wait", "--follow", "--json", "--url", &master.url];
    let ran = run(busybee(&words)).ended_with(0);
    let lines: Vec<Value> =
        ran.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["text"]), (2, &json!("test0")));
    assert_eq!(lines[1]["status"], "passed");
}

#[test]
fn a_job_that_waits_does_not_hold_up_one_that_runs() {
    let mut queued = job("slow", "queued", vec![]);
    queued.reason = Some("no worker is free".into());
    let master = master_of(vec![
        build("running", vec![queued, job("quick", "passed", vec![])]),
        build("passed", vec![job("slow", "passed", vec![]), job("quick", "passed", vec![])]),
    ]);
    let words = ["build", "start", "hello", "--follow", "--url", &master.url];
    assert_eq!(run(busybee(&words)).ended_with(0).text(), "quick\nslow\n");
}

#[test]
fn a_build_whose_turn_has_not_come_says_for_whom_it_waits_and_why_it_was_cancelled() {
    let jobs = |status: &str, why: &str| {
        let mut work = job("work", status, vec![]);
        let mut pack = job("pack", status, vec![]);
        pack.needs = vec!["work".to_owned()];
        for job in [&mut pack, &mut work] {
            (job.attempts, job.started_at) = (0, None);
            job.reason = Some(why.to_owned());
        }
        vec![pack, work]
    };
    let before = "build 4 comes first: group \"main\" runs 1 build at a time";
    let replaced = "build 6 took its place in group \"main\"";
    let start = |how: &str, run: fn(Command) -> Ran| {
        let master = master_of(vec![
            build("queued", jobs("waiting", before)),
            build("queued", jobs("waiting", before)),
            build("cancelled", jobs("cancelled", replaced)),
        ]);
        let words = ["build", "start", "hello", how, "--url", &master.url];
        run(busybee(&words)).ended_with(3)
    };
    let seen = start("--follow", run_on_terminal);
    assert_eq!(seen.text().matches(&format!("work waits: {before}")).count(), 1, "{seen:?}");
    for how in ["--follow", "--wait"] {
        let ran = start(how, run);
        assert_eq!(ran.err.matches(&format!("cancelled: {replaced}")).count(), 1, "{ran:?}");
    }
}

#[test]
fn waiting_survives_a_master_that_goes_away_for_a_while() {
    let master = master_of(ends_as("passed"));
    let last = build("passed", vec![job("test", "passed", vec![])]);
    let mut answers = 0;
    master.on(BUILD, move |_| {
        answers += 1;
        match answers {
            1 => Reply::parts(vec![Part::Cut]),
            2 => {
                let said = json!({"error": "the master is stopping", "kind": "unavailable"});
                Reply::text(503, &said.to_string())
            }
            _ => Reply::json(&last),
        }
    });
    let words = ["build", "start", "hello", "--wait", "--url", &master.url];
    run(busybee(&words)).ended_with(0);
}

#[test]
fn ctrl_c_leaves_the_build_running_and_says_so() {
    let master = master_of(ends_as("passed"));
    let (waits, is_waiting) = mpsc::channel();
    let (release, hold) = mpsc::channel::<()>();
    let mut hold = Some(hold);
    master.on(EVENTS, move |_| {
        let (waits, hold) = (waits.clone(), hold.take());
        Reply::parts(vec![Part::Then(Box::new(move || {
            waits.send(()).unwrap();
            let _released = hold.map(|hold| hold.recv());
        }))])
    });
    let words = ["build", "start", "hello", "--wait", "--url", &master.url];
    let mut command = busybee(&words);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    is_waiting.recv().unwrap();
    signal(child.id(), libc::SIGINT);
    let ran = finish(child).ended_with(130);
    drop(release);
    assert!(ran.err.contains("hello/1 goes on without us"), "{}", ran.err);
    assert!(ran.err.contains("busybee build cancel hello/1"), "{}", ran.err);
    assert!(master.asked("POST /projects/hello/builds/1/cancel").is_empty());
}
