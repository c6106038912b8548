//! Builds: listed, shown, started, cancelled and run again.

use serde_json::Value;
use serde_json::json;

use crate::fake_master::FakeMaster;
use crate::fake_master::Reply;
use crate::program::Ran;
use crate::program::busybee;
use crate::program::run;
use crate::program::run_on_terminal;
use crate::samples::build;
use crate::samples::job;
use crate::samples::step;

fn ask(master: &FakeMaster, words: &str) -> Ran {
    let mut words: Vec<&str> = words.split(' ').collect();
    words.extend(["--url", &master.url]);
    run(busybee(&words))
}

#[test]
fn a_list_is_plain_in_a_pipe_and_has_colours_and_ages_on_a_terminal() {
    let master = FakeMaster::start();
    let builds = [build("failed", vec![]), build("running", vec![])];
    master.has("GET /builds", &json!({"builds": builds, "next": null}));
    insta::assert_snapshot!(ask(&master, "build list").ended_with(0).text(), @r"
    BUILD    STATUS   REF   COMMIT        TOOK    CREATED                   SUBJECT
    hello/1  failed   main  0123456789ab  1m 05s  2026-01-31T12:00:00.000Z  Greet  [2Jthe world
    hello/1  running  main  0123456789ab  -       2026-01-31T12:00:00.000Z  Greet  [2Jthe world
    ");
    let words = ["build", "list", "--url", &master.url];
    let seen = run_on_terminal(busybee(&words)).ended_with(0);
    assert!(seen.text().contains("\x1b[31mfailed\x1b[0m"), "{}", seen.text());
    assert!(seen.text().contains("ago") && !seen.text().contains("2026-01"), "{}", seen.text());
    assert!(!seen.text().contains("\x1b[2J"), "a subject cleared the screen");
    let mut without_colours = busybee(&words);
    without_colours.env("NO_COLOR", "1");
    assert!(!run_on_terminal(without_colours).ended_with(0).text().contains('\x1b'));
}

#[test]
fn a_long_list_is_asked_for_page_by_page_up_to_the_limit() {
    let master = FakeMaster::start();
    master.on("GET /projects/hello/builds", |asked| {
        let limit: u64 = asked.query["limit"].parse().unwrap();
        assert!(limit <= 100, "the API refuses {limit}");
        let before: u64 = asked.query.get("before").map_or(1000, |text| text.parse().unwrap());
        let builds: Vec<Value> =
            (before - limit..before).rev().map(|number| json!({"number": number})).collect();
        Reply::json(&json!({"builds": builds, "next": before - limit}))
    });
    let ran = ask(&master, "build list hello --limit 250 --json").ended_with(0).json();
    let builds = ran["builds"].as_array().unwrap();
    assert_eq!((builds.len(), &builds[249]["number"]), (250, &json!(750)));
    assert_eq!(master.asked("GET /projects/hello/builds").len(), 3);
}

#[test]
fn a_build_is_shown_with_what_its_jobs_wait_for_and_why_they_ended() {
    let master = FakeMaster::start();
    let mut waiting = job("deploy", "waiting", vec![]);
    waiting.needs = vec!["test".into()];
    let mut queued = job("docs", "queued", vec![]);
    queued.reason = Some("no pool offers the label gpu".into());
    let steps = vec![step(0, "checkout", "passed"), step(1, "make test", "failed")];
    let jobs = vec![job("test", "failed", steps), queued, waiting];
    master.has("GET /projects/hello/builds/1", &build("running", jobs));
    insta::assert_snapshot!(ask(&master, "build show hello/1").ended_with(0).text(), @r"
    hello/1 running
      commit   0123456789ab Greet  [2Jthe world
      author   Ada <ada@example.com>
      ref      main
      event    manual
      created  2026-01-31T12:00:00.000Z
      page     https://ci.example.com/hello/1

    JOB          STATUS   TOOK  WORKER   ATTEMPTS  REASON
    test         failed   3s    linux-7  1
      checkout   passed   1s
      make test  failed   1s                       exit code 2
    docs         queued   -     -        0         no pool offers the label gpu
    deploy       waiting  -     -        0         needs test
    ");
    let shown = ask(&master, "build show hello/1 --json").ended_with(0).json();
    assert_eq!(shown["ref"], "refs/heads/main");
    assert_eq!(shown["jobs"][0]["attempts"], 1);
}

#[test]
fn a_broken_pipeline_file_is_shown_line_by_line() {
    let master = FakeMaster::start();
    let mut broken = build("failed", vec![]);
    broken.reason = Some(".busybee.yaml:3:5: unknown key \"setps\"\n  3 |  setps:".into());
    master.has("GET /projects/hello/builds/1", &broken);
    let ran = ask(&master, "build show hello/1").ended_with(0);
    let shown = "\n\n.busybee.yaml:3:5: unknown key \"setps\"\n  3 |  setps:\n";
    assert!(ran.text().ends_with(shown), "{}", ran.text());
}

#[test]
fn a_project_with_a_strange_name_is_asked_for_by_that_name() {
    let master = FakeMaster::start();
    let ran = ask(&master, "build show a%2F..?x/1").ended_with(1);
    assert!(ran.err.contains("/projects/a%252F..%3Fx/builds/1"), "{}", ran.err);
}

#[test]
fn starting_says_which_build_it_became() {
    let master = FakeMaster::start();
    let started = json!({"project": "hello", "number": 1, "url": "https://ci.example.com/hello/1"});
    master.on("POST /projects/hello/builds", move |_| Reply::json(&started).with_status(201));
    master.has("GET /projects/hello/builds/1", &build("queued", vec![]));
    let ran = ask(&master, "build start hello").ended_with(0);
    assert_eq!(ran.text(), "hello/1 https://ci.example.com/hello/1\n");
    let ran = ask(&master, "build start hello --ref v1 --json").ended_with(0).json();
    assert_eq!((&ran["number"], &ran["status"]), (&json!(1), &json!("queued")));
    let asked = master.asked("POST /projects/hello/builds");
    assert_eq!(asked[0].body, "{}");
    assert_eq!(asked[1].body, r#"{"ref":"v1"}"#);
}

#[test]
fn inputs_go_to_the_master_and_are_shown_with_the_build() {
    let master = FakeMaster::start();
    let started = json!({"project": "hello", "number": 1, "url": "https://ci.example.com/hello/1"});
    master.on("POST /projects/hello/builds", move |_| Reply::json(&started).with_status(201));
    let given = "build start hello --input note=a=b --input dry_run=true --input empty=";
    ask(&master, given).ended_with(0);
    let asked = master.asked("POST /projects/hello/builds");
    assert_eq!(asked[0].body, r#"{"inputs":{"dry_run":"true","empty":"","note":"a=b"}}"#);
    let twice = ask(&master, "build start hello --input a=1 --input a=2").ended_with(1);
    assert!(twice.err.contains("\"a\" is given twice"), "{}", twice.err);
    assert_eq!(master.asked("POST /projects/hello/builds").len(), 1);

    let mut shown = build("queued", vec![]);
    shown.inputs = [("dry_run".into(), "true".into()), ("note".into(), "a\x1b[2J".into())].into();
    master.has("GET /projects/hello/builds/1", &shown);
    let ran = ask(&master, "build show hello/1").ended_with(0);
    assert!(ran.text().contains("\n  input    dry_run=true\n  input    note=a"), "{}", ran.text());
    assert!(!ran.text().contains('\x1b'), "{}", ran.text());
    let document = ask(&master, "build show hello/1 --json").ended_with(0).json();
    assert_eq!(document["inputs"]["dry_run"], "true");
}

#[test]
fn inputs_that_the_master_refuses_start_nothing_and_end_with_1() {
    let master = FakeMaster::start();
    let sentence = "hello: there is no input \"x\"; the inputs are: dry_run (true or false)";
    let refusal = json!({"error": sentence, "kind": "invalid"});
    master.on("POST /projects/hello/builds", move |_| Reply::json(&refusal).with_status(400));
    let ran = ask(&master, "build start hello --input x=1 --wait").ended_with(1);
    assert!(ran.err.contains(sentence) && ran.out.is_empty(), "{}", ran.err);
}

#[test]
fn builds_are_cancelled_and_run_again() {
    let master = FakeMaster::start();
    for (words, what, body) in [
        ("build cancel hello/1", "POST /projects/hello/builds/1/cancel", json!({})),
        (
            "build retry hello/1",
            "POST /projects/hello/builds/1/retry",
            json!({"failed_only": false}),
        ),
        (
            "build retry hello/1 --failed",
            "POST /projects/hello/builds/1/retry",
            json!({"failed_only": true}),
        ),
    ] {
        master.has(what, &json!({"done": true}));
        assert!(ask(&master, words).ended_with(0).text().starts_with("hello/1 "));
        assert_eq!(ask(&master, &format!("{words} --json")).json(), json!({"done": true}));
        let asked: Value = serde_json::from_str(&master.asked(what).last().unwrap().body).unwrap();
        assert_eq!(asked, body);
    }
}
