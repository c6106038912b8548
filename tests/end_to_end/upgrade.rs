//! An agent that ends, crashes or is replaced by a newer build while a step runs: the step's supervisor
//! goes on, and ends the step itself when nobody has been heard of for as long as the lease.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::HELLO;
use crate::POOL;
use crate::house::House;
use crate::house::Plan;
use crate::house::files_below;
use crate::house::signal;
use crate::numbered::Numbered;
use crate::numbered::assert_same;

/// The one agent of the house.
fn agent(house: &House) -> i32 {
    let mut found = Vec::new();
    house.eventually("one agent runs", |house| {
        found = house.processes("busybee-agent run");
        found.len() == 1
    });
    found[0]
}

/// Replaces the agent's program as an upgrade does: written aside, and renamed. Where one has been
/// built as it is shipped, by another compiler's settings, that one is taken; else the same with some
/// bytes behind its end, which nothing reads.
fn replace_program(house: &House) -> PathBuf {
    let programs = files_below(&house.data_dir(), "busybee-agent");
    assert_eq!(programs.len(), 1, "{programs:?}");
    let program = programs[0].clone();
    let shipped = format!("target/agents/busybee-agent-{}", std::env::consts::ARCH);
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join(shipped);
    let mut bytes = match std::fs::read(&shipped) {
        Ok(bytes) => bytes,
        Err(_) => std::fs::read(&program).unwrap(),
    };
    bytes.extend_from_slice(b"another build");
    let aside = program.with_extension("new");
    let mut file = std::fs::File::create(&aside).unwrap();
    file.write_all(&bytes).unwrap();
    file.set_permissions(PermissionsExt::from_mode(0o755)).unwrap();
    drop(file);
    std::fs::rename(&aside, &program).unwrap();
    program
}

fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().ino()
}

/// A lost agent is not waited for longer than its step may go on.
const SHORT_LEASE: &str = "max_instances = 1\nlease = \"12s\"\nreconnect_grace = \"12s\"";

#[test]
fn a_newer_agent_takes_the_attempt_up_and_the_step_never_notices() {
    let numbered = Numbered::new(3, 3000);
    let house = House::open(&Plan { pipeline: &numbered.pipeline(""), pool: POOL });
    house.push(&[("more.txt", "more")], "count");
    numbered.await_part(&house, 1);
    let (old, supervisors) = (agent(&house), house.processes("step-supervisor"));
    let program = replace_program(&house);

    signal(old, Signal::KILL);
    numbered.open(1);
    numbered.await_part(&house, 2);
    let new = agent(&house);
    let runs = PathBuf::from(format!("/proc/{new}/exe"));
    assert_eq!(inode(&runs), inode(&program), "the other build runs");
    assert_eq!(house.processes("step-supervisor"), supervisors, "the step was not touched");
    // And once more, told to end as systemd would.
    signal(new, Signal::TERM);
    numbered.open_all();

    let build = house.finished(1);
    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    assert_eq!(build["jobs"][0]["attempts"], 1);
    let log = house.log(&["hello/1", "--step", "count"]);
    assert_same(&log, numbered.expected(3).as_bytes());
}

#[test]
fn an_agent_whose_program_was_replaced_and_that_was_not_started_anew_still_takes_jobs() {
    let house = House::open(&Plan { pipeline: HELLO, pool: "max_instances = 1" });
    house.push(&[("more.txt", "more")], "the first");
    assert_eq!(house.finished(1)["status"], "passed", "{}", house.story());
    let before = agent(&house);
    replace_program(&house);
    house.push(&[("more.txt", "even more")], "the second");
    assert_eq!(house.finished(2)["status"], "passed", "{}", house.story());
    assert_eq!(agent(&house), before);
}

#[test]
fn a_step_ends_with_its_lease_when_neither_agent_nor_master_is_heard_of() {
    let numbered = Numbered::new(2, 10);
    // The job may be lost once: it is the lease that ends it.
    let pipeline = numbered.pipeline("retry: { infra: 0 }");
    let mut house = House::open(&Plan { pipeline: &pipeline, pool: SHORT_LEASE });
    house.push(&[("more.txt", "more")], "count");
    numbered.await_part(&house, 1);
    let agent = agent(&house);
    house.kill_master();
    signal(agent, Signal::STOP);
    house.eventually("the supervisor ends the step, and then itself", |house| {
        house.processes("step-supervisor").is_empty()
    });
    assert_eq!(house.processes("busybee-agent run").len(), 1, "the agent had no part in it");

    signal(agent, Signal::CONT);
    house.start_master();
    let build = house.finished(1);
    let job = &build["jobs"][0];
    assert_eq!((&job["status"], &job["attempts"]), (&"infra".into(), &1.into()), "{build:#}");
    let reason = job["reason"].as_str().unwrap();
    assert!(reason.contains("the master was not heard of for too long"), "{reason}");
    let log = String::from_utf8(house.log(&["hello/1", "--step", "count"])).unwrap();
    assert!(log.starts_with(&numbered.expected(1)), "{log}");
    assert!(log.contains("busybee: the master was not heard of for too long: ending"), "{log}");
}

#[test]
fn a_step_outlives_its_lease_while_its_agent_and_master_speak() {
    let numbered = Numbered::new(2, 10);
    let pipeline = numbered.pipeline("retry: { infra: 0 }");
    let house = House::open(&Plan { pipeline: &pipeline, pool: SHORT_LEASE });
    house.push(&[("more.txt", "more")], "count");
    numbered.await_part(&house, 1);
    let lease = files_below(&house.data_dir(), "lease");
    assert_eq!(lease.len(), 1, "{lease:?}");
    let until = || std::fs::read_to_string(&lease[0]).unwrap().trim().parse::<u64>().unwrap();
    let first = until();
    house.eventually("the lease is renewed, twice", |_| until() > first + 13_000);
    numbered.open_all();
    assert_eq!(house.finished(1)["status"], "passed", "{}", house.story());
}
