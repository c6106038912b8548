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
