//! What listings and machines say of a start, and which of it is from before.

use super::*;

/// A listing that names the start that it knows of.
fn listed_as(rig: &mut Rig, id: InstanceId, state: MachineState, started: &str) {
    let (row, asked_at) = (row(rig, id), rig.now);
    rig.now = rig.now + Duration::from_secs(1);
    let cloud_id = row.cloud_id.expect("it was accepted");
    let started = Some(started.to_owned());
    let machines = vec![Machine { state, started, ..rig::machine(&cloud_id.0, &row.launch) }];
    rig.say(Event::CloudListed { pool: "linux".into(), asked_at, machines });
}

#[test]
fn an_old_listing_undoes_neither_a_stop_nor_a_start() {
    let mut rig = Rig::new(vec![keeping(2)]);
    let (instance, worker) = stopped(&mut rig, "app");
    listed(&mut rig, instance, MachineState::Running);
    assert_eq!(row(&rig, instance).status, InstanceStatus::Stopped);
    rig.build("app", vec![rig::job("again", &[])]);
    listed(&mut rig, instance, MachineState::Running);
    assert_eq!(row(&rig, instance).status, InstanceStatus::Requested, "it was before the stop");
    accept_start(&mut rig, instance);
    rig.connect(&worker, booted_again(), &[]);
    rig.given();
    listed(&mut rig, instance, MachineState::Stopped);
    assert_eq!(row(&rig, instance).status, InstanceStatus::Running);
    rig.now = rig.now + Duration::from_secs(300);
    listed(&mut rig, instance, MachineState::Stopped);
    assert_eq!(row(&rig, instance).status, InstanceStatus::Terminating, "somebody has stopped it");
}

#[test]
fn a_listing_that_names_the_new_start_is_not_behind() {
    let mut rig = Rig::new(vec![keeping(2)]);
    let (instance, worker, connection) = stopping(&mut rig, "app");
    rig.agent(AgentEvent::Disconnected { worker: worker.clone(), connection });
    listed_as(&mut rig, instance, MachineState::Stopped, "10:00");
    rig.build("app", vec![rig::job("again", &[])]);
    accept_start(&mut rig, instance);
    let connection = rig.connect(&worker, booted_again(), &[]);
    let attempt = rig.given();
    rig.finish(&worker, attempt, AttemptOutcome::Passed);
    listed_as(&mut rig, instance, MachineState::Stopped, "10:00");
    assert_eq!(row(&rig, instance).status, InstanceStatus::Running, "it is");
    rig.wait_beating(30, &[(&worker, connection)]);
    listed_as(&mut rig, instance, MachineState::Stopped, "10:05");
    assert_eq!(row(&rig, instance).status, InstanceStatus::Terminating, "somebody has stopped it");
}

#[test]
fn a_master_that_was_started_anew_meanwhile_still_knows_the_start_from_the_one_before() {
    let mut rig = Rig::new(vec![keeping(2)]);
    let (instance, worker, connection) = stopping(&mut rig, "app");
    rig.agent(AgentEvent::Disconnected { worker: worker.clone(), connection });
    listed_as(&mut rig, instance, MachineState::Stopped, "10:00");
    rig.build("app", vec![rig::job("again", &[])]);
    accept_start(&mut rig, instance);
    let snapshot = Snapshot {
        instances: vec![row(&rig, instance)],
        workers: vec![rig.worker(&worker)],
        ..Snapshot::default()
    };
    let mut rig = Rig::load_at(vec![keeping(2)], snapshot, rig.now + 2 * LISTING_LAG);
    rig.connect(&worker, booted_again(), &[]);
    // Long after the start, and yet from before it.
    listed_as(&mut rig, instance, MachineState::Stopped, "10:00");
    assert_eq!(row(&rig, instance).status, InstanceStatus::Running);
    listed_as(&mut rig, instance, MachineState::Stopped, "10:05");
    assert_eq!(row(&rig, instance).status, InstanceStatus::Terminating);
}

#[test]
fn a_machine_runs_from_when_it_says_that_it_came_up() {
    let mut rig = Rig::new(vec![keeping(2)]);
    rig.build("app", vec![rig::job("test", &[])]);
    let (instance, _, worker) = rig.launches()[0].clone();
    rig.accept(instance);
    let accepted_at = rig.now;
    rig.wait(20);
    let (connection, _) = rig.greet(&worker, rig::hello(Proof::Password));
    let (bootstrapped, attempts, up) = (false, Vec::new(), Duration::from_secs(12));
    rig.agent(AgentEvent::Inventory { worker, connection, bootstrapped, attempts, up });
    let run = &row(&rig, instance).runs[0];
    assert_eq!(run.started_at, Some(accepted_at + Duration::from_secs(8)));
    assert_eq!(row(&rig, instance).running_at, run.started_at);
}
