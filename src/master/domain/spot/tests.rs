//! Machines that the cloud takes away, as scenarios.

use super::*;
use crate::master::domain::candidates::Candidate;
use crate::master::domain::decision::Action;
use crate::master::domain::entities::AttemptState;
use crate::master::domain::event::AgentEvent;
use crate::master::domain::event::Event;
use crate::master::domain::event::LaunchFailure;
use crate::master::domain::event::Proof;
use crate::master::domain::pipeline::JobSpec;
use crate::master::domain::rig;
use crate::master::domain::rig::Rig;
use crate::master::domain::settings::PoolSettings;
use crate::master::domain::settings::ProvisionerKind;
use crate::model::attempt::AttemptOutcome;
use crate::model::attempt::AttemptRef;
use crate::model::ids::ConnectionId;
use crate::model::ids::InstanceId;
use crate::model::status::JobStatus;

const SAID: &str = "EC2 takes this spot instance back";

/// Spot while there is any.
fn market() -> PoolSettings {
    PoolSettings {
        provisioner: ProvisionerKind::Ec2,
        candidates: vec![Candidate { is_spot: true, ..Candidate::from("big spot") }, "big".into()],
        ..rig::pool("linux")
    }
}

fn busy(
    pool: PoolSettings,
    job: JobSpec,
) -> (Rig, InstanceId, WorkerName, ConnectionId, AttemptRef) {
    let mut rig = Rig::new(vec![pool]);
    rig.build("app", vec![job]);
    assert_eq!(candidates(&rig.done), [0]);
    let (instance, worker, connection) = rig.arrive();
    let attempt = rig.given();
    rig.start(&worker, attempt);
    (rig, instance, worker, connection, attempt)
}

fn candidates(done: &[Action]) -> Vec<u32> {
    let prepared = done.iter().filter_map(|action| match action {
        Action::Prepare { candidate, .. } => Some(*candidate),
        _ => None,
    });
    prepared.collect()
}

fn notice(rig: &mut Rig, worker: &WorkerName, connection: ConnectionId, seconds: u64) {
    rig.agent(AgentEvent::Interrupted {
        worker: worker.clone(),
        connection,
        ends_in: Duration::from_secs(seconds),
        sentence: SAID.to_owned(),
    });
}

#[test]
fn a_build_that_ends_within_the_notice_has_passed() {
    let (mut rig, instance, worker, connection, attempt) = busy(market(), rig::job("test", &[]));
    notice(&mut rig, &worker, connection, 120);
    assert!(rig.told().contains(&&ToAgent::Drain));
    assert_eq!(rig.worker(&worker).status, WorkerStatus::Draining);
    assert_eq!(rig.worker(&worker).reason.as_deref(), Some(SAID));
    let done = rig.wait_beating(90, &[(&worker, connection)]);
    let is_cancel =
        |done: &Action| matches!(done, Action::Tell { message: ToAgent::Cancel(_), .. });
    assert!(!done.iter().any(is_cancel), "it has its time");
    rig.finish(&worker, attempt, AttemptOutcome::Passed);
    assert_eq!(rig.status("test"), JobStatus::Passed);
    assert!(rig.ends(instance), "and the worker takes no other");
}

#[test]
fn an_attempt_is_ended_before_its_machine_and_runs_again_on_demand_at_no_cost() {
    let (mut rig, _, worker, connection, attempt) = busy(market(), rig::job("test", &[]));
    notice(&mut rig, &worker, connection, 120);
    let done = rig.wait_beating(110, &[(&worker, connection)]);
    let cancel = ToAgent::Cancel(attempt);
    assert!(
        done.iter().any(|done| matches!(done, Action::Tell { message, .. } if *message == cancel))
    );
    assert_eq!(rig.status("test"), JobStatus::Running, "until its agent says that it has ended");
    rig.finish(&worker, attempt, AttemptOutcome::Cancelled);
    let job = rig.job("test");
    assert_eq!((job.status, job.infra_failures, job.avoids_spot), (JobStatus::Queued, 0, true));
    assert_eq!(candidates(&rig.done), [1], "on demand");
    let ended = rig.written.iter().rev().find_map(|record| match record {
        crate::master::domain::decision::Record::Attempt(row) if row.id == attempt => {
            Some(row.state.clone())
        }
        _ => None,
    });
    assert!(matches!(ended, Some(AttemptState::Infra(why)) if why.contains("the cloud took")));
}

#[test]
fn without_a_notice_it_is_the_same() {
    let (mut rig, instance, _, _, _) = busy(market(), rig::job("test", &[]));
    let sentence = Some("EC2 ended it: Server.SpotInstanceTermination".to_owned());
    rig.say(Event::InstanceEnded { instance, sentence });
    let job = rig.job("test");
    assert_eq!((job.status, job.infra_failures, job.avoids_spot), (JobStatus::Queued, 0, true));
    assert_eq!(candidates(&rig.done), [1]);
}

#[test]
fn a_second_loss_costs_a_try_and_a_job_for_once_is_not_run_again() {
    let only_spot = PoolSettings {
        candidates: vec![Candidate { is_spot: true, ..Candidate::from("spot") }],
        ..market()
    };
    let (mut rig, first, _, _, _) = busy(only_spot, rig::job("test", &[]));
    rig.say(Event::InstanceEnded { instance: first, sentence: None });
    for (status, failures) in [(JobStatus::Queued, 1), (JobStatus::Infra, 2)] {
        assert_eq!(candidates(&rig.done), [0], "there is nothing but spot");
        let (instance, worker, _) = rig.arrive();
        let attempt = rig.given();
        rig.start(&worker, attempt);
        rig.say(Event::InstanceEnded { instance, sentence: None });
        assert_eq!((rig.status("test"), rig.job("test").infra_failures), (status, failures));
    }
    let once = JobSpec { infra_retries: 0, ..rig::job("test", &[]) };
    let (mut rig, instance, _, _, _) = busy(market(), once);
    rig.say(Event::InstanceEnded { instance, sentence: None });
    assert_eq!(rig.status("test"), JobStatus::Infra);
}

#[test]
fn an_idle_worker_on_spot_is_not_given_a_job_that_was_lost_to_spot() {
    let (mut rig, first, _, _, _) = busy(market(), rig::job("test", &[]));
    rig.build("lib", vec![rig::job("other", &[])]);
    let (_, second, _) = rig.arrive();
    let other = rig.given();
    rig.say(Event::InstanceEnded { instance: first, sentence: None });
    let on_demand = rig.launches();
    assert_eq!(candidates(&rig.done), [1]);
    rig.finish(&second, other, AttemptOutcome::Passed);
    assert_eq!(rig.worker(&second).status, WorkerStatus::Idle);
    assert_eq!(rig.status("test"), JobStatus::Queued);
    assert!(rig.launches().is_empty(), "one is on its way already");
    // Others are given to it as before.
    rig.build("lib", vec![rig::job("third", &[])]);
    rig.given();
    let (instance, _, worker) = on_demand[0].clone();
    rig.accept(instance);
    rig.connect(&worker, rig::hello(Proof::Password), &[]);
    rig.given();
    assert_eq!(rig.job("test").worker, Some(worker));
}

#[test]
fn while_nothing_else_is_to_be_had_spot_will_do() {
    let (mut rig, first, _, _, _) = busy(market(), rig::job("test", &[]));
    rig.say(Event::InstanceEnded { instance: first, sentence: None });
    assert_eq!(candidates(&rig.done), [1]);
    let (instance, _, _) = rig.launches()[0].clone();
    let (sentence, failure) = ("no room".to_owned(), LaunchFailure::Capacity);
    rig.say(Event::LaunchFailed { instance, sentence, failure });
    assert_eq!(candidates(&rig.done), [0]);
    rig.arrive();
    rig.given();
}

#[test]
fn an_idle_worker_that_will_be_taken_ends_at_once() {
    let mut rig = Rig::new(vec![PoolSettings { min_idle: 1, ..market() }]);
    let (instance, worker, connection) = rig.arrive();
    notice(&mut rig, &worker, connection, 120);
    assert!(rig.ends(instance));
    assert_eq!(rig.launches().len(), 1, "another is kept ready");
}

#[test]
fn a_notice_is_acted_on_after_a_restart_too() {
    let (mut rig, _, worker, connection, attempt) = busy(market(), rig::job("test", &[]));
    notice(&mut rig, &worker, connection, 120);
    let mut snapshot = rig.launched();
    snapshot.jobs.push(rig.job("test"));
    for record in rig.written.iter().rev() {
        match record {
            crate::master::domain::decision::Record::Build(build) if snapshot.builds.is_empty() => {
                snapshot.builds.push(build.clone());
            }
            crate::master::domain::decision::Record::Attempt(row)
                if snapshot.attempts.is_empty() =>
            {
                snapshot.attempts.push(row.clone());
            }
            _ => {}
        }
    }
    let mut rig = Rig::load(vec![market()], snapshot);
    let connection = rig.connect(&worker, rig::hello(Proof::Key), &[(attempt, false)]);
    rig.wait_beating(110, &[(&worker, connection)]);
    rig.finish(&worker, attempt, AttemptOutcome::Cancelled);
    assert_eq!(rig.status("test"), JobStatus::Queued);
}

#[test]
fn a_job_that_avoids_spot_is_not_told_of_what_comes_on_spot() {
    let (mut rig, first, _, _, _) = busy(market(), rig::job("test", &[]));
    rig.build("lib", vec![rig::job("other", &[])]);
    assert_eq!(candidates(&rig.done), [0]);
    rig.wait(1);
    rig.say(Event::InstanceEnded { instance: first, sentence: None });
    assert_eq!(candidates(&rig.done), [1]);
    let (test, other) = (rig.reason("test"), rig.reason("other"));
    assert!(test.starts_with("starting 1 worker in pool \"linux\": big was asked for"), "{test}");
    assert!(other.starts_with("starting 2 workers in pool \"linux\": big spot"), "{other}");
}
