//! Who runs, who waits and who gives way in concurrency groups.

use std::collections::BTreeMap;

use super::*;
use crate::master::domain::decision::Answer;
use crate::master::domain::decision::ToAgent;
use crate::master::domain::event::Event;
use crate::master::domain::event::LoadedBuild;
use crate::master::domain::event::Proof;
use crate::master::domain::event::Request;
use crate::master::domain::pipeline::JobSpec;
use crate::master::domain::pipeline::Pipeline;
use crate::master::domain::rig;
use crate::master::domain::rig::Rig;
use crate::master::domain::settings::PoolSettings;
use crate::model::attempt::AttemptOutcome;
use crate::model::attempt::AttemptRef;
use crate::model::ids::InstanceId;
use crate::model::ids::LaunchId;
use crate::model::ids::ProjectName;
use crate::model::ids::WorkerName;
use crate::model::status::BuildStatus;
use crate::model::status::InstanceStatus;
use crate::model::status::JobStatus::Cancelled;
use crate::model::status::JobStatus::Failed;
use crate::model::status::JobStatus::Passed;
use crate::model::status::JobStatus::Queued;
use crate::model::status::JobStatus::Running;
use crate::model::status::JobStatus::Skipped;
use crate::model::status::JobStatus::Waiting;

fn group(limit: u32, on_new: OnNew) -> Option<Concurrency> {
    Some(Concurrency { group: "prod".to_owned(), limit, on_new })
}

/// A job of the group `prod`.
fn deploy(name: &str, needs: &[&str], on_new: OnNew) -> JobSpec {
    JobSpec { concurrency: group(1, on_new), ..rig::job(name, needs) }
}

/// A build whose group is `prod`, with one job.
fn build(rig: &mut Rig, job: &str, limit: u32, on_new: OnNew) {
    let (concurrency, jobs) = (group(limit, on_new), vec![rig::job(job, &[])]);
    rig.build_of("app", Pipeline { concurrency, jobs, ..Pipeline::default() });
}

/// A machine that was asked for comes up.
fn comes_up(rig: &mut Rig, asked_for: &[(InstanceId, LaunchId, WorkerName)]) -> WorkerName {
    let (instance, _, worker) = asked_for[0].clone();
    rig.accept(instance);
    rig.connect(&worker, rig::hello(Proof::Password), &[]);
    worker
}

/// Every machine that was asked for comes up and begins a job: who runs what, by the jobs' names.
fn run_all(rig: &mut Rig) -> BTreeMap<String, (WorkerName, AttemptRef)> {
    let mut given = BTreeMap::new();
    let rows = rig.rows().into_iter().filter(|row| row.status == InstanceStatus::Requested);
    for row in rows.collect::<Vec<_>>() {
        let worker = comes_up(rig, &[(row.id, row.launch, row.worker)]);
        let attempt = rig.given();
        rig.start(&worker, attempt);
        let job = rig.it.attempts[&attempt.attempt].job;
        given.insert(rig.it.jobs[&job].spec.name.to_string(), (worker, attempt));
    }
    given
}

fn cancel(rig: &mut Rig, number: u64) {
    let answer = rig.ask(Request::CancelBuild("app".into(), BuildNumber(number)));
    assert_eq!(answer, Some(Answer::Done));
}

fn retry(rig: &mut Rig, number: u64) {
    let number = BuildNumber(number);
    let project = ProjectName::from("app");
    rig.ask(Request::RetryBuild { project: project.clone(), number, failed_only: false });
    let mut rows = rig.written.iter().rev().filter_map(|record| match record {
        Record::Build(build) if build.number == number => Some(build.clone()),
        _ => None,
    });
    let build = rows.next().expect("there was such a build");
    let mut jobs = BTreeMap::new();
    for record in &rig.written {
        if let Record::Job(job) = record {
            jobs.insert(job.id, job.clone());
        }
    }
    let jobs = jobs.into_values().filter(|job| job.build == build.id).collect();
    let found = Some(Box::new(LoadedBuild { build, jobs }));
    rig.say(Event::BuildLoaded { project, number, found });
}

fn statuses<const N: usize>(rig: &Rig, jobs: [&str; N]) -> [JobStatus; N] {
    jobs.map(|job| rig.status(job))
}

#[test]
fn builds_of_a_group_run_one_after_another_and_who_waits_starts_no_machine() {
    let mut rig = Rig::new(vec![rig::pool("linux")]);
    build(&mut rig, "a", 1, OnNew::Queue);
    assert_eq!(rig.launches().len(), 1);
    let asked_for = rig.launches();
    build(&mut rig, "b", 1, OnNew::Queue);
    assert!(rig.launches().is_empty());
    build(&mut rig, "c", 1, OnNew::Queue);
    assert_eq!(statuses(&rig, ["a", "b", "c"]), [Queued, Waiting, Waiting]);
    let says = |rig: &Rig, job: &str, before: u64| {
        let expected = format!("build {before} comes first: group \"prod\" runs 1 build at a time");
        assert_eq!(rig.reason(job), expected);
    };
    says(&rig, "b", 1);
    says(&rig, "c", 2);

    let worker = comes_up(&mut rig, &asked_for);
    let a = rig.given();
    rig.finish(&worker, a, AttemptOutcome::Failed);
    let b = rig.given();
    assert_eq!(statuses(&rig, ["a", "b", "c"]), [Failed, Queued, Waiting]);
    says(&rig, "c", 2);
    rig.finish(&worker, b, AttemptOutcome::Passed);
    assert_eq!(rig.status("c"), Queued);
}

#[test]
fn another_projects_group_of_the_same_name_is_another_and_a_job_needs_no_turn_of_its_build_twice() {
    let mut rig = Rig::new(vec![rig::pool("linux")]);
    let jobs = |name: &str| vec![deploy(name, &[], OnNew::Queue)];
    for (project, name) in [("app", "a"), ("lib", "b"), ("app", "c")] {
        let (concurrency, jobs) = (group(1, OnNew::Queue), jobs(name));
        rig.build_of(project, Pipeline { concurrency, jobs, ..Pipeline::default() });
    }
    assert_eq!(statuses(&rig, ["a", "b", "c"]), [Queued, Queued, Waiting]);
}

#[test]
fn as_many_run_as_the_limit_says() {
    let mut rig = Rig::new(vec![rig::pool("linux")]);
    for job in ["a", "b", "c", "d"] {
        build(&mut rig, job, 2, OnNew::Queue);
    }
    assert_eq!(statuses(&rig, ["a", "b", "c", "d"]), [Queued, Queued, Waiting, Waiting]);
    assert_eq!(rig.reason("c"), "build 2 comes first: group \"prod\" runs 2 builds at a time");
    cancel(&mut rig, 1);
    assert_eq!(statuses(&rig, ["b", "c", "d"]), [Queued, Queued, Waiting]);
}

#[test]
fn who_gives_up_in_line_is_named_to_nobody_any_more() {
    let mut rig = Rig::new(vec![rig::pool("linux")]);
    for job in ["a", "b", "c"] {
        build(&mut rig, job, 1, OnNew::Queue);
    }
    assert!(rig.reason("c").starts_with("build 2 comes first"), "{}", rig.reason("c"));
    cancel(&mut rig, 2);
    assert!(rig.reason("c").starts_with("build 1 comes first"), "{}", rig.reason("c"));
    assert_eq!(statuses(&rig, ["a", "b", "c"]), [Queued, Cancelled, Waiting]);
}

#[test]
fn the_turn_outlives_the_master() {
    let mut rig = Rig::new(vec![rig::pool("linux")]);
    // The second has its turn and waits with its only job, for the first one's.
    rig.build("app", vec![deploy("a", &[], OnNew::Queue)]);
    let (concurrency, jobs) = (group(1, OnNew::Queue), vec![deploy("b", &[], OnNew::Queue)]);
    rig.build_of("app", Pipeline { concurrency, jobs, ..Pipeline::default() });
    build(&mut rig, "c", 1, OnNew::Queue);
    let mut next = Rig::load(vec![rig::pool("linux")], rig.stored());
    next.written = rig.written;
    assert_eq!(statuses(&next, ["a", "b", "c"]), [Queued, Waiting, Waiting]);
    cancel(&mut next, 1);
    assert_eq!(statuses(&next, ["a", "b", "c"]), [Cancelled, Queued, Waiting]);
    cancel(&mut next, 2);
    assert_eq!(next.status("c"), Queued);
}

#[test]
fn a_job_comes_after_those_of_earlier_builds_ready_or_not() {
    let mut rig = Rig::new(vec![PoolSettings { max_instances: 1, ..rig::pool("linux") }]);
    rig.build("app", vec![rig::job("test-1", &[]), deploy("ship-1", &["test-1"], OnNew::Queue)]);
    let (_, worker, _) = rig.arrive();
    let test = rig.given();
    rig.build("app", vec![deploy("ship-2", &[], OnNew::Queue)]);
    assert_eq!(
        rig.reason("ship-2"),
        "ship-1 of build 1 comes first: group \"prod\" runs 1 job at a time"
    );
    rig.finish(&worker, test, AttemptOutcome::Passed);
    let ship = rig.given();
    assert_eq!(statuses(&rig, ["ship-1", "ship-2"]), [Queued, Waiting]);
    rig.finish(&worker, ship, AttemptOutcome::Passed);
    assert_eq!(statuses(&rig, ["ship-1", "ship-2"]), [Passed, Queued]);
}

#[test]
fn a_job_that_is_not_to_come_lets_the_next_one_pass() {
    let mut rig = Rig::new(vec![PoolSettings { max_instances: 1, ..rig::pool("linux") }]);
    rig.build("app", vec![rig::job("test-1", &[]), deploy("ship-1", &["test-1"], OnNew::Queue)]);
    let (_, worker, _) = rig.arrive();
    let test = rig.given();
    rig.build("app", vec![deploy("ship-2", &[], OnNew::Queue)]);
    rig.finish(&worker, test, AttemptOutcome::Failed);
    assert_eq!(statuses(&rig, ["ship-1", "ship-2"]), [Skipped, Queued]);
}

#[test]
fn jobs_of_one_build_in_one_group_go_by_their_needs() {
    let mut rig = Rig::new(vec![PoolSettings { max_instances: 1, ..rig::pool("linux") }]);
    let jobs = [("c", &["b"][..]), ("b", &["a"]), ("a", &[])];
    rig.build("app", jobs.map(|(name, needs)| deploy(name, needs, OnNew::Queue)).to_vec());
    assert_eq!(statuses(&rig, ["a", "b", "c"]), [Queued, Waiting, Waiting]);
    let (_, worker, _) = rig.arrive();
    for _ in 0..3 {
        let attempt = rig.given();
        rig.finish(&worker, attempt, AttemptOutcome::Passed);
    }
    assert_eq!(rig.builds(), [BuildStatus::Passed]);
}

#[test]
fn what_comes_later_takes_the_place_of_what_runs_once_that_has_ended() {
    let mut rig = Rig::new(vec![PoolSettings { max_instances: 1, ..rig::pool("linux") }]);
    build(&mut rig, "a", 1, OnNew::Cancel);
    let (_, worker, _) = rig.arrive();
    let a = rig.given();
    rig.start(&worker, a);
    build(&mut rig, "b", 1, OnNew::Cancel);
    assert!(rig.told().iter().any(|told| matches!(told, ToAgent::Cancel(id) if *id == a)));
    assert_eq!(statuses(&rig, ["a", "b"]), [Running, Waiting]);
    build(&mut rig, "c", 1, OnNew::Cancel);
    assert_eq!(statuses(&rig, ["b", "c"]), [Cancelled, Waiting]);
    assert_eq!(rig.reason("b"), "build 3 took its place in group \"prod\"");
    rig.finish(&worker, a, AttemptOutcome::Cancelled);
    assert_eq!(rig.reason("a"), "build 2 took its place in group \"prod\"");
    assert_eq!(rig.builds()[..2], [BuildStatus::Cancelled, BuildStatus::Cancelled]);
    assert_eq!(rig.status("c"), Queued);
    rig.given();
}

#[test]
fn with_room_for_two_only_the_oldest_gives_way() {
    let mut rig = Rig::new(vec![rig::pool("linux")]);
    for job in ["a", "b", "c"] {
        build(&mut rig, job, 2, OnNew::Cancel);
    }
    assert_eq!(statuses(&rig, ["a", "b", "c"]), [Cancelled, Queued, Queued]);
}

#[test]
fn a_job_that_is_ready_ends_those_of_earlier_builds_before_they_are() {
    let mut rig = Rig::new(vec![PoolSettings { max_instances: 1, ..rig::pool("linux") }]);
    rig.build("app", vec![rig::job("test-1", &[]), deploy("ship-1", &["test-1"], OnNew::Cancel)]);
    rig.build("app", vec![deploy("ship-2", &[], OnNew::Cancel)]);
    assert_eq!(statuses(&rig, ["test-1", "ship-1", "ship-2"]), [Queued, Cancelled, Queued]);
    assert_eq!(rig.reason("ship-1"), "ship-2 of build 2 took its place in group \"prod\"");
}

#[test]
fn who_may_be_left_out_is_left_out_while_the_group_is_taken() {
    let mut rig = Rig::new(vec![rig::pool("linux")]);
    build(&mut rig, "a", 1, OnNew::Skip);
    build(&mut rig, "b", 1, OnNew::Skip);
    let why = "left out: build 1 comes first: group \"prod\" runs 1 build at a time";
    assert_eq!((rig.status("b"), rig.reason("b").as_str()), (Cancelled, why));
    assert_eq!(rig.builds(), [BuildStatus::Queued, BuildStatus::Cancelled]);
    cancel(&mut rig, 1);
    build(&mut rig, "c", 1, OnNew::Skip);
    assert_eq!(rig.status("c"), Queued);

    rig.build("app", vec![deploy("d", &[], OnNew::Skip)]);
    let jobs = vec![deploy("e", &[], OnNew::Skip), rig::job("f", &["e"]), rig::job("g", &[])];
    rig.build("app", jobs);
    assert_eq!(statuses(&rig, ["d", "e", "f", "g"]), [Queued, Skipped, Skipped, Queued]);
}

/// An older build that is asked for again waits for what runs, and holds nobody up until its turn has come: else
/// each would wait for the other.
#[test]
fn a_build_that_is_retried_lines_up_again() {
    let mut rig = Rig::new(vec![rig::pool("linux")]);
    let both = |job: &str| Pipeline {
        concurrency: group(1, OnNew::Queue),
        jobs: vec![rig::job("first", &[]), deploy(job, &["first"], OnNew::Queue)],
        ..Pipeline::default()
    };
    rig.build_of("app", both("a"));
    let asked_for = rig.launches();
    cancel(&mut rig, 1);
    rig.build_of("app", both("b"));
    let worker = comes_up(&mut rig, &asked_for);
    let first = rig.given();
    retry(&mut rig, 1);
    assert!(rig.reason("a").starts_with("build 2 comes first"), "{}", rig.reason("a"));
    rig.finish(&worker, first, AttemptOutcome::Passed);
    let b = rig.given();
    rig.finish(&worker, b, AttemptOutcome::Passed);
    assert_eq!(statuses(&rig, ["a", "b"]), [Waiting, Passed]);
    let again = rig.given();
    rig.finish(&worker, again, AttemptOutcome::Passed);
    let a = rig.given();
    rig.finish(&worker, a, AttemptOutcome::Passed);
    assert_eq!(rig.builds(), [BuildStatus::Passed, BuildStatus::Passed]);
}

/// Two builds' jobs each end one of the other's, and both of those take their time.
#[test]
fn jobs_that_end_each_others_siblings_come_to_an_end() {
    let mut rig = Rig::new(vec![PoolSettings { max_instances: 4, ..rig::pool("linux") }]);
    let of = |group: &str, name: &str, needs: &[&str]| JobSpec {
        concurrency: Some(Concurrency { group: group.to_owned(), limit: 1, on_new: OnNew::Cancel }),
        ..rig::job(name, needs)
    };
    let older =
        vec![of("prod", "a-prod", &[]), rig::job("a-test", &[]), of("docs", "a-docs", &["a-test"])];
    rig.build("app", older);
    cancel(&mut rig, 1);
    let newer =
        vec![of("docs", "b-docs", &[]), rig::job("b-test", &[]), of("prod", "b-prod", &["b-test"])];
    rig.build("app", newer);
    retry(&mut rig, 1);
    let given = run_all(&mut rig);
    let finish = |rig: &mut Rig, job: &str, outcome| {
        let (worker, attempt) = given[job].clone();
        rig.finish(&worker, attempt, outcome);
    };
    finish(&mut rig, "b-test", AttemptOutcome::Passed);
    assert_eq!(rig.reason("a-prod"), "b-prod of build 2 took its place in group \"prod\"");
    finish(&mut rig, "a-test", AttemptOutcome::Passed);
    assert_eq!(rig.reason("b-docs"), "a-docs of build 1 took its place in group \"docs\"");
    assert_eq!(statuses(&rig, ["a-docs", "b-prod"]), [Waiting, Waiting]);
    finish(&mut rig, "a-prod", AttemptOutcome::Cancelled);
    finish(&mut rig, "b-docs", AttemptOutcome::Cancelled);
    assert_eq!(statuses(&rig, ["a-prod", "b-docs"]), [Cancelled, Cancelled]);
    assert_eq!(statuses(&rig, ["a-docs", "b-prod"]), [Queued, Queued]);
}

#[test]
fn jobs_of_one_build_take_turns_whatever_becomes_of_others() {
    for on_new in [OnNew::Cancel, OnNew::Skip] {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        let first = deploy("a", &[], on_new);
        rig.build("app", vec![first, rig::job("test", &[]), deploy("b", &["test"], on_new)]);
        let given = run_all(&mut rig);
        let (worker, attempt) = given["test"].clone();
        rig.finish(&worker, attempt, AttemptOutcome::Passed);
        assert_eq!(statuses(&rig, ["a", "test", "b"]), [Running, Passed, Waiting]);
        let why = "a of build 1 comes first: group \"prod\" runs 1 job at a time";
        assert_eq!(rig.reason("b"), why);
        let (worker, attempt) = given["a"].clone();
        rig.finish(&worker, attempt, AttemptOutcome::Passed);
        assert_eq!(statuses(&rig, ["a", "b"]), [Passed, Queued]);
    }
}

#[test]
fn who_is_retried_between_two_is_named_to_the_second() {
    let mut rig = Rig::new(vec![rig::pool("linux")]);
    for job in ["a", "b", "c"] {
        build(&mut rig, job, 1, OnNew::Queue);
    }
    cancel(&mut rig, 2);
    retry(&mut rig, 2);
    assert!(rig.reason("c").starts_with("build 2 comes first"), "{}", rig.reason("c"));
    cancel(&mut rig, 1);
    assert_eq!(statuses(&rig, ["b", "c"]), [Queued, Waiting]);
    assert!(rig.reason("c").starts_with("build 2 comes first"), "{}", rig.reason("c"));
}

#[test]
fn who_runs_and_is_newer_than_all_that_wait_is_named_to_the_first_alone() {
    let mut rig = Rig::new(vec![rig::pool("linux")]);
    for (number, job) in [(1, "a"), (2, "b")] {
        build(&mut rig, job, 1, OnNew::Queue);
        cancel(&mut rig, number);
    }
    build(&mut rig, "c", 1, OnNew::Queue);
    retry(&mut rig, 1);
    retry(&mut rig, 2);
    assert!(rig.reason("a").starts_with("build 3 comes first"), "{}", rig.reason("a"));
    assert!(rig.reason("b").starts_with("build 1 comes first"), "{}", rig.reason("b"));
    cancel(&mut rig, 3);
    assert_eq!(statuses(&rig, ["a", "b"]), [Queued, Waiting]);
    assert!(rig.reason("b").starts_with("build 1 comes first"), "{}", rig.reason("b"));
}

#[test]
fn who_may_run_with_fewer_others_is_not_overtaken_for_ever() {
    let mut rig = Rig::new(vec![rig::pool("linux")]);
    build(&mut rig, "a", 2, OnNew::Queue);
    build(&mut rig, "alone", 1, OnNew::Queue);
    build(&mut rig, "b", 3, OnNew::Queue);
    assert_eq!(statuses(&rig, ["a", "alone", "b"]), [Queued, Waiting, Waiting]);
    cancel(&mut rig, 1);
    assert_eq!(statuses(&rig, ["alone", "b"]), [Queued, Waiting]);
    build(&mut rig, "c", 3, OnNew::Queue);
    assert_eq!(statuses(&rig, ["alone", "b", "c"]), [Queued, Waiting, Waiting]);
    assert_eq!(rig.reason("b"), "build 2 comes first: group \"prod\" runs 1 build at a time");
    cancel(&mut rig, 2);
    assert_eq!(statuses(&rig, ["b", "c"]), [Queued, Queued]);
}

/// Room that somebody has made already is not made twice.
#[test]
fn nobody_gives_way_while_another_ends_anyway() {
    let mut rig = Rig::new(vec![rig::pool("linux")]);
    for job in ["a", "b"] {
        build(&mut rig, job, 2, OnNew::Cancel);
    }
    let given = run_all(&mut rig);
    cancel(&mut rig, 2);
    build(&mut rig, "c", 2, OnNew::Cancel);
    assert_eq!(statuses(&rig, ["a", "b", "c"]), [Running, Running, Waiting]);
    let (worker, attempt) = given["b"].clone();
    rig.finish(&worker, attempt, AttemptOutcome::Cancelled);
    assert_eq!(statuses(&rig, ["a", "b", "c"]), [Running, Cancelled, Queued]);
    assert_eq!(rig.reason("b"), "somebody cancelled its build");
    let (worker, attempt) = given["a"].clone();
    rig.finish(&worker, attempt, AttemptOutcome::Passed);
    assert_eq!(rig.status("a"), Passed);
}
