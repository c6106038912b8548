//! A worker's life: starting → bootstrapping → idle ⇄ busy → gone, with draining and lost between.

use std::time::Duration;

use crate::master::domain::absence;
use crate::master::domain::absence::GRACE_AFTER_START;
use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Action;
use crate::master::domain::decision::Record;
use crate::master::domain::decision::ToAgent;
use crate::master::domain::entities::AttemptState;
use crate::master::domain::entities::Worker;
use crate::master::domain::pool::Pool;
use crate::master::domain::timers::Timer;
use crate::model::ids::ConnectionId;
use crate::model::ids::WorkerName;
use crate::model::status::WorkerFate;
use crate::model::status::WorkerStatus;
use crate::model::time::Timestamp;

/// A worker, with what lives only in memory.
#[derive(Debug)]
pub(super) struct LiveWorker {
    pub(super) worker: Worker,
    pub(super) connection: Option<ConnectionId>,
    /// When it was last heard of.
    pub(super) seen_at: Timestamp,
    /// Whether the inventory of this connection has come.
    pub(super) is_known: bool,
}

impl Coordinator {
    pub(super) fn take_up_worker(&mut self, worker: Worker) {
        let name = worker.name.clone();
        let grace = self.pools.get(&worker.pool).map(|pool| pool.settings.reconnect_grace);
        let grace = grace.unwrap_or(GRACE_AFTER_START).max(GRACE_AFTER_START);
        match worker.status {
            WorkerStatus::Starting if worker.instance.is_some() => {}
            _ if worker.fate == WorkerFate::Rests => {}
            WorkerStatus::Lost => {
                if worker.attempt.is_some() {
                    self.set_lease_timer(&name, &worker);
                }
            }
            WorkerStatus::Starting
            | WorkerStatus::Bootstrapping
            | WorkerStatus::Idle
            | WorkerStatus::Busy
            | WorkerStatus::Draining => {
                self.timers.set(Timer::Lost(name.clone()), self.now + grace);
            }
            WorkerStatus::Gone => return,
        }
        let rests = worker.fate == WorkerFate::Rests;
        if worker.instance.is_some() && !rests {
            self.set_life_timers(&worker);
        }
        if let Some(attempt) = worker.attempt {
            self.watch_attempt(attempt.attempt);
            if let Some(at) = worker.taken_at {
                self.set_taken_timer(&name, at);
            }
        }
        let is_coming = is_coming(&worker) && worker.instance.is_some();
        if let Some(pool) = self.pools.get_mut(&worker.pool).filter(|_| is_coming) {
            pool.coming.insert(name.clone());
        }
        let seen_at = self.now;
        let is_awaited =
            !rests && !matches!(worker.status, WorkerStatus::Starting | WorkerStatus::Lost);
        let live = LiveWorker { worker, connection: None, seen_at, is_known: false };
        self.workers.insert(name.clone(), live);
        if is_awaited {
            self.say_away(&name);
        }
    }

    /// Until when it must be ready, and until when it may live: the time in which its machine is stopped
    /// is no part of its life.
    pub(super) fn set_life_timers(&mut self, worker: &Worker) {
        let Some(pool) = self.pools.get(&worker.pool) else { return };
        let (boot, life) = (pool.settings.boot_timeout, pool.settings.max_lifetime);
        let row = worker.instance.and_then(|id| self.instances.get(&id)).map(|live| &live.instance);
        let asked_at = row.map_or(worker.created_at, |row| row.asked_at());
        let ran = row.map_or(Duration::ZERO, |row| row.ran_before());
        if is_coming(worker) {
            self.timers.set(Timer::Boot(worker.name.clone()), asked_at + boot);
        }
        let left = life.saturating_sub(ran);
        self.timers.set(Timer::Lifetime(worker.name.clone()), asked_at + left);
    }

    pub(super) fn pool_of(&self, name: &WorkerName) -> Option<&Pool> {
        self.pools.get(&self.workers.get(name)?.worker.pool)
    }

    /// Changes a worker, remembers it, and keeps the pool's counts right.
    pub(super) fn change_worker(
        &mut self,
        name: &WorkerName,
        change: impl FnOnce(&mut Worker, Timestamp),
    ) {
        let Some(live) = self.workers.get_mut(name) else { return };
        change(&mut live.worker, self.now);
        let is_connected = live.connection.is_some() && live.is_known;
        let worker = live.worker.clone();
        if let Some(pool) = self.pools.get_mut(&worker.pool) {
            pool.idle.unset(name);
            if worker.status == WorkerStatus::Idle
                && is_connected
                && worker.fate == WorkerFate::Serves
            {
                let since = worker.idle_since.unwrap_or(self.now);
                pool.idle.set(name, worker.project.as_ref(), since);
            }
            if is_coming(&worker) && worker.instance.is_some() {
                pool.coming.insert(name.clone());
            } else {
                pool.coming.remove(name);
            }
            self.unsettled.insert(worker.pool.clone());
        }
        self.remember(Record::Worker(worker));
    }

    /// Tells an agent something, where it is connected. What is not told is found at its inventory.
    pub(super) fn tell(&mut self, name: &WorkerName, message: ToAgent) {
        let connection = self.workers.get(name).and_then(|live| live.connection);
        if let Some(connection) = connection {
            self.perform(Action::Tell { worker: name.clone(), connection, message });
        }
    }

    /// A worker has nothing to do (any more): it idles, or ends if it may take no other job.
    pub(super) fn free_worker(&mut self, name: &WorkerName) {
        let Some(live) = self.workers.get(name) else { return };
        let worker = &live.worker;
        let is_ending = match worker.status {
            WorkerStatus::Lost | WorkerStatus::Gone => return,
            WorkerStatus::Draining => true,
            WorkerStatus::Starting
            | WorkerStatus::Bootstrapping
            | WorkerStatus::Idle
            | WorkerStatus::Busy => worker.fate != WorkerFate::Serves,
        };
        let Some(pool) = self.pools.get(&worker.pool) else { return };
        let limit = pool.settings.jobs_per_instance;
        let is_used_up = limit > 0 && worker.jobs_given >= limit && worker.instance.is_some();
        if is_used_up {
            return self.end_worker(name, "has run as many jobs as an instance of its pool may");
        }
        if is_ending {
            let why = absence::known_reason(worker).unwrap_or_else(|| "drained".to_owned());
            return self.end_worker(name, &why);
        }
        // One that only called again has been idle all along (ec2-plugin 2020 counted anew, and
        // nothing ever ended).
        let since = worker.idle_since.unwrap_or(self.now);
        self.change_worker(name, |worker, _| {
            worker.status = WorkerStatus::Idle;
            worker.idle_since = Some(since);
        });
    }

    /// The worker is ready for the first time.
    pub(super) fn worker_ready(&mut self, name: &WorkerName) {
        self.timers.clear(&Timer::Boot(name.clone()));
        self.change_worker(name, |worker, _| {
            worker.bootstrapped = true;
            worker.reason = None;
        });
        let worker = self.workers.get(name).map(|live| &live.worker);
        let Some((instance, pool)) = worker.map(|worker| (worker.instance, worker.pool.clone()))
        else {
            return;
        };
        if let Some(instance) = instance {
            self.learn_boot(instance);
            self.change_instance(instance, |instance, now| {
                instance.ready_at = instance.ready_at.or(Some(now));
                instance.run_is_ready(now);
            });
        }
        self.launch_succeeded(&pool);
        self.free_worker(name);
    }

    /// Ends a worker for good. Its attempt, if it has one, is given to another only when its machine
    /// is known to be gone, or its lease is over.
    pub(super) fn end_worker(&mut self, name: &WorkerName, why: &str) {
        let Some(live) = self.workers.get(name) else { return };
        let (instance, has_attempt) = (live.worker.instance, live.worker.attempt.is_some());
        let worker = live.worker.clone();
        self.tell(name, ToAgent::Shutdown { sentence: why.to_owned() });
        if has_attempt {
            self.change_worker(name, |worker, _| {
                worker.status = WorkerStatus::Lost;
                worker.reason = Some(why.to_owned());
                worker.fate = WorkerFate::Ends;
            });
            self.set_lease_timer(name, &worker);
        } else {
            self.worker_gone(name, why);
        }
        if let Some(instance) = instance {
            self.terminate(instance, why);
        }
    }

    /// Nothing runs on it any more: what it had goes to another.
    pub(super) fn worker_gone(&mut self, name: &WorkerName, why: &str) {
        let Some(live) = self.workers.get(name) else { return };
        let attempt = live.worker.attempt;
        self.ahead_is_gone(name);
        let Some(live) = self.workers.get(name) else { return };
        if let Some(attempt) = attempt {
            let why = absence::known_reason(&live.worker).unwrap_or_else(|| why.to_owned());
            self.attempt_lost(attempt.attempt, &format!("worker {name} was lost: {why}"));
        }
        self.change_worker(name, |worker, now| {
            worker.status = WorkerStatus::Gone;
            worker.reason = absence::known_reason(worker).or_else(|| Some(why.to_owned()));
            worker.attempt = None;
            worker.idle_since = None;
            worker.ended_at = Some(now);
        });
        for timer in [Timer::Boot, Timer::Lifetime, Timer::Silence, Timer::Lost] {
            self.timers.clear(&timer(name.clone()));
        }
        self.timers.clear(&Timer::LeaseOver(name.clone()));
        self.timers.clear(&Timer::Taken(name.clone()));
        self.workers.remove(name);
    }

    /// A machine of one's own has no launch that sets its boot time: it begins with the script.
    pub(super) fn watch_bootstrap(&mut self, name: &WorkerName) {
        let boot = self.pool_of(name).map(|pool| pool.settings.boot_timeout).unwrap_or_default();
        let timer = Timer::Boot(name.clone());
        if !self.timers.is_set(&timer) {
            self.timers.set(timer, self.now + boot);
        }
    }

    pub(super) fn boot_timed_out(&mut self, name: &WorkerName) {
        let Some(live) = self.workers.get(name) else { return };
        if !is_coming(&live.worker) {
            return;
        }
        let pool = live.worker.pool.clone();
        let timeout = self.pools.get(&pool).map(|pool| pool.settings.boot_timeout);
        let why = match live.worker.status {
            WorkerStatus::Bootstrapping => "its bootstrap script did not end",
            _ => "its agent never called",
        };
        let why = format!("{why} within {} s", timeout.unwrap_or_default().as_secs());
        self.end_worker(name, &why);
        self.launch_went_wrong(&pool, &why);
        self.mail_missing(&pool, name, &why);
    }

    pub(super) fn lifetime_over(&mut self, name: &WorkerName) {
        self.end_worker(name, "its lifetime is over");
    }

    pub(super) fn idle_timed_out(&mut self, name: &WorkerName) {
        self.retire(name, "idle");
    }

    /// The machine of an attempt was rebooted. It may have begun, its word of that have been lost, and part
    /// of its log be here: the same attempt is not begun again.
    pub(super) fn attempt_rebooted(&mut self, name: &WorkerName) {
        let attempt = self.workers.get(name).and_then(|live| live.worker.attempt);
        if let Some(attempt) = attempt {
            self.attempt_lost(attempt.attempt, "the machine was rebooted");
            self.free_worker(name);
        }
    }

    /// An attempt that was started is not among what its agent has.
    pub(super) fn attempt_vanished(&mut self, name: &WorkerName, why: &str) {
        let attempt = self.workers.get(name).and_then(|live| live.worker.attempt);
        let Some(attempt) = attempt else { return };
        let Some(known) = self.attempts.get(&attempt.attempt) else { return };
        if known.state == AttemptState::Assigned && !known.cancelling {
            // It is given the whole time to take it again: its word that it has may be under way when
            // that of the first telling is over (found by the simulation).
            self.watch_attempt(attempt.attempt);
            return self.tell_to_run(attempt.attempt);
        }
        self.attempt_broke(attempt.attempt, why);
        self.free_worker(name);
    }
}

/// Whether its machine was asked for and it is not ready yet.
pub(super) fn is_coming(worker: &Worker) -> bool {
    match worker.status {
        WorkerStatus::Starting | WorkerStatus::Bootstrapping => true,
        WorkerStatus::Idle
        | WorkerStatus::Busy
        | WorkerStatus::Draining
        | WorkerStatus::Lost
        | WorkerStatus::Gone => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::master::domain::settings::PoolSettings;
    use crate::model::attempt::AttemptOutcome;
    use crate::model::status::JobStatus;

    #[test]
    fn a_machine_whose_agent_never_calls_is_ended_when_its_boot_time_is_over() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (instance, _, _) = rig.launches()[0].clone();
        rig.accept(instance);
        assert!(!rig::ends(&rig.wait(599), instance));
        assert!(rig::ends(&rig.wait(2), instance));
        assert!(rig.reason("test").contains("its agent never called within 600 s"));
        assert_eq!(rig.status("test"), JobStatus::Queued);
    }

    #[test]
    fn a_worker_ends_after_the_jobs_that_its_pool_allows() {
        let mut rig = Rig::new(vec![PoolSettings { jobs_per_instance: 1, ..rig::pool("linux") }]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (instance, worker, _) = rig.arrive();
        let attempt = rig.given();
        rig.finish(&worker, attempt, AttemptOutcome::Passed);
        assert!(rig.ends(instance));
        assert!(rig.told().iter().any(|told| matches!(told, ToAgent::Shutdown { .. })));
    }
}
