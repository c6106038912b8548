//! Bugs of our closest relatives that concern machines: each has a law here that is named after it,
//! where none stands beside the code already. The whole table is in `docs/reliability.md`.

use std::time::Duration;

use crate::master::domain::decision::Action;
use crate::master::domain::decision::Record;
use crate::master::domain::event::Event;
use crate::master::domain::event::LaunchFailure;
use crate::master::domain::event::Machine;
use crate::master::domain::event::MachineState;
use crate::master::domain::event::Proof;
use crate::master::domain::event::Request;
use crate::master::domain::rig;
use crate::master::domain::rig::Rig;
use crate::master::domain::settings::PoolSettings;
use crate::master::domain::settings::ProvisionerKind;
use crate::model::attempt::AttemptOutcome;
use crate::model::ids::CloudId;
use crate::model::ids::InstanceId;
use crate::model::ids::LaunchId;
use crate::model::status::InstanceStatus;
use crate::model::status::JobStatus;

/// A pool of a cloud whose lists prove nothing at first.
fn cloud() -> PoolSettings {
    PoolSettings { provisioner: ProvisionerKind::Ec2, ..rig::pool("linux") }
}

/// One job waits in such a pool, and a machine was asked for.
fn asked_for() -> (Rig, InstanceId) {
    let mut rig = Rig::new(vec![cloud()]);
    rig.build("app", vec![rig::job("test", &[])]);
    let (instance, _, _) = rig.launches()[0].clone();
    (rig, instance)
}

fn listed(rig: &mut Rig, machines: Vec<Machine>) {
    let asked_at = rig.now;
    rig.wait(1);
    rig.say(Event::CloudListed { pool: "linux".into(), asked_at, machines });
}

fn machine(launch: &LaunchId, state: MachineState) -> Machine {
    Machine { state, ..rig::machine("i-1", launch) }
}

/// buildomat's factory took a machine that was not listed yet for one that had failed.
/// woodpecker-ci/autoscaler 396 deleted an agent a second after its launch: "not found on provider".
#[test]
fn buildomat_a_machine_too_young_to_be_listed_is_not_missing() {
    let (mut rig, instance) = asked_for();
    rig.accept(instance);
    for _ in 0..20 {
        rig.wait(4);
        listed(&mut rig, Vec::new());
    }
    assert_eq!(rig.row(instance).status, InstanceStatus::Pending);
    assert!(rig.launches().is_empty(), "and none is started in its place");
}

/// drone-runner-aws wrote its row when RunInstances had returned: a crash between the two left an
/// instance that nobody knew of.
#[test]
fn drone_the_row_is_written_before_anything_is_asked_for() {
    let (mut rig, instance) = asked_for();
    let n_rows = |rig: &Rig| {
        let rows = rig.written.iter().filter(|record| matches!(record, Record::Instance(_)));
        rows.count()
    };
    assert_eq!(n_rows(&rig), 1, "in the transaction before the first action");
    rig.say(Event::LaunchPrepared {
        instance,
        request: "all of it".into(),
        what: "x".into(),
        price_per_hour: None,
    });
    let is_sent = rig.done.iter().any(|action| matches!(action, Action::Launch { .. }));
    assert!(is_sent && n_rows(&rig) == 2, "the request as well");
    // The master dies before the answer: its successor sends the same, and adopts what came of it.
    let mut next = Rig::load(vec![cloud()], rig.launched());
    let launch = rig.launch_of(instance);
    let sent = next.done.iter().find_map(|action| match action {
        Action::Launch { launch, request, .. } => Some((launch.clone(), request.clone())),
        _ => None,
    });
    assert_eq!(sent, Some((launch.clone(), "all of it".to_owned())));
    listed(&mut next, vec![machine(&launch, MachineState::Starting)]);
    assert_eq!(next.row(instance).cloud_id, Some(CloudId::from("i-1")));
}

/// drone-runner-aws never asked EC2 what it had.
/// containers/automation_images 286: people wrote a cron job of their own to kill orphans.
#[test]
fn drone_what_an_earlier_life_left_is_found_by_its_mark_and_ended() {
    let mut rig = Rig::new(vec![cloud()]);
    assert!(rig.done.iter().any(|action| matches!(action, Action::ListInstances(_))), "at once");
    listed(&mut rig, vec![machine(&LaunchId::from("of another life"), MachineState::Running)]);
    assert!(rig.done.iter().any(|action| matches!(action, Action::Terminate { .. })));
}

/// drone-runner-aws counted what it had told to end as gone, and started another each time.
#[test]
fn drone_a_machine_that_is_being_ended_is_not_free_room() {
    let mut rig = Rig::new(vec![PoolSettings { max_instances: 1, ..cloud() }]);
    rig.build("app", vec![rig::job("test", &[])]);
    let (instance, _, worker) = rig.launches()[0].clone();
    rig.accept(instance);
    rig.ask(Request::StopWorker(worker));
    let mut done = rig.wait(3600);
    assert!(!done.iter().any(|action| matches!(action, Action::Prepare { .. })));
    rig.say(Event::InstanceEnded { instance, sentence: None });
    done = std::mem::take(&mut rig.done);
    assert!(done.iter().any(|action| matches!(action, Action::Prepare { .. })));
}

/// drone/autoscaler PR 48: a launch that had failed counted as a machine until an hourly reaper came.
#[test]
fn drone_a_launch_that_failed_takes_no_room() {
    let candidates = vec!["here".into(), "there".into()];
    let mut rig = Rig::new(vec![PoolSettings { max_instances: 1, candidates, ..cloud() }]);
    rig.build("app", vec![rig::job("test", &[])]);
    let (instance, _, _) = rig.launches()[0].clone();
    let (sentence, failure) = ("no room".to_owned(), LaunchFailure::Capacity);
    rig.say(Event::LaunchFailed { instance, sentence, failure });
    assert_eq!(rig.launches().len(), 1);
}

/// terraform-aws-github-runner 5085: 22 jobs were killed in three days between the look whether a
/// machine was busy and its end.
#[test]
fn terraform_a_busy_machine_is_not_killed_between_check_and_terminate() {
    let (mut rig, _) = asked_for();
    let (instance, worker, connection) = rig.arrive();
    let first = rig.given();
    rig.finish(&worker, first, AttemptOutcome::Passed);
    rig.wait_beating(290, &[(&worker, connection)]);
    // The last moment of its idle time: what is due and the new job are one decision.
    rig.now = rig.now + Duration::from_secs(9);
    rig.build("app", vec![rig::job("again", &[])]);
    let second = rig.given();
    rig.start(&worker, second);
    let done = rig.wait_beating(600, &[(&worker, connection)]);
    assert!(!rig::ends(&done, instance), "it has a job");
    rig.finish(&worker, second, AttemptOutcome::Passed);
    assert_eq!(rig.status("again"), JobStatus::Passed);
}

/// The same from the other side: what was told to end is given nothing any more.
#[test]
fn terraform_a_machine_that_was_told_to_end_is_given_no_job() {
    let (mut rig, _) = asked_for();
    let (instance, worker, connection) = rig.arrive();
    let first = rig.given();
    rig.finish(&worker, first, AttemptOutcome::Passed);
    let done = rig.wait_beating(310, &[(&worker, connection)]);
    assert!(rig::ends(&done, instance), "it was idle for long enough");
    rig.build("app", vec![rig::job("again", &[])]);
    assert!(rig.told().is_empty(), "{:?}", rig.told());
    assert_eq!(rig.launches().len(), 1, "another is started");
}

/// terraform-aws-github-runner 3589: a list that left a busy runner out ended its machine.
#[test]
fn terraform_a_listing_that_leaves_out_a_busy_machine_ends_nothing() {
    let (mut rig, _) = asked_for();
    let (instance, worker, connection) = rig.arrive();
    let attempt = rig.given();
    rig.start(&worker, attempt);
    let launch = rig.launch_of(instance);
    rig.wait_beating(1200, &[(&worker, connection)]);
    for machines in [vec![], vec![], vec![machine(&launch, MachineState::Running)], vec![], vec![]]
    {
        listed(&mut rig, machines);
    }
    assert!(!rig.row(instance).status.is_final(), "two in a row are no proof");
    assert_eq!(rig.status("test"), JobStatus::Running);
}

/// hydra: a restart of the queue runner killed every build of the fleet.
/// ec2-plugin 270: each restart started every stopped agent.
#[test]
fn hydra_a_restart_ends_no_machine_and_starts_none() {
    let mut rig = Rig::new(vec![PoolSettings { min_idle: 1, ..cloud() }]);
    let (instance, worker, _) = rig.arrive();
    let pool = PoolSettings { min_idle: 1, ..cloud() };
    let mut next = Rig::load(vec![pool], rig.launched());
    let mut done = next.wait(10);
    let connection = next.connect(&worker, rig::hello(Proof::Key), &[]);
    done.append(&mut next.done);
    done.append(&mut next.wait_beating(600, &[(&worker, connection)]));
    assert!(!rig::ends(&done, instance));
    assert!(!done.iter().any(|action| matches!(action, Action::Prepare { .. })));
}

/// terraform-aws-github-runner 2925: no capacity, and the event was dropped: the build stalled for good.
/// RunsOn 543: one job of the same refusal failed, another waited for six hours.
#[test]
fn terraform_without_capacity_a_job_waits_says_why_and_is_run_when_there_is_some() {
    let (mut rig, instance) = asked_for();
    let sentence = "EC2 refused RunInstances: InsufficientInstanceCapacity".to_owned();
    let failure = LaunchFailure::Capacity;
    rig.say(Event::LaunchFailed { instance, sentence, failure });
    assert_eq!(rig.status("test"), JobStatus::Queued);
    assert!(rig.reason("test").contains("InsufficientInstanceCapacity"), "{}", rig.reason("test"));
    rig.done = rig.wait(180);
    rig.arrive();
    rig.given();
}

/// ec2-plugin 1995: an agent with an idle limit of ten minutes ran for eight days; GitLab 37526: never
/// down to nothing.
#[test]
fn jenkins_an_idle_machine_ends_whatever_else_happens_to_it() {
    let (mut rig, _) = asked_for();
    let (instance, worker, mut connection) = rig.arrive();
    let attempt = rig.given();
    rig.finish(&worker, attempt, AttemptOutcome::Passed);
    let launch = rig.launch_of(instance);
    let mut done = Vec::new();
    for _ in 0..6 {
        done.append(&mut rig.wait_beating(50, &[(&worker, connection)]));
        listed(&mut rig, vec![machine(&launch, MachineState::Running)]);
        done.append(&mut rig.done);
        if !rig::ends(&done, instance) {
            connection = rig.connect(&worker, rig::hello(Proof::Key), &[]);
        }
    }
    assert!(rig::ends(&done, instance));
    rig.say(Event::InstanceEnded { instance, sentence: None });
    let done = rig.wait(24 * 3600);
    assert!(!done.iter().any(|action| matches!(action, Action::Prepare { .. })));
}
