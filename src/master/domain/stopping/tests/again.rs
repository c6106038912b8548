//! What is counted anew when a machine is started again: its paid minute, its silence, how long it takes.

use super::*;

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
