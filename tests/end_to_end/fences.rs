//! Who may say how a job ended: only the attempt that was given out last. And how often a job is given
//! out again when infrastructure fails.

use std::path::Path;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::house::House;
use crate::house::Plan;
use crate::house::files_below;
use crate::house::signal;
use crate::numbered::Numbered;
use crate::numbered::assert_same;

/// A job that notes in a file when it begins and ends, and waits for a gate.
const JOURNAL: &str = r#"version: 1
jobs:
  deploy:
    @keys@
    checkout: false
    steps:
      - name: ship
        run: |
          echo "begin $$" >> "$DIR/journal"
          until [ -e "$DIR/gate" ]; do sleep 0.05; done
          echo "end $$" >> "$DIR/journal"
        env: { DIR: "@dir@" }
"#;

fn journal_pipeline(dir: &Path, keys: &str) -> String {
    JOURNAL.replace("@dir@", &dir.display().to_string()).replace("@keys@", keys)
}

fn journal(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join("journal")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn begun(dir: &Path) -> usize {
    journal(dir).iter().filter(|line| line.starts_with("begin")).count()
}

fn supervisor(house: &House) -> i32 {
    let mut found = Vec::new();
    house.eventually("one supervisor runs", |house| {
        found = house.processes("step-supervisor");
        found.len() == 1
    });
    found[0]
}

#[test]
fn a_job_that_may_not_be_run_again_is_lost_with_its_worker_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let pipeline = journal_pipeline(dir.path(), "retry: { infra: 0 }");
    let house = House::open(&Plan { pipeline: &pipeline, pool: "max_instances = 1" });
    house.push(&[("more.txt", "more")], "deploy");
    house.eventually("it runs", |_| begun(dir.path()) == 1);
    signal(supervisor(&house), Signal::KILL);
    let build = house.finished(1);
    let job = &build["jobs"][0];
    assert_eq!((&job["status"], &job["attempts"]), (&"infra".into(), &1.into()), "{build:#}");
    let reason = job["reason"].as_str().unwrap();
    assert!(reason.contains("its supervisor on the worker has ended unexpectedly"), "{reason}");
    assert_eq!(build["status"], "infra");
    assert_eq!(begun(dir.path()), 1, "it was not run a second time behind anybody's back");
}

#[test]
fn a_job_that_loses_its_worker_three_times_is_given_up_and_says_how_often() {
    let dir = tempfile::tempdir().unwrap();
    let pipeline = journal_pipeline(dir.path(), "timeout: 10m");
    let house = House::open(&Plan { pipeline: &pipeline, pool: "max_instances = 1" });
    house.push(&[("more.txt", "more")], "deploy");
    for attempt in 1..=3 {
        house.eventually("it runs (again)", |_| begun(dir.path()) == attempt);
        signal(supervisor(&house), Signal::KILL);
        house.eventually("that is noticed", |house| house.processes("step-supervisor").is_empty());
    }
    let build = house.finished(1);
    let job = &build["jobs"][0];
    assert_eq!((&job["status"], &job["attempts"]), (&"infra".into(), &3.into()), "{build:#}");
    let reason = job["reason"].as_str().unwrap();
    assert!(reason.contains("(tried 3 times)"), "{reason}");
    assert_eq!(begun(dir.path()), 3);
}

#[test]
fn a_worker_that_comes_back_with_an_older_attempt_is_told_to_forget_it() {
    let numbered = Numbered::new(2, 1000);
    let house = House::open(&Plan { pipeline: &numbered.pipeline(""), pool: "max_instances = 1" });
    house.push(&[("more.txt", "more")], "count");
    numbered.await_part(&house, 1);
    let agent = || house.processes("busybee-agent run");
    let first = attempt_dirs(&house);
    assert_eq!(first.len(), 1, "{first:?}");
    let kept = tempfile::tempdir().unwrap();
    copy(&first[0], &kept.path().join("old"));

    // The first attempt breaks, and the job is given out again with the next fence.
    signal(supervisor(&house), Signal::KILL);
    house.eventually("it runs again", |house| {
        let build = house.json(&["build", "show", "hello/1"]);
        build["jobs"][0]["attempts"] == 2 && !attempt_dirs(house).contains(&first[0])
    });
    numbered.await_part(&house, 1);
    // The worker comes back as a disk from yesterday would: with the older attempt, which says that it
    // has passed.
    let agents = agent();
    assert_eq!(agents.len(), 1);
    signal(agents[0], Signal::STOP);
    copy(&kept.path().join("old"), &first[0]);
    signal(agents[0], Signal::KILL);
    house.eventually("the older attempt is forgotten", |house| {
        agent().iter().all(|pid| *pid != agents[0]) && !attempt_dirs(house).contains(&first[0])
    });
    assert_eq!(attempt_dirs(&house).len(), 1, "the present one is not");
    numbered.open_all();
    let build = house.finished(1);
    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    assert_eq!(build["jobs"][0]["attempts"], 2);
    let log = house.log(&["hello/1", "--step", "count"]);
    assert_same(&log, numbered.expected(2).as_bytes());
}

#[test]
fn what_is_left_of_a_machine_that_is_gone_is_told_to_stop_and_cannot_end_the_job() {
    let dir = tempfile::tempdir().unwrap();
    let pipeline = journal_pipeline(dir.path(), "timeout: 10m");
    let house = House::open(&Plan { pipeline: &pipeline, pool: "max_instances = 2" });
    house.push(&[("more.txt", "more")], "deploy");
    house.eventually("it runs", |_| begun(dir.path()) == 1);
    let (machines, strays) = (house.processes("local-machine"), house.processes("busybee-agent"));
    assert_eq!((machines.len(), strays.len()), (1, 2), "an agent and a supervisor");
    // The machine is gone for whoever asks the provisioner; its agent and its step are not.
    signal(machines[0], Signal::KILL);
    house.eventually("it runs again, elsewhere", |_| begun(dir.path()) == 2);
    house.eventually("what was left is told to stop", |house| {
        let left = house.processes("busybee-agent");
        strays.iter().all(|pid| !left.contains(pid))
    });
    std::fs::write(dir.path().join("gate"), "").unwrap();
    let build = house.finished(1);
    assert_eq!(build["status"], "passed", "{build:#}\n{}", house.story());
    assert_eq!(build["jobs"][0]["attempts"], 2);
    let ends = journal(dir.path()).iter().filter(|line| line.starts_with("end")).count();
    assert_eq!(ends, 1, "{:?}", journal(dir.path()));
}

/// The directories of attempts on this house's workers.
fn attempt_dirs(house: &House) -> Vec<PathBuf> {
    let specs = files_below(&house.data_dir(), "spec");
    specs.iter().filter_map(|spec| Some(spec.parent()?.to_owned())).collect()
}

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(status.unwrap().success(), "copy {}", from.display());
}
