//! Compares what a provisioner lists with what we remember. Nothing else does.
//!
//! What is listed exists. What is missing may only be late: where a listing proves nothing, it must be
//! missed several times, long after it was accepted (EC2's lists are eventually consistent).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Action;
use crate::master::domain::event::Machine;
use crate::master::domain::timers::Timer;
use crate::model::ids::InstanceId;
use crate::model::ids::LaunchId;
use crate::model::ids::PoolName;
use crate::model::status::InstanceStatus;
use crate::model::time::Timestamp;

/// How often a pool's machines are listed.
const LIST_EVERY: Duration = Duration::from_secs(60);

/// The same while one of them is being ended.
const LIST_EVERY_WHILE_ENDING: Duration = Duration::from_secs(15);

/// Complete listings in a row that must miss an instance, where one alone proves nothing.
const MISSES_MIN: u32 = 3;

/// And this long after it was accepted (EC2 developer guide, eventual consistency).
const ABSENCE_AFTER: Duration = Duration::from_secs(15 * 60);

impl Coordinator {
    /// After a start: find out what is there.
    pub(super) fn take_up_pools(&mut self) {
        let names: Vec<PoolName> = self.pools.keys().cloned().collect();
        for name in names {
            if self.pools.get(&name).is_some_and(|pool| pool.launches()) {
                self.timers.set(Timer::Listing(name.clone()), self.now);
            }
            self.unsettled.insert(name);
        }
    }

    pub(super) fn list_instances(&mut self, pool: &PoolName) {
        self.plan_listing(pool);
        self.perform(Action::ListInstances(pool.clone()));
    }

    pub(super) fn plan_listing(&mut self, pool: &PoolName) {
        let is_ending = self.instances.values().any(|live| {
            &live.instance.pool == pool && live.instance.status == InstanceStatus::Terminating
        });
        let every = if is_ending { LIST_EVERY_WHILE_ENDING } else { LIST_EVERY };
        self.timers.set(Timer::Listing(pool.clone()), self.now + every);
    }

    pub(super) fn cloud_listed(
        &mut self,
        pool: &PoolName,
        asked_at: Timestamp,
        machines: &[Machine],
    ) {
        let ours = self.instances.values().filter(|live| &live.instance.pool == pool);
        let ours: BTreeMap<LaunchId, InstanceId> =
            ours.map(|live| (live.instance.launch.clone(), live.instance.id)).collect();
        for machine in machines {
            match ours.get(&machine.launch) {
                Some(id) if machine.alive => self.seen_alive(*id, machine),
                Some(id) => self.seen_ended(*id, asked_at),
                None if machine.alive => self.orphan(pool, machine),
                None => {}
            }
        }
        for (launch, id) in &ours {
            if !machines.iter().any(|machine| &machine.launch == launch) {
                self.missing(*id, asked_at);
            }
        }
    }

    fn seen_alive(&mut self, id: InstanceId, machine: &Machine) {
        let Some(live) = self.instances.get_mut(&id) else { return };
        live.misses = 0;
        let status = live.instance.status;
        match status {
            InstanceStatus::Requested => self.instance_accepted(id, machine.cloud_id.clone()),
            InstanceStatus::Pending => self.change_instance(id, |instance, now| {
                instance.status = InstanceStatus::Running;
                instance.running_at = instance.running_at.or(Some(now));
            }),
            InstanceStatus::Running
            | InstanceStatus::Stopping
            | InstanceStatus::Stopped
            | InstanceStatus::Terminating
            | InstanceStatus::Terminated
            | InstanceStatus::Failed => {}
        }
    }

    /// A listing from before the launch may show an earlier end under the same mark.
    fn seen_ended(&mut self, id: InstanceId, asked_at: Timestamp) {
        let live = self.instances.get(&id);
        let accepted = live.and_then(|live| live.instance.accepted_at);
        if accepted.is_some_and(|at| at < asked_at) {
            self.instance_ended(id, None);
        } else {
            self.missing(id, asked_at);
        }
    }

    /// It carries our mark, and no row of ours is open for it: an earlier life of ours left it.
    fn orphan(&mut self, pool: &PoolName, machine: &Machine) {
        self.perform(Action::Terminate {
            instance: None,
            launch: machine.launch.clone(),
            pool: pool.clone(),
            cloud_id: Some(machine.cloud_id.clone()),
        });
    }

    fn missing(&mut self, id: InstanceId, asked_at: Timestamp) {
        let Some(live) = self.instances.get_mut(&id) else { return };
        let instance = &live.instance;
        let is_exact = self.pools.get(&instance.pool);
        let is_exact = is_exact.is_some_and(|pool| pool.settings.provisioner.absence_is_proof());
        let known_since = instance.accepted_at.unwrap_or(instance.requested_at);
        if known_since >= asked_at {
            return; // Asked before it could be there.
        }
        if instance.status == InstanceStatus::Requested {
            return self.launch_again(id, asked_at);
        }
        live.misses += 1;
        let is_proven =
            is_exact || (live.misses >= MISSES_MIN && known_since + ABSENCE_AFTER <= self.now);
        if is_proven {
            self.instance_ended(id, Some("the machine is no longer there"));
        }
    }

    /// The master may have ended between the row and the call: the same launch again starts no second
    /// machine. Only where the row is older than this process is the call certainly not under way.
    fn launch_again(&mut self, id: InstanceId, asked_at: Timestamp) {
        let Some(live) = self.instances.get(&id) else { return };
        let instance = &live.instance;
        if instance.requested_at < self.loaded_at && asked_at >= self.loaded_at {
            let action = Action::Launch {
                instance: id,
                launch: instance.launch.clone(),
                pool: instance.pool.clone(),
                worker: instance.worker.clone(),
            };
            self.perform(action);
        }
    }
}
