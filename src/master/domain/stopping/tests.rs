//! Stopped machines and their starts, as scenarios.

use super::*;
use crate::master::domain::candidates::Candidate;
use crate::master::domain::decision::Answer;
use crate::master::domain::decision::Record;
use crate::master::domain::decision::ToAgent;
use crate::master::domain::entities::Instance;
use crate::master::domain::event::AgentEvent;
use crate::master::domain::event::AgentHello;
use crate::master::domain::event::Event;
use crate::master::domain::event::Proof;
use crate::master::domain::event::Request;
use crate::master::domain::pipeline::JobSpec;
use crate::master::domain::rig;
use crate::master::domain::rig::Rig;
use crate::master::domain::settings::PoolSettings;
use crate::master::domain::settings::ProvisionerKind;
use crate::master::domain::settings::Stopping;
use crate::master::domain::snapshot::Snapshot;
use crate::model::attempt::AttemptOutcome;
use crate::model::ids::CloudId;
use crate::model::ids::ConnectionId;
use crate::model::status::JobStatus;

mod again;
mod listings;
mod refused;

const DAY: u64 = 24 * 3600;

fn keeping(max_stopped: u32) -> PoolSettings {
    PoolSettings {
        provisioner: ProvisionerKind::Ec2,
        stopping: Some(Stopping { max_stopped, max_age: Duration::from_secs(7 * DAY) }),
        ..rig::pool("linux")
    }
}

/// A job that may take a day.
fn long(name: &str) -> JobSpec {
    JobSpec { timeout: Duration::from_secs(DAY), ..rig::job(name, &[]) }
}

fn row(rig: &Rig, id: InstanceId) -> Instance {
    let row = rig.written.iter().rev().find_map(|record| match record {
        Record::Instance(row) if row.id == id => Some(row.clone()),
        _ => None,
    });
    row.expect("its row was written")
}

fn listed(rig: &mut Rig, id: InstanceId, state: MachineState) {
    let (row, asked_at) = (row(rig, id), rig.now);
    rig.now = rig.now + Duration::from_secs(1);
    let cloud_id = row.cloud_id.expect("it was accepted");
    let machines = vec![Machine { state, ..rig::machine(&cloud_id.0, &row.launch) }];
    rig.say(Event::CloudListed { pool: "linux".into(), asked_at, machines });
}

fn stops(actions: &[Action], id: InstanceId) -> bool {
    let is_stop = |done: &Action| matches!(done, Action::Stop { instance, .. } if *instance == id);
    actions.iter().any(is_stop)
}

fn starts(actions: &[Action], id: InstanceId) -> bool {
    let is_start =
        |done: &Action| matches!(done, Action::Start { instance, .. } if *instance == id);
    actions.iter().any(is_start)
}

/// A worker that has done a job of `project` and was told to stop.
fn stopping(rig: &mut Rig, project: &str) -> (InstanceId, WorkerName, ConnectionId) {
    rig.build(project, vec![rig::job("test", &[])]);
    let (instance, worker, connection) = rig.arrive();
    let attempt = rig.given();
    rig.finish(&worker, attempt, AttemptOutcome::Passed);
    let done = rig.wait_beating(310, &[(&worker, connection)]);
    assert!(stops(&done, instance) && !rig::ends(&done, instance), "{done:?}");
    (instance, worker, connection)
}

/// The same, and its machine has stopped.
fn stopped(rig: &mut Rig, project: &str) -> (InstanceId, WorkerName) {
    let (instance, worker, connection) = stopping(rig, project);
    rig.agent(AgentEvent::Disconnected { worker: worker.clone(), connection });
    listed(rig, instance, MachineState::Stopped);
    assert_eq!(row(rig, instance).status, InstanceStatus::Stopped);
    (instance, worker)
}

fn accept_start(rig: &mut Rig, instance: InstanceId) {
    let cloud_id = CloudId(format!("i-{instance}"));
    rig.say(Event::InstanceAccepted { instance, cloud_id });
}

fn booted_again() -> AgentHello {
    AgentHello { boot_id: "boot 2".to_owned(), epoch: 6, ..rig::hello(Proof::Key) }
}

#[test]
fn an_idle_machine_is_stopped_and_started_again_for_the_next_job() {
    let mut rig = Rig::new(vec![keeping(2)]);
    let (instance, worker) = stopped(&mut rig, "app");
    let resting = rig.worker(&worker);
    assert_eq!((resting.status, resting.fate), (WorkerStatus::Idle, WorkerFate::Rests));
    assert_eq!(resting.reason.as_deref(), Some(RESTS));
    let done = rig.wait(2 * DAY);
    assert!(!rig::ends(&done, instance), "nobody waits for its agent");

    rig.build("app", vec![rig::job("again", &[])]);
    assert!(starts(&rig.done, instance) && rig.launches().is_empty(), "{:?}", rig.done);
    assert_eq!(row(&rig, instance).status, InstanceStatus::Requested);
    accept_start(&mut rig, instance);
    let (why, today) = (rig.reason("again"), rig.now.to_string());
    let is_told = why.contains(&format!("asked for at {}", &today[..10]));
    assert!(is_told && why.ends_with("UTC, boots"), "not when and how it was launched: {why}");
    rig.wait(20);
    rig.connect(&worker, booted_again(), &[]);
    let attempt = rig.given();
    assert!(!rig.done.iter().any(|done| matches!(done, Action::Alarm(_))), "{:?}", rig.done);
    rig.finish(&worker, attempt, AttemptOutcome::Passed);
    let job = rig.job("again");
    assert_eq!((job.status, job.infra_failures), (JobStatus::Passed, 0));
    let row = row(&rig, instance);
    assert_eq!(row.status, InstanceStatus::Running);
    assert_eq!(row.runs.len(), 2);
    assert!(row.runs[0].ended_at.is_some() && row.runs[1].ready_at.is_some(), "{:?}", row.runs);
}

#[test]
fn the_bootstrap_script_does_not_run_again() {
    let mut rig = Rig::new(vec![PoolSettings { has_bootstrap: true, ..keeping(2) }]);
    rig.build("app", vec![rig::job("test", &[])]);
    let (instance, worker, connection) = rig.arrive();
    let outcome = crate::model::step::StepOutcome::Exited(0);
    let tail = String::new();
    rig.agent(AgentEvent::BootstrapFinished { worker: worker.clone(), connection, outcome, tail });
    let attempt = rig.given();
    rig.finish(&worker, attempt, AttemptOutcome::Passed);
    rig.wait_beating(310, &[(&worker, connection)]);
    listed(&mut rig, instance, MachineState::Stopped);
    rig.build("app", vec![rig::job("again", &[])]);
    accept_start(&mut rig, instance);
    let (connection, _) = rig.greet(&worker, booted_again());
    let (bootstrapped, attempts) = (true, Vec::new());
    let up = Duration::ZERO;
    rig.agent(AgentEvent::Inventory { worker, connection, bootstrapped, attempts, up });
    rig.given();
    assert!(!rig.told().contains(&&ToAgent::Bootstrap));
}

#[test]
fn what_is_stopped_is_no_capacity_and_makes_room_for_others() {
    let one = PoolSettings { max_instances: 1, shared: false, ..keeping(2) };
    let mut rig = Rig::new(vec![one]);
    let (instance, worker, connection) = stopping(&mut rig, "app");
    rig.build("lib", vec![rig::job("other", &[])]);
    assert!(rig.launches().is_empty(), "it may still run");
    rig.agent(AgentEvent::Disconnected { worker, connection });
    listed(&mut rig, instance, MachineState::Stopping);
    assert!(rig.launches().is_empty());
    listed(&mut rig, instance, MachineState::Stopped);
    assert_eq!(rig.launches().len(), 1, "it serves another project only");
    assert!(!starts(&rig.done, instance));
}

#[test]
fn of_several_the_one_of_the_same_project_that_was_stopped_last_is_started() {
    let mut rig = Rig::new(vec![PoolSettings { shared: false, ..keeping(3) }]);
    let (first, _) = stopped(&mut rig, "lib");
    rig.wait(60);
    let (second, _) = stopped(&mut rig, "app");
    rig.build("lib", vec![rig::job("of lib", &[])]);
    assert!(starts(&rig.done, first), "{:?}", rig.done);
    rig.build("app", vec![rig::job("of app", &[])]);
    assert!(starts(&rig.done, second), "{:?}", rig.done);
    let mut rig = Rig::new(vec![keeping(3)]);
    let (older, _) = stopped(&mut rig, "app");
    rig.build("app", vec![rig::job("a", &[]), rig::job("b", &[])]);
    assert!(starts(&rig.done, older));
    assert_eq!(rig.launches().len(), 1, "and the second job has a new one");
}

#[test]
fn a_start_without_room_ends_the_stopped_machine_and_launches_a_new_one() {
    for failure in [LaunchFailure::Capacity, LaunchFailure::Invalid, LaunchFailure::Other] {
        let mut rig = Rig::new(vec![keeping(2)]);
        let (instance, worker) = stopped(&mut rig, "app");
        rig.build("app", vec![rig::job("again", &[])]);
        let sentence = "no room".to_owned();
        rig.say(Event::LaunchFailed { instance, sentence, failure });
        assert!(rig.ends(instance), "{failure:?}");
        assert_eq!(rig.launches().len(), 1, "{failure:?}: {:?}", rig.done);
        assert_eq!(rig.worker(&worker).status, WorkerStatus::Gone);
        assert!(rig.reason("again").contains("no room"), "{}", rig.reason("again"));
    }
}

#[test]
fn a_start_that_only_quota_forbids_keeps_the_machine() {
    for failure in [LaunchFailure::Quota, LaunchFailure::Limit] {
        let mut rig = Rig::new(vec![keeping(2)]);
        let (instance, worker) = stopped(&mut rig, "app");
        rig.build("app", vec![rig::job("again", &[])]);
        let sentence = "not now".to_owned();
        rig.say(Event::LaunchFailed { instance, sentence, failure });
        assert!(!rig.ends(instance) && rig.launches().is_empty(), "{failure:?}: {:?}", rig.done);
        assert_eq!(rig.worker(&worker).fate, WorkerFate::Rests);
        assert!(rig.reason("again").contains("not now"), "{}", rig.reason("again"));
        rig.ask(Request::ResumePool("linux".into()));
        assert!(starts(&rig.done, instance), "{failure:?}");
    }
}

#[test]
fn a_start_of_unknown_outcome_is_made_again_and_nothing_is_launched_beside_it() {
    let mut rig = Rig::new(vec![keeping(2)]);
    let (instance, _) = stopped(&mut rig, "app");
    rig.build("app", vec![rig::job("again", &[])]);
    let (sentence, failure) = ("no answer".to_owned(), LaunchFailure::Unsettled);
    rig.say(Event::LaunchFailed { instance, sentence, failure });
    assert!(rig.launches().is_empty());
    assert!(starts(&rig.wait(10), instance));
}

#[test]
fn a_start_whose_agent_never_calls_is_given_up_after_the_boot_time() {
    let mut rig = Rig::new(vec![keeping(2)]);
    let (instance, _) = stopped(&mut rig, "app");
    rig.wait(DAY);
    rig.build("app", vec![rig::job("again", &[])]);
    accept_start(&mut rig, instance);
    assert!(!rig::ends(&rig.wait(599), instance));
    assert!(rig::ends(&rig.wait(2), instance));
}

#[test]
fn a_machine_that_does_not_stop_is_told_again_and_ended_at_last() {
    let mut rig = Rig::new(vec![keeping(2)]);
    let (instance, _, _) = stopping(&mut rig, "app");
    let done = rig.wait(500);
    assert!(stops(&done, instance) && !rig::ends(&done, instance));
    assert!(rig::ends(&rig.wait(200), instance));
    let mut rig = Rig::new(vec![keeping(2)]);
    let (instance, _, _) = stopping(&mut rig, "app");
    rig.say(Event::StopFailed { instance, sentence: "not allowed".to_owned() });
    assert!(rig.ends(instance));
    assert!(row(&rig, instance).why_ended.is_some_and(|why| why.contains("not allowed")));
}

#[test]
fn no_more_are_kept_than_the_pool_may_and_the_longest_stopped_makes_room() {
    let mut rig = Rig::new(vec![PoolSettings { shared: false, ..keeping(1) }]);
    let (first, worker) = stopped(&mut rig, "app");
    let (second, _) = stopped(&mut rig, "lib");
    assert_eq!(row(&rig, first).status, InstanceStatus::Terminating);
    assert_eq!(rig.worker(&worker).status, WorkerStatus::Gone);
    assert_eq!(row(&rig, second).status, InstanceStatus::Stopped);
}

#[test]
fn a_stopped_machine_ends_at_its_age_and_is_not_kept_when_it_is_old() {
    let mut rig = Rig::new(vec![keeping(2)]);
    let (instance, _) = stopped(&mut rig, "app");
    assert!(!rig::ends(&rig.wait(7 * DAY - 400), instance));
    assert!(rig::ends(&rig.wait(400), instance), "seven days after its launch");

    let mut rig =
        Rig::new(vec![PoolSettings { idle_timeout: Duration::from_secs(9), ..keeping(2) }]);
    rig.build("app", vec![long("test")]);
    let (instance, worker, connection) = rig.arrive();
    let attempt = rig.given();
    rig.start(&worker, attempt);
    // Three quarters of its twelve hours.
    rig.wait_beating(9 * 3600 + 60, &[(&worker, connection)]);
    rig.finish(&worker, attempt, AttemptOutcome::Passed);
    let done = rig.wait_beating(20, &[(&worker, connection)]);
    assert!(rig::ends(&done, instance) && !stops(&done, instance));
}

#[test]
fn its_life_is_the_time_in_which_it_runs() {
    let mut rig = Rig::new(vec![keeping(2)]);
    let (instance, worker) = stopped(&mut rig, "app");
    let ran = row(&rig, instance).ran(rig.now);
    rig.wait(DAY);
    rig.build("app", vec![long("again")]);
    accept_start(&mut rig, instance);
    let connection = rig.connect(&worker, booted_again(), &[]);
    let attempt = rig.given();
    rig.start(&worker, attempt);
    let left = Duration::from_secs(12 * 3600) - ran;
    let before = rig.wait_beating(left.as_secs() - 20, &[(&worker, connection)]);
    assert!(!rig::ends(&before, instance));
    assert!(rig::ends(&rig.wait_beating(40, &[(&worker, connection)]), instance));
}

#[test]
fn a_master_that_starts_again_goes_on_with_what_is_stopped() {
    let mut rig = Rig::new(vec![keeping(2)]);
    let (instance, _, _) = stopping(&mut rig, "app");
    let next = Rig::load(vec![keeping(2)], rig.launched());
    assert!(stops(&next.done, instance), "{:?}", next.done);

    let (mut rig, instance, worker) = {
        let mut rig = Rig::new(vec![keeping(2)]);
        let (instance, worker) = stopped(&mut rig, "app");
        (Rig::load(vec![keeping(2)], rig.launched()), instance, worker)
    };
    let done = rig.wait(DAY);
    assert!(!rig::ends(&done, instance) && !stops(&done, instance), "{done:?}");
    rig.build("app", vec![rig::job("again", &[])]);
    assert!(starts(&rig.done, instance), "{:?}", rig.done);
    assert_eq!(rig.worker(&worker).status, WorkerStatus::Starting);

    // Before the call, or before its answer.
    let mut snapshot = rig.launched();
    snapshot.instances.retain(|row| row.id == instance);
    let mut next = Rig::load(vec![keeping(2)], snapshot);
    assert!(starts(&next.done, instance), "{:?}", next.done);
    accept_start(&mut next, instance);
    next.connect(&worker, booted_again(), &[]);
    assert_eq!(next.worker(&worker).status, WorkerStatus::Idle);
}

#[test]
fn a_pool_that_stops_none_any_more_keeps_none() {
    let mut rig = Rig::new(vec![keeping(2)]);
    let (instance, _) = stopped(&mut rig, "app");
    let next = Rig::load(vec![PoolSettings { stopping: None, ..keeping(2) }], rig.launched());
    assert!(next.ends(instance), "{:?}", next.done);
}

#[test]
fn what_somebody_else_starts_or_ends_is_not_kept() {
    let mut rig = Rig::new(vec![keeping(2)]);
    let (instance, _) = stopped(&mut rig, "app");
    rig.now = rig.now + Duration::from_secs(300);
    listed(&mut rig, instance, MachineState::Running);
    assert!(rig.ends(instance));
    let mut rig = Rig::new(vec![keeping(2)]);
    let (instance, worker) = stopped(&mut rig, "app");
    listed(&mut rig, instance, MachineState::Ended);
    assert_eq!(rig.worker(&worker).status, WorkerStatus::Gone);
    rig.build("app", vec![rig::job("again", &[])]);
    assert_eq!(rig.launches().len(), 1);
    assert!(!starts(&rig.done, instance));
}

#[test]
fn an_agent_that_calls_while_its_machine_stops_is_not_refused_for_good() {
    let mut rig = Rig::new(vec![keeping(2)]);
    let (_, worker, connection) = stopping(&mut rig, "app");
    rig.agent(AgentEvent::Disconnected { worker: worker.clone(), connection });
    let (_, answer) = rig.greet(&worker, rig::hello(Proof::Key));
    assert!(matches!(answer, Answer::CallAgain(_)), "it would power its machine off: {answer:?}");
}

#[test]
fn somebody_may_end_a_stopped_worker_and_a_paused_pool_starts_none() {
    let mut rig = Rig::new(vec![keeping(2)]);
    let (instance, worker) = stopped(&mut rig, "app");
    rig.ask(Request::PausePool("linux".into()));
    rig.build("app", vec![rig::job("again", &[])]);
    assert!(rig.done.is_empty(), "{:?}", rig.done);
    rig.ask(Request::DrainWorker(worker.clone()));
    assert!(rig.ends(instance));
    assert_eq!(rig.worker(&worker).status, WorkerStatus::Gone);
}

#[test]
fn workers_that_are_kept_ready_are_not_stopped_and_a_stopped_one_is_none_of_them() {
    let mut rig = Rig::new(vec![PoolSettings { min_idle: 1, ..keeping(2) }]);
    let (kept, worker, connection) = rig.arrive();
    let done = rig.wait_beating(1200, &[(&worker, connection)]);
    assert!(!stops(&done, kept));
    let mut rig = Rig::new(vec![keeping(2)]);
    let (instance, _) = stopped(&mut rig, "app");
    let next = Rig::load(vec![PoolSettings { min_idle: 1, ..keeping(2) }], rig.launched());
    assert!(starts(&next.done, instance), "{:?}", next.done);
}

#[test]
fn a_spot_instance_is_never_stopped() {
    let candidates = vec![Candidate { is_spot: true, ..Candidate::from("big spot") }];
    let mut rig = Rig::new(vec![PoolSettings { candidates, ..keeping(2) }]);
    rig.build("app", vec![rig::job("test", &[])]);
    let (instance, worker, connection) = rig.arrive();
    let attempt = rig.given();
    rig.finish(&worker, attempt, AttemptOutcome::Passed);
    let done = rig.wait_beating(310, &[(&worker, connection)]);
    assert!(rig::ends(&done, instance) && !stops(&done, instance));
}

#[test]
fn its_expiry_allows_for_the_time_in_which_it_is_stopped() {
    let mut rig = Rig::new(vec![keeping(2)]);
    rig.build("app", vec![rig::job("test", &[])]);
    let expiry = rig.done.iter().find_map(|done| match done {
        Action::Prepare { expires_at, .. } => Some(*expires_at),
        _ => None,
    });
    let life = Duration::from_secs(7 * DAY + 12 * 3600);
    assert_eq!(expiry, Some(rig.now + life + Duration::from_secs(600)));
}

#[test]
fn a_connection_that_the_stop_left_open_does_not_count_against_the_start() {
    let mut rig =
        Rig::new(vec![PoolSettings { boot_timeout: Duration::from_secs(900), ..keeping(2) }]);
    let (instance, worker, _) = stopping(&mut rig, "app");
    listed(&mut rig, instance, MachineState::Stopped);
    rig.build("app", vec![rig::job("again", &[])]);
    accept_start(&mut rig, instance);
    let done = rig.wait(800);
    assert!(!rig::ends(&done, instance), "it has its boot time");
    rig.connect(&worker, booted_again(), &[]);
    rig.given();
}
