//! Compares what a provisioner lists with what we remember. Nothing else does.
//!
//! What is listed exists. What is missing may only be late: where a listing proves nothing, it must be
//! missed several times, long after it was accepted (EC2's lists are eventually consistent).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Action;
use crate::master::domain::entities::Instance;
use crate::master::domain::event::Machine;
use crate::master::domain::event::MachineState;
use crate::master::domain::timers::Timer;
use crate::model::ids::InstanceId;
use crate::model::ids::LaunchId;
use crate::model::ids::PoolName;
use crate::model::status::InstanceStatus;
use crate::model::time::Timestamp;

/// How often a pool's machines are listed.
const LIST_EVERY: Duration = Duration::from_secs(60);

/// The same while one of them comes up or is being ended: what EC2's budget for listings allows a
/// hundred times over.
const LIST_EVERY_WHILE_MOVING: Duration = Duration::from_secs(5);

/// Complete listings in a row that must miss an instance, where one alone proves nothing.
const MISSES_MIN: u32 = 3;

/// And this long after it was accepted (EC2 developer guide, eventual consistency).
const ABSENCE_AFTER: Duration = Duration::from_secs(15 * 60);

impl Instance {
    /// Whether this may be its machine: it has its mark, and not another's name.
    pub(super) fn may_have(&self, machine: &Machine) -> bool {
        let is_anothers = self.cloud_id.as_ref().is_some_and(|id| *id != machine.cloud_id);
        self.launch == machine.launch && !is_anothers
    }
}

impl Coordinator {
    /// After a start: find out what is there.
    pub(super) fn take_up_pools(&mut self) {
        let names: Vec<PoolName> = self.pools.keys().cloned().collect();
        for name in names {
            if self.pools.get(&name).is_some_and(|pool| pool.launches()) {
                self.timers.set(Timer::Listing(name.clone()), self.now);
            }
            self.take_up_pause(&name);
            if self.last_ids.instance == 0 {
                self.never_listed.insert(name.clone());
            }
            self.unsettled.insert(name);
        }
    }

    pub(super) fn list_instances(&mut self, pool: &PoolName) {
        self.plan_listing(pool);
        self.perform(Action::ListInstances(pool.clone()));
    }

    pub(super) fn plan_listing(&mut self, pool: &PoolName) {
        let is_moving = self.instances.values().any(|live| {
            let row = &live.instance;
            &row.pool == pool
                && match row.status {
                    InstanceStatus::Pending
                    | InstanceStatus::Stopping
                    | InstanceStatus::Terminating => true,
                    // It could end before anybody has heard of it, or has ended since.
                    InstanceStatus::Running => self.has_no_agent(row),
                    InstanceStatus::Requested
                    | InstanceStatus::Stopped
                    | InstanceStatus::Terminated
                    | InstanceStatus::Failed => false,
                }
        });
        let every = if is_moving { LIST_EVERY_WHILE_MOVING } else { LIST_EVERY };
        self.timers.set(Timer::Listing(pool.clone()), self.now + every);
    }

    /// Whether nobody speaks for a machine just now.
    fn has_no_agent(&self, row: &Instance) -> bool {
        self.workers.get(&row.worker).is_none_or(|live| live.connection.is_none())
    }

    /// Something is moving in a pool: what comes of it is to be seen soon.
    pub(super) fn list_soon(&mut self, pool: &PoolName) {
        let at = self.now + LIST_EVERY_WHILE_MOVING;
        self.timers.bring_forward(Timer::Listing(pool.clone()), at);
    }

    pub(super) fn cloud_listed(
        &mut self,
        pool: &PoolName,
        asked_at: Timestamp,
        machines: &[Machine],
    ) {
        if asked_at > self.now {
            return; // The clock was set back since: nobody knows what was asked for first.
        }
        self.listed(pool);
        let mut ours: BTreeMap<LaunchId, Vec<InstanceId>> = BTreeMap::new();
        for live in self.instances.values().filter(|live| &live.instance.pool == pool) {
            ours.entry(live.instance.launch.clone()).or_default().push(live.instance.id);
        }
        for machine in machines {
            let rows = ours.get(&machine.launch).map(Vec::as_slice).unwrap_or_default();
            match (self.row_of(rows, machine), machine.state) {
                (Some(id), MachineState::Ended) => {
                    self.seen_ended(id, asked_at, machine);
                }
                (Some(id), MachineState::Stopped | MachineState::Stopping) => {
                    self.seen_stopped(id, asked_at, machine);
                }
                (Some(id), _) => self.seen_alive(id, asked_at, machine),
                (None, MachineState::Ended | MachineState::Ending) => {}
                (None, _) => self.orphan(pool, asked_at, machine),
            }
        }
        self.never_listed.remove(pool);
        for id in ours.values().flatten() {
            let Some(row) = self.instances.get(id).map(|live| &live.instance) else { continue };
            if !machines.iter().any(|machine| row.may_have(machine)) {
                self.missing(*id, asked_at);
            }
        }
    }

    /// The row of a machine, of those of its launch. Two machines may carry one mark: somebody has launched
    /// more like one of ours, and its tags were copied.
    fn row_of(&self, rows: &[InstanceId], machine: &Machine) -> Option<InstanceId> {
        let rows = rows.iter().filter_map(|id| self.instances.get(id)).map(|live| &live.instance);
        let mut rows: Vec<&Instance> = rows.filter(|row| row.may_have(machine)).collect();
        rows.sort_by_key(|row| row.cloud_id.is_none());
        rows.first().map(|row| row.id)
    }

    fn seen_alive(&mut self, id: InstanceId, asked_at: Timestamp, machine: &Machine) {
        let is_stale = self.is_sight_stale(id, asked_at, machine);
        let Some(live) = self.instances.get_mut(&id) else { return };
        live.misses = 0;
        let (status, state) = (live.instance.status, machine.state);
        match status {
            InstanceStatus::Requested if !is_stale => {
                self.instance_accepted(id, machine.cloud_id.clone());
            }
            // It was given up before anybody knew of it.
            InstanceStatus::Terminating if live.instance.cloud_id.is_none() => {
                self.instance_accepted(id, machine.cloud_id.clone());
            }
            InstanceStatus::Pending if state == MachineState::Running && !is_stale => self
                .change_instance(id, |instance, now| {
                    instance.status = InstanceStatus::Running;
                    instance.run_begins(now);
                }),
            InstanceStatus::Stopped => self.seen_up_though_stopped(id, asked_at),
            InstanceStatus::Terminating if state == MachineState::Ending => {
                self.seen_ending(id, machine.asked_to_end_at);
            }
            InstanceStatus::Requested
            | InstanceStatus::Pending
            | InstanceStatus::Running
            | InstanceStatus::Stopping
            | InstanceStatus::Terminating
            | InstanceStatus::Terminated
            | InstanceStatus::Failed => {}
        }
    }

    /// What is shutting down is not paid for any more.
    fn seen_ending(&mut self, id: InstanceId, since: Option<Timestamp>) {
        let live = self.instances.get(&id);
        let runs = |row: &Instance| row.runs.last().is_some_and(|run| run.ended_at.is_none());
        if live.is_some_and(|live| runs(&live.instance)) {
            self.change_instance(id, |instance, now| instance.run_ended(now, since));
        }
    }

    /// A listing from before the launch may show an earlier end under the same mark.
    fn seen_ended(&mut self, id: InstanceId, asked_at: Timestamp, machine: &Machine) {
        let live = self.instances.get(&id);
        let accepted = live.and_then(|live| live.instance.accepted_at);
        if accepted.is_some_and(|at| at < asked_at) {
            let since = machine.asked_to_end_at;
            self.change_instance(id, |instance, now| instance.run_ended(now, since));
            self.instance_ended_by(id, machine.reason.as_deref(), machine.cause);
        } else {
            self.missing(id, asked_at);
        }
    }

    fn missing(&mut self, id: InstanceId, asked_at: Timestamp) {
        let Some(live) = self.instances.get_mut(&id) else { return };
        let instance = &live.instance;
        let is_exact = self.pools.get(&instance.pool);
        let is_exact = is_exact.is_some_and(|pool| pool.settings.provisioner.absence_is_proof());
        // What was given up before it was accepted may have come to be until then.
        let known_since = instance.accepted_at.or(instance.ending_at);
        let known_since = known_since.unwrap_or(instance.requested_at);
        if known_since >= asked_at {
            return; // Asked before it could be there.
        }
        if instance.status == InstanceStatus::Requested {
            return; // It is being settled.
        }
        live.misses += 1;
        let is_proven =
            is_exact || (live.misses >= MISSES_MIN && known_since + ABSENCE_AFTER <= self.now);
        if is_proven {
            self.instance_ended(id, Some("the machine is no longer there"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::domain::decision::Record;
    use crate::master::domain::event::AgentEvent;
    use crate::master::domain::event::Event;
    use crate::master::domain::event::Request;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::master::domain::settings::PoolSettings;
    use crate::master::domain::settings::ProvisionerKind;
    use crate::master::domain::snapshot::Snapshot;
    use crate::model::ids::CloudId;

    fn listed(rig: &mut Rig, machines: Vec<Machine>) {
        let asked_at = rig.now;
        rig.wait(1);
        rig.say(Event::CloudListed { pool: "linux".into(), asked_at, machines });
    }

    fn machine(launch: &LaunchId, alive: bool) -> Machine {
        let state = if alive { MachineState::Running } else { MachineState::Ended };
        Machine { state, ..rig::machine("i-1", launch) }
    }

    /// The newest row of the ledger.
    fn row(rig: &Rig) -> Instance {
        let rows = rig.written.iter().rev().filter_map(|record| match record {
            Record::Instance(instance) => Some(instance.clone()),
            _ => None,
        });
        rows.into_iter().next().expect("there is a row")
    }

    fn launched() -> (Rig, InstanceId, LaunchId) {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (instance, launch, _) = rig.launches()[0].clone();
        (rig, instance, launch)
    }

    #[test]
    fn a_machine_of_ours_in_no_row_is_ended() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        let strange = LaunchId::from("0123");
        listed(&mut rig, vec![machine(&strange, true)]);
        let ended = rig
            .done
            .iter()
            .any(|action| matches!(action, Action::Terminate { launch, .. } if *launch == strange));
        assert!(ended);
        listed(&mut rig, vec![machine(&strange, false)]);
        assert!(rig.done.is_empty(), "what has ended is left alone");
    }

    #[test]
    fn a_row_whose_launch_a_crash_dropped_is_launched_again_and_only_then() {
        let (mut rig, instance, launch) = launched();
        listed(&mut rig, Vec::new());
        assert!(rig.launches().is_empty(), "the call is under way");
        let row = row(&rig);
        let worker = rig.written.iter().find_map(|record| match record {
            Record::Worker(worker) => Some(worker.clone()),
            _ => None,
        });
        let snapshot = Snapshot {
            instances: vec![Instance { requested_at: Timestamp(1), ..row }],
            workers: worker
                .into_iter()
                .map(|worker| crate::master::domain::entities::Worker {
                    created_at: rig.now,
                    ..worker
                })
                .collect(),
            ..Snapshot::default()
        };
        let rig = Rig::load(vec![rig::pool("linux")], snapshot);
        let again: Vec<_> =
            rig.launches().into_iter().map(|(id, launch, _)| (id, launch)).collect();
        assert_eq!(again, [(instance, launch)]);
    }

    #[test]
    fn an_accepted_launch_that_nobody_heard_of_is_found_by_its_mark() {
        let (mut rig, _, launch) = launched();
        listed(&mut rig, vec![machine(&launch, true)]);
        assert_eq!(row(&rig).status, InstanceStatus::Pending);
        assert_eq!(row(&rig).cloud_id, Some(CloudId::from("i-1")));
    }

    #[test]
    fn a_copy_of_a_machine_is_ended_and_its_end_is_not_that_of_the_machine() {
        let (mut rig, instance, launch) = launched();
        rig.accept(instance);
        let ours = rig::machine("i-1", &launch);
        let copy = |state| Machine { state, ..rig::machine("i-copy", &launch) };
        listed(&mut rig, vec![copy(MachineState::Running), ours.clone()]);
        let ended = rig.done.iter().find_map(|action| match action {
            Action::Terminate { cloud_id, .. } => cloud_id.clone(),
            _ => None,
        });
        assert_eq!(ended, Some(CloudId::from("i-copy")));
        assert!(!rig.ends(instance));
        let taken_in = rig.rows().pop().expect("it has a row");
        assert_eq!(taken_in.cloud_id, Some(CloudId::from("i-copy")));
        let why = taken_in.why_ended.expect("its row says why");
        assert_eq!(why, "it has the mark of another machine: a copy of it, or one too many");
        rig.wait(5);
        listed(&mut rig, vec![copy(MachineState::Ended), ours.clone()]);
        assert_eq!(row_of(&rig, taken_in.id).status, InstanceStatus::Terminated);
        assert_eq!(row_of(&rig, instance).status, InstanceStatus::Running);
        let n_rows = rig.rows().len();
        listed(
            &mut rig,
            vec![copy(MachineState::Ended), Machine { state: MachineState::Ended, ..ours }],
        );
        assert_eq!(row_of(&rig, instance).status, InstanceStatus::Terminated);
        assert_eq!(rig.rows().len(), n_rows);
    }

    #[test]
    fn a_listing_from_before_the_launch_proves_nothing() {
        let (mut rig, instance, launch) = launched();
        let asked_at = rig.now - Duration::from_secs(5);
        rig.accept(instance);
        for machines in [Vec::new(), vec![machine(&launch, false)]] {
            rig.say(Event::CloudListed { pool: "linux".into(), asked_at, machines });
            assert_eq!(row(&rig).status, InstanceStatus::Pending);
        }
    }

    #[test]
    fn a_listing_that_was_asked_for_before_the_clock_was_set_back_proves_nothing() {
        let (mut rig, instance, _) = launched();
        rig.accept(instance);
        let asked_at = rig.now + Duration::from_secs(3600);
        rig.say(Event::CloudListed { pool: "linux".into(), asked_at, machines: Vec::new() });
        assert_eq!(row(&rig).status, InstanceStatus::Pending);
    }

    #[test]
    fn where_a_listing_is_exact_a_missing_machine_is_gone() {
        let (mut rig, instance, _) = launched();
        rig.accept(instance);
        rig.wait(1);
        listed(&mut rig, Vec::new());
        assert!(row_of(&rig, instance).status.is_final());
    }

    #[test]
    fn a_machine_whose_agent_has_fallen_silent_is_looked_for_soon_and_its_job_is_another_s() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (instance, worker, connection) = rig.arrive();
        let attempt = rig.given();
        rig.start(&worker, attempt);
        let lists =
            |done: &[Action]| done.iter().any(|did| matches!(did, Action::ListInstances(_)));
        rig.wait_beating(70, &[(&worker, connection)]);
        assert!(!lists(&rig.wait_beating(30, &[(&worker, connection)])), "all is well");
        rig.agent(AgentEvent::Disconnected { worker, connection });
        assert!(lists(&rig.wait(5)));
        let gone = Machine {
            state: MachineState::Ended,
            ..rig::machine(&format!("i-{instance}"), &rig.launch_of(instance))
        };
        listed(&mut rig, vec![gone]);
        assert_eq!(rig.launches().len(), 1, "long before its agent would be given up");
    }

    // Found by the simulation: a machine more than the pool may have.
    #[test]
    fn a_listing_from_before_a_launch_was_given_up_says_nothing_of_what_it_came_to() {
        let (mut rig, instance, _) = launched();
        let (request, what) = ("request".to_owned(), "a machine".to_owned());
        rig.say(Event::LaunchPrepared { instance, request, what, price_per_hour: None });
        rig.wait(5);
        let asked_at = rig.now;
        rig.wait(5);
        let worker = row_of(&rig, instance).worker;
        rig.ask(Request::StopWorker(worker));
        rig.say(Event::CloudListed { pool: "linux".into(), asked_at, machines: Vec::new() });
        assert_eq!(row_of(&rig, instance).status, InstanceStatus::Terminating);
        rig.wait(1);
        listed(&mut rig, Vec::new());
        assert!(row_of(&rig, instance).status.is_final());
    }

    #[test]
    fn where_absence_is_no_proof_it_takes_three_misses_long_after_the_launch() {
        let (rig, instance, _) = launched();
        let accepted =
            Instance { status: InstanceStatus::Running, accepted_at: Some(rig.now), ..row(&rig) };
        let snapshot = Snapshot { instances: vec![accepted], ..Snapshot::default() };
        let lagging = PoolSettings { provisioner: ProvisionerKind::None, ..rig::pool("linux") };
        let mut rig = Rig::load(vec![lagging], snapshot);
        rig.wait(60);
        for _ in 0..5 {
            listed(&mut rig, Vec::new());
        }
        assert!(rig.written.is_empty(), "the launch is too fresh");
        rig.wait(15 * 60);
        listed(&mut rig, Vec::new());
        assert!(row_of(&rig, instance).status.is_final());
    }

    #[test]
    fn one_sight_of_a_machine_makes_all_its_misses_void() {
        let (rig, instance, launch) = launched();
        let accepted =
            Instance { status: InstanceStatus::Running, accepted_at: Some(rig.now), ..row(&rig) };
        let snapshot = Snapshot { instances: vec![accepted], ..Snapshot::default() };
        let lagging = PoolSettings { provisioner: ProvisionerKind::None, ..rig::pool("linux") };
        let mut rig = Rig::load(vec![lagging], snapshot);
        rig.wait(16 * 60);
        for machines in [vec![], vec![], vec![machine(&launch, true)], vec![], vec![]] {
            listed(&mut rig, machines);
            assert!(rig.written.is_empty());
        }
        listed(&mut rig, Vec::new());
        assert!(row_of(&rig, instance).status.is_final());
    }

    fn row_of(rig: &Rig, id: InstanceId) -> Instance {
        let row = rig.written.iter().rev().find_map(|record| match record {
            Record::Instance(instance) if instance.id == id => Some(instance.clone()),
            _ => None,
        });
        row.expect("its row was written")
    }
}
