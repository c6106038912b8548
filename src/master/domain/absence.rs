//! A worker's absence: silence, the lost connection, the grace to call again, the end of the lease.

use std::time::Duration;

use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Action;
use crate::master::domain::entities::Worker;
use crate::master::domain::timers::Timer;
use crate::master::domain::wait_reason::LaunchHold;
use crate::master::domain::workers;
use crate::model::ids::PoolName;
use crate::model::ids::WorkerName;
use crate::model::status::WorkerFate;
use crate::model::status::WorkerStatus;

/// Silence after which a connected agent counts as lost: more than three heartbeats of 10 s.
pub(super) const SILENCE_BUSY: Duration = Duration::from_secs(35);

/// The same without a job: more than two heartbeats of 30 s.
pub(super) const SILENCE_IDLE: Duration = Duration::from_secs(75);

/// After the master's own start agents have at least this long to call again.
pub(super) const GRACE_AFTER_START: Duration = Duration::from_secs(3 * 60);

/// What people read on a worker whose connection is gone, while its grace lasts.
const AWAY: &str = "not connected; it is given time to call again";

/// A pool whose worker has just lost its connection, or whose master has just started, waits this long
/// before it starts another machine: an agent calls again within seconds.
const LAUNCH_HOLD: Duration = Duration::from_secs(15);

/// What the lease is trusted beyond its end: the agent's clock and ours need not agree on a second.
pub(super) const LEASE_MARGIN: Duration = Duration::from_secs(30);

impl Coordinator {
    pub(super) fn set_lease_timer(&mut self, name: &WorkerName, worker: &Worker) {
        let lease = self.pools.get(&worker.pool).map(|pool| pool.settings.lease);
        let seen = self.workers.get(name).map_or(self.now, |live| live.seen_at);
        let over = seen + lease.unwrap_or_default() + LEASE_MARGIN;
        self.timers.set(Timer::LeaseOver(name.clone()), over);
    }

    /// Heartbeats only note the time; this looks whether they came.
    pub(super) fn look_for_silence(&mut self, name: &WorkerName) {
        let Some(live) = self.workers.get(name) else { return };
        let Some(connection) = live.connection else { return };
        let due = live.seen_at + silence_of(&live.worker);
        if due > self.now {
            return self.timers.set(Timer::Silence(name.clone()), due);
        }
        self.perform(Action::Disconnect { connection, sentence: "no heartbeat".into() });
        self.connection_lost(name);
    }

    /// The connection is gone: the agent has the grace to call again.
    pub(super) fn connection_lost(&mut self, name: &WorkerName) {
        let Some(live) = self.workers.get_mut(name) else { return };
        live.connection = None;
        live.is_known = false;
        let (status, pool) = (live.worker.status, live.worker.pool.clone());
        let rests = live.worker.fate == WorkerFate::Rests;
        self.timers.clear(&Timer::Silence(name.clone()));
        let grace = self.pools.get(&pool).map(|pool| pool.settings.reconnect_grace);
        let grace = grace.unwrap_or(GRACE_AFTER_START);
        let at = (self.now + grace).max(self.loaded_at + GRACE_AFTER_START);
        if status != WorkerStatus::Lost && !rests {
            self.timers.set(Timer::Lost(name.clone()), at);
            self.say_away(name);
        }
        if let Some(pool) = self.pools.get_mut(&pool) {
            pool.idle.unset(name);
            self.unsettled.insert(pool.settings.name.clone());
        }
    }

    /// A worker has no connection and is not given up.
    pub(super) fn say_away(&mut self, name: &WorkerName) {
        let Some(live) = self.workers.get(name) else { return };
        if live.worker.reason.is_some() {
            return;
        }
        let (status, pool) = (live.worker.status, live.worker.pool.clone());
        self.change_worker(name, |worker, _| worker.reason = Some(AWAY.to_owned()));
        if status == WorkerStatus::Idle {
            self.hold_launches(&pool);
        }
    }

    /// It is here again.
    pub(super) fn say_here(&mut self, name: &WorkerName) {
        if self.workers.get(name).is_some_and(|live| live.worker.reason.as_deref() == Some(AWAY)) {
            self.change_worker(name, |worker, _| worker.reason = None);
        }
    }

    fn hold_launches(&mut self, pool: &PoolName) {
        let timer = Timer::Launch(pool.clone());
        if !self.timers.is_set(&timer) {
            self.timers.set(timer, self.now + LAUNCH_HOLD);
            if let Some(pool) = self.pools.get_mut(pool) {
                pool.hold = Some(LaunchHold::Agents);
            }
        }
    }

    /// The grace is over.
    pub(super) fn worker_lost(&mut self, name: &WorkerName) {
        let Some(live) = self.workers.get(name) else { return };
        if live.connection.is_some() {
            return;
        }
        if live.worker.instance.is_some() {
            let why = "its agent has not been heard of";
            let unready = workers::is_coming(&live.worker).then(|| live.worker.pool.clone());
            self.end_worker(name, why);
            if let Some(pool) = unready {
                self.launch_went_wrong(&pool, why);
                self.mail_missing(&pool, name, why);
            }
            return;
        }
        // A machine of one's own may come back at any time; only its attempt cannot wait for ever.
        let worker = live.worker.clone();
        self.change_worker(name, |worker, _| {
            worker.status = WorkerStatus::Lost;
            worker.reason = Some("its agent has not been heard of".to_owned());
            worker.idle_since = None;
        });
        if worker.attempt.is_some() {
            self.set_lease_timer(name, &worker);
        }
    }

    /// Nothing runs on a lost worker any more: its supervisor has ended the step.
    pub(super) fn lease_over(&mut self, name: &WorkerName) {
        let Some(live) = self.workers.get(name) else { return };
        if live.worker.status != WorkerStatus::Lost {
            return;
        }
        let lease = self.pool_of(name).map(|pool| pool.settings.lease).unwrap_or_default();
        if live.seen_at + lease + LEASE_MARGIN > self.now {
            // It was told to end, and still sends heartbeats, which prolong its lease: no more.
            let (connection, worker) = (live.connection, live.worker.clone());
            if let Some(connection) = connection {
                let sentence = "this worker was given up".to_owned();
                self.perform(Action::Disconnect { connection, sentence });
                self.connection_lost(name);
            }
            return self.set_lease_timer(name, &worker);
        }
        if live.worker.instance.is_some() || live.worker.fate != WorkerFate::Serves {
            return self.worker_gone(name, "its agent has not been heard of");
        }
        if let Some(attempt) = live.worker.attempt {
            self.attempt_lost(attempt.attempt, &format!("worker {name} has not been heard of"));
        }
    }
}

/// Why a worker ends, where that is known; being away is no reason.
pub(super) fn known_reason(worker: &Worker) -> Option<String> {
    worker.reason.clone().filter(|reason| reason != AWAY)
}

/// How long it may be silent.
pub(super) fn silence_of(worker: &Worker) -> Duration {
    if worker.attempt.is_some() { SILENCE_BUSY } else { SILENCE_IDLE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::domain::decision::Answer;
    use crate::master::domain::event::AgentEvent;
    use crate::master::domain::event::Proof;
    use crate::master::domain::event::Request;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::master::domain::settings::PoolSettings;
    use crate::master::domain::settings::ProvisionerKind;
    use crate::model::attempt::AttemptOutcome;
    use crate::model::ids::ConnectionId;
    use crate::model::status::JobStatus;

    /// A rig in which the only job was given to the only worker, and has started.
    fn busy() -> (Rig, crate::model::ids::InstanceId, WorkerName, ConnectionId) {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (instance, worker, connection) = rig.arrive();
        let attempt = rig.given();
        rig.start(&worker, attempt);
        (rig, instance, worker, connection)
    }

    /// The same on a machine of one's own.
    fn busy_mac() -> (Rig, WorkerName, ConnectionId) {
        let own = PoolSettings { provisioner: ProvisionerKind::None, ..rig::pool("linux") };
        let mut rig = Rig::new(vec![own]);
        let mac = WorkerName::from("mac");
        rig.ask(Request::AddWorker(mac.clone(), "linux".into()));
        let connection = rig.connect(&mac, rig::hello(Proof::Password), &[]);
        rig.build("app", vec![rig::job("test", &[])]);
        let attempt = rig.given();
        rig.start(&mac, attempt);
        (rig, mac, connection)
    }

    #[test]
    fn a_lost_workers_job_waits_until_its_machine_is_gone() {
        let (mut rig, instance, worker, connection) = busy();
        rig.agent(AgentEvent::Disconnected { worker, connection });
        assert!(rig::ends(&rig.wait(200), instance), "after the grace its machine is ended");
        assert_eq!(rig.status("test"), JobStatus::Running, "something may still run there");
        rig.say(crate::master::domain::event::Event::InstanceEnded { instance, sentence: None });
        assert_eq!(rig.status("test"), JobStatus::Queued);
        assert_eq!(rig.launches().len(), 1, "another machine is asked for");
    }

    #[test]
    fn a_lost_workers_job_waits_no_longer_than_its_lease() {
        let (mut rig, _, worker, connection) = busy();
        rig.agent(AgentEvent::Disconnected { worker, connection });
        rig.wait(1800 + 29);
        assert_eq!(rig.status("test"), JobStatus::Running);
        rig.wait(2);
        assert_eq!(rig.status("test"), JobStatus::Queued);
    }

    #[test]
    fn a_worker_that_was_told_to_end_cannot_prolong_its_lease() {
        let (mut rig, mac, connection) = busy_mac();
        rig.ask(Request::StopWorker(mac.clone()));
        rig.wait_beating(1840, &[(&mac, connection)]);
        assert_eq!(
            rig.status("test"),
            JobStatus::Running,
            "it may run until its last lease is over"
        );
        rig.wait(1831);
        assert_eq!(rig.status("test"), JobStatus::Queued);
    }

    #[test]
    fn draining_a_lost_machine_of_ones_own_does_not_keep_its_job() {
        let (mut rig, mac, connection) = busy_mac();
        rig.agent(AgentEvent::Disconnected { worker: mac.clone(), connection });
        rig.wait(200);
        rig.ask(Request::DrainWorker(mac));
        rig.wait(1800 + 31);
        assert_eq!(rig.status("test"), JobStatus::Queued);
    }

    #[test]
    fn a_drained_machine_of_ones_own_that_was_away_finishes_its_job_and_ends() {
        let (mut rig, mac, connection) = busy_mac();
        rig.ask(Request::DrainWorker(mac.clone()));
        rig.agent(AgentEvent::Disconnected { worker: mac.clone(), connection });
        rig.wait(300);
        assert_eq!(rig.worker(&mac).status, WorkerStatus::Lost);
        let attempt = rig.worker(&mac).attempt.expect("its lease is not over");
        rig.connect(&mac, rig::hello(Proof::Key), &[(attempt, false)]);
        assert_eq!(rig.worker(&mac).status, WorkerStatus::Draining);
        rig.finish(&mac, attempt, AttemptOutcome::Passed);
        assert_eq!(rig.status("test"), JobStatus::Passed);
        assert_eq!(rig.worker(&mac).status, WorkerStatus::Gone);
    }

    #[test]
    fn a_machine_of_ones_own_that_was_told_to_end_may_not_come_back() {
        let (mut rig, mac, connection) = busy_mac();
        rig.ask(Request::StopWorker(mac.clone()));
        rig.agent(AgentEvent::Disconnected { worker: mac.clone(), connection });
        rig.ask(Request::DrainWorker(mac.clone()));
        let (_, answer) = rig.greet(&mac, rig::hello(Proof::Key));
        assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
    }

    #[test]
    fn silence_counts_as_a_lost_connection() {
        let (mut rig, instance, _, _) = busy();
        let done = rig.wait(35 + 180 + 75);
        assert!(rig::ends(&done, instance));
    }

    #[test]
    fn an_idle_worker_that_only_called_again_has_been_idle_all_along() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (instance, worker, mut connection) = rig.arrive();
        let attempt = rig.given();
        rig.finish(&worker, attempt, AttemptOutcome::Passed);
        let mut done = Vec::new();
        for _ in 0..5 {
            done.extend(rig.wait_beating(50, &[(&worker, connection)]));
            rig.agent(AgentEvent::Disconnected { worker: worker.clone(), connection });
            done.extend(rig.wait(5));
            connection = rig.connect(&worker, rig::hello(Proof::Key), &[]);
        }
        assert!(!rig::ends(&done, instance), "its idle timeout of 300 s is not over");
        done.extend(rig.wait(60));
        assert!(rig::ends(&done, instance));
    }

    #[test]
    fn a_worker_whose_connection_is_gone_says_so_until_it_calls_again() {
        let (mut rig, _, worker, connection) = busy();
        rig.agent(AgentEvent::Disconnected { worker: worker.clone(), connection });
        assert_eq!(rig.worker(&worker).reason.as_deref(), Some(AWAY));
        let attempt = rig.worker(&worker).attempt.expect("it has its attempt still");
        rig.connect(&worker, rig::hello(Proof::Key), &[(attempt, false)]);
        assert_eq!(rig.worker(&worker).reason, None);
    }

    #[test]
    fn no_machine_is_started_in_the_seconds_that_an_idle_worker_needs_to_call_again() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (_, worker, connection) = rig.arrive();
        let attempt = rig.given();
        rig.finish(&worker, attempt, AttemptOutcome::Passed);
        rig.agent(AgentEvent::Disconnected { worker: worker.clone(), connection });
        rig.build("app", vec![rig::job("again", &[])]);
        assert!(rig.launches().is_empty(), "it may call at any moment");
        rig.wait(5);
        rig.connect(&worker, rig::hello(Proof::Key), &[]);
        rig.given();
    }

    #[test]
    fn a_worker_that_stays_away_is_replaced_after_those_seconds() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (_, worker, connection) = rig.arrive();
        let attempt = rig.given();
        rig.finish(&worker, attempt, AttemptOutcome::Passed);
        rig.agent(AgentEvent::Disconnected { worker, connection });
        rig.build("app", vec![rig::job("again", &[])]);
        let done = rig.wait(16);
        assert!(done.iter().any(|action| matches!(action, Action::Prepare { .. })));
    }
}
