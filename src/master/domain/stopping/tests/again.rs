//! What is counted anew when a machine is started again: its paid minute, its silence, how long it takes.

use super::*;
use crate::master::domain::forecast::Estimate;
use crate::master::domain::forecast::JobTime;
use crate::master::domain::forecast::PoolForecast;

#[test]
fn a_machine_that_was_started_again_is_not_stopped_before_that_minute_is_over() {
    let mut rig = Rig::new(vec![PoolSettings { idle_timeout: Duration::ZERO, ..keeping(2) }]);
    rig.build("app", vec![rig::job("test", &[])]);
    let (instance, worker, connection) = rig.arrive();
    let attempt = rig.given();
    rig.finish(&worker, attempt, AttemptOutcome::Passed);
    assert!(stops(&rig.wait_beating(70, &[(&worker, connection)]), instance));
    rig.agent(AgentEvent::Disconnected { worker: worker.clone(), connection });
    listed(&mut rig, instance, MachineState::Stopped);
    rig.wait(600);
    rig.build("app", vec![rig::job("again", &[])]);
    accept_start(&mut rig, instance);
    let connection = rig.connect(&worker, booted_again(), &[]);
    let attempt = rig.given();
    rig.finish(&worker, attempt, AttemptOutcome::Passed);
    assert!(!stops(&rig.wait_beating(50, &[(&worker, connection)]), instance), "it is paid for");
    assert!(stops(&rig.wait_beating(20, &[(&worker, connection)]), instance));
}

fn console_of(actions: &[Action]) -> Option<WorkerName> {
    actions.iter().find_map(|done| match done {
        Action::Terminate { console_for, .. } => console_for.clone(),
        Action::KeepConsole { worker, .. } => Some(worker.clone()),
        _ => None,
    })
}

#[test]
fn a_machine_that_does_not_come_back_leaves_its_console() {
    let mut rig = Rig::new(vec![keeping(2)]);
    let (instance, worker) = stopped(&mut rig, "app");
    rig.build("app", vec![rig::job("again", &[])]);
    accept_start(&mut rig, instance);
    assert_eq!(console_of(&rig.wait(602)), Some(worker));

    let mut rig = Rig::new(vec![keeping(2)]);
    let (instance, worker) = stopped(&mut rig, "app");
    rig.build("app", vec![rig::job("again", &[])]);
    accept_start(&mut rig, instance);
    rig.say(Event::InstanceEnded { instance, sentence: None });
    assert_eq!(console_of(&rig.done), Some(worker), "nor one that ends by itself");
}

#[test]
fn a_machine_that_came_back_or_was_never_started_leaves_none() {
    let mut rig = Rig::new(vec![keeping(2)]);
    let (instance, worker) = stopped(&mut rig, "app");
    rig.build("app", vec![rig::job("again", &[])]);
    accept_start(&mut rig, instance);
    rig.connect(&worker, booted_again(), &[]);
    rig.ask(Request::StopWorker(worker));
    assert!(rig.ends(instance));
    assert_eq!(console_of(&rig.done), None);

    let mut rig = Rig::new(vec![keeping(2)]);
    let (instance, _) = stopped(&mut rig, "app");
    rig.build("app", vec![rig::job("again", &[])]);
    let (sentence, failure) = ("no room".to_owned(), LaunchFailure::Capacity);
    rig.say(Event::LaunchFailed { instance, sentence, failure });
    assert!(rig.ends(instance));
    assert_eq!(console_of(&rig.done), None);
}

/// One worker builds, which takes 300 s; one that came back within 10 s is stopped again. New machines take 80 s.
fn building_beside_a_stopped() -> (Rig, InstanceId, WorkerName, ConnectionId) {
    let seen = |mean| Estimate { mean, seen: 4 };
    let mut time = JobTime::new("app".into(), "build".into());
    (time.took_ms, time.passes) = (seen(300_000), seen(1000));
    let mut forecast = PoolForecast::new("linux".into());
    forecast.boot_ms = seen(80_000);
    let (job_times, pool_forecasts) = (vec![time], vec![forecast]);
    let snapshot = Snapshot { job_times, pool_forecasts, ..Snapshot::default() };
    let mut rig = Rig::load(vec![PoolSettings { look_ahead: true, ..keeping(2) }], snapshot);
    let (instance, worker) = stopped(&mut rig, "app");
    rig.build("app", vec![rig::job("first", &[])]);
    accept_start(&mut rig, instance);
    rig.wait(10);
    let connection = rig.connect(&worker, booted_again(), &[]);
    let attempt = rig.given();
    rig.finish(&worker, attempt, AttemptOutcome::Passed);
    let done = rig.wait_beating(310, &[(&worker, connection)]);
    assert!(stops(&done, instance));
    rig.agent(AgentEvent::Disconnected { worker: worker.clone(), connection });
    // Only now, so that the next job has a machine of its own.
    let needing = |name| rig::job(name, &["build"]);
    rig.build("app", vec![rig::job("build", &[]), needing("a"), needing("b"), needing("c")]);
    let (_, builder, connection) = rig.arrive();
    let attempt = rig.given();
    rig.start(&builder, attempt);
    rig.it.look_ahead.pool(&"linux".into()).boot_ms = seen(80_000);
    listed(&mut rig, instance, MachineState::Stopped);
    (rig, instance, builder, connection)
}

fn launched(actions: &[Action]) -> usize {
    actions.iter().filter(|done| matches!(done, Action::Prepare { .. })).count()
}

#[test]
fn a_stopped_machine_is_started_ahead_as_late_as_it_may_and_what_it_does_not_serve_is_launched() {
    let (mut rig, instance, builder, connection) = building_beside_a_stopped();
    let at = [(&builder, connection)];
    let done = rig.wait_beating(210, &at);
    assert!(launched(&done) == 0 && !starts(&done, instance), "too early for both: {done:?}");
    let done = rig.wait_beating(20, &at);
    assert!(launched(&done) == 1 && !starts(&done, instance), "two serve, one is new: {done:?}");
    let done = rig.wait_beating(45, &at);
    assert!(launched(&done) == 0 && !starts(&done, instance), "{done:?}");
    let done = rig.wait_beating(20, &at);
    assert!(launched(&done) == 0 && starts(&done, instance), "{done:?}");
}
