//! Logs: every byte once and in order, whatever becomes of the connection.

use std::sync::Arc;
use std::sync::Mutex;

use busybee::api::build::Build;
use serde_json::Value;
use serde_json::json;

use crate::fake_master::FakeMaster;
use crate::fake_master::Part;
use crate::fake_master::Reply;
use crate::program::Ran;
use crate::program::busybee;
use crate::program::run;
use crate::program::run_on_terminal;
use crate::samples::build;
use crate::samples::job;
use crate::samples::step;

const BUILD: &str = "GET /projects/hello/builds/1";
const EVENTS: &str = "GET /projects/hello/builds/1/events";
const LOG: &str = "GET /projects/hello/builds/1/log";

fn words<'a>(master: &'a FakeMaster, words: &'a str) -> Vec<&'a str> {
    words.split(' ').chain(["--url", &master.url]).collect()
}

fn ask(master: &FakeMaster, text: &str) -> Ran {
    run(busybee(&words(master, text)))
}

/// The log of one step: bytes that are no UTF-8, and no newline at the end.
fn log_of(job: &str, step: &str) -> Vec<u8> {
    format!("{job}.{step}: \x1b[32mgreen\x1b[0m\r\n")
        .into_bytes()
        .into_iter()
        .chain([0xff, 0])
        .collect()
}

/// A master with a finished build of two jobs.
fn finished() -> FakeMaster {
    let master = FakeMaster::start();
    let steps = || vec![step(0, "checkout", "passed"), step(1, "make", "passed")];
    let skipped = job("never", "skipped", vec![]);
    let jobs = vec![job("lint", "passed", steps()), skipped, job("test[x64]", "passed", steps())];
    master.has(BUILD, &build("passed", jobs));
    master.on(EVENTS, |_| Reply::parts(vec![Part::Bytes(b"event: build\ndata: {}\n\n".to_vec())]));
    master.on(LOG, |asked| {
        let job = &asked.query["job"];
        let steps = asked.query.get("step").map_or(vec!["0", "1"], |step| vec![step.as_str()]);
        let bytes: Vec<u8> = steps.iter().flat_map(|step| log_of(job, step)).collect();
        let offset: usize = asked.query.get("offset").map_or(0, |text| text.parse().unwrap());
        Reply::parts(vec![Part::Bytes(bytes[offset..].to_vec())])
            .with_header("busybee-attempt", "1")
    });
    master
}

#[test]
fn a_pipe_gets_the_bytes_of_all_jobs_and_nothing_else() {
    let master = finished();
    let whole: Vec<u8> = ["lint", "test[x64]"]
        .iter()
        .flat_map(|job| [log_of(job, "0"), log_of(job, "1")].concat())
        .collect();
    assert_eq!(ask(&master, "build logs hello/1").ended_with(0).out, whole);
    assert_eq!(ask(&master, "build logs hello/1 --follow").ended_with(0).out, whole);
    let part = ask(&master, "build logs hello/1 --job test[x64] --step make").ended_with(0);
    assert_eq!(part.out, log_of("test[x64]", "1"));
    let part = ask(&master, "build logs hello/1 --step 0").ended_with(0);
    assert_eq!(part.out, [log_of("lint", "0"), log_of("test[x64]", "0")].concat());
}

#[test]
fn a_terminal_gets_a_header_over_each_job_and_step() {
    let master = finished();
    let seen = run_on_terminal(busybee(&words(&master, "build logs hello/1 --job lint")));
    let seen = String::from_utf8_lossy(&seen.ended_with(0).out).into_owned();
    let lines: Vec<&str> = seen.lines().collect();
    assert!(lines[0].contains("=== lint on linux-7"), "{seen}");
    assert!(lines[1].contains("--- checkout"), "{seen}");
    assert!(lines[2].contains("lint.0: \x1b[32mgreen"), "{seen}");
    assert!(lines.iter().any(|line| line.contains("--- make")), "a header begins its line: {seen}");
}

#[test]
fn json_logs_are_one_document_a_line_with_its_place() {
    let master = finished();
    let ran = ask(&master, "build logs hello/1 --json --job lint --step make").ended_with(0);
    let lines: Vec<Value> =
        ran.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let place = |offset: u64, text: &str| json!({"job": "lint", "attempt": 1, "step": 1, "name": "make", "offset": offset, "text": text});
    let first = "lint.1: \u{1b}[32mgreen\u{1b}[0m\r";
    assert_eq!(lines, [place(0, first), place(first.len() as u64 + 1, "\u{fffd}\0")]);
}

#[test]
fn a_job_or_step_that_is_not_there_is_told_with_those_that_are() {
    let master = finished();
    let ran = ask(&master, "build logs hello/1 --job tset").ended_with(1);
    assert!(ran.err.contains("lint, never, test[x64]"), "{}", ran.err);
    let ran = ask(&master, "build logs hello/1 --step tset").ended_with(1);
    assert!(ran.err.contains("checkout, make"), "{}", ran.err);
    let ran = ask(&master, "build logs hello/2").ended_with(1);
    assert!(ran.out.is_empty());
}

#[test]
fn a_build_without_logs_says_so_beside_the_output() {
    let master = FakeMaster::start();
    master.has(BUILD, &build("failed", vec![]));
    let ran = ask(&master, "build logs hello/1").ended_with(0);
    assert!(ran.out.is_empty() && ran.err.contains("build show hello/1"), "{}", ran.err);
}

/// A build whose only job runs until `finish` is called.
fn running(master: &FakeMaster) -> Arc<Mutex<Build>> {
    let steps = vec![step(0, "checkout", "running")];
    let state = Arc::new(Mutex::new(build("running", vec![job("test", "running", steps)])));
    let told = state.clone();
    master.on(BUILD, move |_| Reply::json(&*told.lock().unwrap()));
    master.on(EVENTS, |_| Reply::parts(vec![Part::Bytes(b"data: {}\n\n".to_vec())]));
    state
}

fn finish(state: &Mutex<Build>) {
    *state.lock().unwrap() = build("passed", vec![job("test", "passed", vec![])]);
}

#[test]
fn a_log_is_equal_byte_for_byte_however_often_the_connection_breaks() {
    let whole: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    let master = FakeMaster::start();
    let state = running(&master);
    let told = whole.clone();
    let mut answers = 0;
    master.on(LOG, move |asked| {
        let offset: usize = asked.query.get("offset").map_or(0, |text| text.parse().unwrap());
        let attempt = asked.query.get("attempt").map(String::as_str);
        assert_eq!(attempt, (offset > 0).then_some("1"), "a cut is taken up in the same attempt");
        answers += 1;
        let state = state.clone();
        let more =
            |bytes: usize| Part::Bytes(told[offset..(offset + bytes).min(told.len())].to_vec());
        let parts = match answers {
            1 => vec![more(1), Part::Cut],
            2 => vec![Part::Cut],
            // A master that stops: its answer ends in order, but the log is not whole.
            3 => vec![more(70_000)],
            4 => vec![more(50_000), Part::Cut],
            5 => vec![more(10_000), Part::Then(Box::new(move || finish(&state)))],
            _ => vec![more(usize::MAX / 2)],
        };
        Reply::parts(parts).with_header("busybee-attempt", "1")
    });
    let ran = ask(&master, "build logs hello/1 --follow").ended_with(0);
    assert!(ran.out == whole, "{} bytes of {}", ran.out.len(), whole.len());
    assert_eq!(master.asked(LOG).len(), 6);
}

#[test]
fn a_master_that_stays_away_in_the_middle_of_a_log_ends_with_5() {
    let master = FakeMaster::start();
    let _state = running(&master);
    let mut answers = 0;
    master.on(LOG, move |_| {
        answers += 1;
        let first = (answers == 1).then(|| Part::Bytes(b"begun\n".to_vec()));
        Reply::parts(first.into_iter().chain([Part::Cut]).collect())
    });
    let ran = ask(&master, "build logs hello/1 --follow").ended_with(5);
    assert_eq!(ran.text(), "begun\n");
    assert!(ran.err.contains(&master.url) && ran.err.contains("tried"), "{}", ran.err);
}

#[test]
fn an_answer_that_ends_in_order_but_too_early_is_not_taken_for_the_whole_log() {
    let master = FakeMaster::start();
    let mut make = step(0, "make", "passed");
    make.log_bytes = Some(6);
    master.has(BUILD, &build("passed", vec![job("test", "passed", vec![make.clone()])]));
    let mut answers = 0;
    master.on(LOG, move |_| {
        answers += 1;
        Reply::text(200, ["whole\n", "wh", "ole\n", "wh", "", ""][usize::min(answers, 6) - 1])
    });
    assert_eq!(ask(&master, "build logs hello/1").ended_with(0).text(), "whole\n");
    assert_eq!(ask(&master, "build logs hello/1").ended_with(0).text(), "whole\n");
    let ran = ask(&master, "build logs hello/1").ended_with(4);
    assert!(ran.err.contains("2 of 6 bytes"), "{}", ran.err);
    make.log_incomplete = true;
    master.has(BUILD, &build("passed", vec![job("test", "passed", vec![make])]));
    let ran = ask(&master, "build logs hello/1").ended_with(0);
    assert!(ran.err.contains("step make of job test is incomplete"), "{}", ran.err);
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let master = finished();
    master.on(LOG, |_| Reply::parts((0..500).map(|_| Part::Bytes(vec![b'x'; 4096])).collect()));
    let mut command = busybee(&words(&master, "build logs hello/1"));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = command.stdout(writer).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(command);
    let mut err = String::new();
    std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
}
