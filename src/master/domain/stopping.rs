//! Machines that are kept without running: an idle one is stopped, and started again for the next job.
//!
//! Its worker rests meanwhile: it keeps its name, its key and the project it serves. What is stopped is no
//! capacity and does not count against `max_instances`; what is being stopped still does. A start is a
//! launch of a row that has a machine already: remembered as `requested`, then asked for until it is known
//! what came of it. `max_lifetime` counts the time in which a machine runs, over all its starts.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Action;
use crate::master::domain::entities::Instance;
use crate::master::domain::entities::InstanceRun;
use crate::master::domain::entities::Worker;
use crate::master::domain::event::EndCause;
use crate::master::domain::event::LaunchFailure;
use crate::master::domain::event::Machine;
use crate::master::domain::event::MachineState;
use crate::master::domain::timers::Timer;
use crate::model::ids::InstanceId;
use crate::model::ids::PoolName;
use crate::model::ids::ProjectName;
use crate::model::ids::WorkerName;
use crate::model::status::InstanceStatus;
use crate::model::status::WorkerFate;
use crate::model::status::WorkerStatus;
use crate::model::time::Timestamp;

/// A machine that was told to stop is told again after this, until it is seen stopped.
const STOP_AGAIN: Duration = Duration::from_secs(30);

/// How often it is told; then it is ended. Ten minutes is as long as an ending is given.
const STOP_TRIES_MAX: u32 = 20;

/// A listing may be behind by this: what it says of the time around a start or a stop proves nothing.
const LISTING_LAG: Duration = Duration::from_secs(2 * 60);

/// A machine with less than this part of its life left is not kept: it would end in the next job.
const LIFE_LEFT_PART: u32 = 4;

/// So long none is stopped, or none started, where that was refused for good. It is seldom mended sooner, and
/// until then jobs have new machines.
const KEEP_AGAIN: Duration = Duration::from_secs(60 * 60);

/// What people read on a worker whose machine is stopped.
const RESTS: &str = "its machine is stopped; it is started again for the next job";

/// Whether a pool's machines may be stopped and started again just now. Forgotten by a start of the master.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Keeping {
    no_stops_until: Option<Timestamp>,
    no_starts_until: Option<Timestamp>,
    /// Whether a person was told, since a start was last accepted.
    is_told: bool,
}

impl Keeping {
    fn may_start(&self, now: Timestamp) -> bool {
        self.no_starts_until.is_none_or(|until| until <= now)
    }

    /// What could not be started again need not be stopped either.
    fn may_stop(&self, now: Timestamp) -> bool {
        self.may_start(now) && self.no_stops_until.is_none_or(|until| until <= now)
    }

    /// Somebody has mended it, or says so.
    pub(super) fn try_again(&mut self) {
        *self = Keeping { is_told: self.is_told, ..Keeping::default() };
    }
}

impl Coordinator {
    /// An idle worker is not needed now: its machine is kept without running where that is allowed and
    /// worth it; else it ends.
    pub(super) fn retire(&mut self, name: &WorkerName, why: &str) {
        match self.worth_keeping(name) {
            Some(instance) if self.is_room_among_stopped(instance) => self.stop(name, instance),
            Some(_) | None => self.end_worker(name, why),
        }
    }

    /// The machine of a worker, if it may be stopped now and is good for more jobs.
    fn worth_keeping(&self, name: &WorkerName) -> Option<InstanceId> {
        let live = self.workers.get(name)?;
        let pool = self.pools.get(&live.worker.pool)?;
        let stopping = pool.settings.stopping?;
        let row = &self.instances.get(&live.worker.instance?)?.instance;
        // One whose agent is away may be sick: a fresh one is better than that one again.
        let is_well = live.connection.is_some() && live.is_known;
        let is_up = row.status == InstanceStatus::Running && row.cloud_id.is_some();
        let is_on_spot = pool.settings.is_spot(row.candidate);
        let life = pool.settings.max_lifetime;
        let is_young = row.requested_at + stopping.max_age > self.now
            && row.ran(self.now) + life / LIFE_LEFT_PART <= life;
        let may_stop = pool.keeping.may_stop(self.now);
        (is_well && is_up && !is_on_spot && is_young && may_stop).then_some(row.id)
    }

    /// Whether one more may be kept; the one that has been stopped for longest makes room.
    fn is_room_among_stopped(&mut self, newest: InstanceId) -> bool {
        let Some(pool) = self.instances.get(&newest).map(|live| live.instance.pool.clone()) else {
            return false;
        };
        let settings = self.pools.get(&pool).and_then(|pool| pool.settings.stopping);
        let most = settings.map_or(0, |stopping| stopping.max_stopped) as usize;
        let of_pool = self.instances.values().map(|live| &live.instance);
        let of_pool = of_pool.filter(|row| row.pool == pool);
        let kept = of_pool
            .filter(|row| matches!(row.status, InstanceStatus::Stopping | InstanceStatus::Stopped));
        let kept: Vec<_> = kept.collect();
        if kept.len() < most {
            return true;
        }
        let stopped = kept.iter().filter(|row| row.status == InstanceStatus::Stopped);
        let longest = stopped.min_by_key(|row| row.runs.last().and_then(|run| run.ended_at));
        let Some(worker) = longest.filter(|_| most > 0).map(|row| row.worker.clone()) else {
            return false;
        };
        let why = format!("no more than {most} are kept stopped, and it was for longest");
        self.end_worker(&worker, &why);
        true
    }

    fn stop(&mut self, name: &WorkerName, id: InstanceId) {
        self.rest(name);
        if let Some(live) = self.instances.get_mut(&id) {
            live.tries = 0;
        }
        self.change_instance(id, |row, _| row.status = InstanceStatus::Stopping);
        self.ask_to_stop(id);
    }

    /// From now on its machine does not run, and nobody waits for its agent.
    fn rest(&mut self, name: &WorkerName) {
        for timer in [Timer::Boot, Timer::Lifetime, Timer::Lost] {
            self.timers.clear(&timer(name.clone()));
        }
        self.ahead_is_gone(name);
        let pool = self.workers.get(name).map(|live| live.worker.pool.clone());
        if let Some(pool) = pool.and_then(|pool| self.pools.get_mut(&pool)) {
            pool.idle.unset(name);
        }
        self.change_worker(name, |worker, _| {
            worker.status = WorkerStatus::Idle;
            worker.fate = WorkerFate::Rests;
            worker.reason = Some(RESTS.to_owned());
            worker.idle_since = None;
        });
    }

    fn ask_to_stop(&mut self, id: InstanceId) {
        let Some(live) = self.instances.get(&id) else { return };
        let row = &live.instance;
        let Some(cloud_id) = row.cloud_id.clone() else { return };
        let (launch, pool) = (row.launch.clone(), row.pool.clone());
        self.list_soon(&pool);
        self.timers.set(Timer::Stop(id), self.now + STOP_AGAIN);
        self.perform(Action::Stop { instance: id, launch, pool, cloud_id });
    }

    /// It should have been seen stopped by now.
    pub(super) fn stop_again(&mut self, id: InstanceId) {
        let Some(live) = self.instances.get_mut(&id) else { return };
        if live.instance.status != InstanceStatus::Stopping {
            return;
        }
        live.tries += 1;
        if live.tries > STOP_TRIES_MAX {
            return self.give_up(id, "it was told to stop, and did not");
        }
        self.ask_to_stop(id);
    }

    /// The provisioner will not stop it, and would hardly stop another.
    pub(super) fn stop_failed(&mut self, id: InstanceId, why: &str) {
        let Some(row) = self.instances.get(&id).map(|live| &live.instance) else { return };
        if row.status != InstanceStatus::Stopping {
            return;
        }
        let (pool, until) = (row.pool.clone(), self.now + KEEP_AGAIN);
        self.cannot_keep(&pool, why, |keeping| keeping.no_stops_until = Some(until));
        self.give_up(id, &format!("it could not be stopped: {why}"));
    }

    /// For a while a pool's machines are ended and launched as if none could be kept. A person is told once.
    fn cannot_keep(&mut self, name: &PoolName, why: &str, note: impl FnOnce(&mut Keeping)) {
        let Some(pool) = self.pools.get_mut(name) else { return };
        note(&mut pool.keeping);
        if !std::mem::replace(&mut pool.keeping.is_told, true) {
            self.perform(Action::Alarm(format!(
                "ALARM: pool \"{name}\" cannot stop idle machines and start them again, so each job may need a \
                 new one: {why}. It is tried again every hour, and at once after: busybee pool resume {name}"
            )));
        }
    }

    /// Ends a machine, and the worker it was kept for.
    fn give_up(&mut self, id: InstanceId, why: &str) {
        let Some(worker) = self.instances.get(&id).map(|live| live.instance.worker.clone()) else {
            return;
        };
        self.end_worker(&worker, why);
        self.terminate(id, why);
    }

    /// A listing shows it stopped, or about to be.
    pub(super) fn seen_stopped(&mut self, id: InstanceId, asked_at: Timestamp, machine: &Machine) {
        let is_stale = self.is_sight_stale(id, asked_at, machine);
        let Some(live) = self.instances.get_mut(&id) else { return };
        live.misses = 0;
        if is_stale {
            return;
        }
        match (live.instance.status, machine.state) {
            (InstanceStatus::Stopping, MachineState::Stopped) => {
                self.has_stopped(id, machine.asked_to_end_at);
            }
            (InstanceStatus::Stopping, _) => {
                let since = machine.asked_to_end_at;
                self.change_instance(id, |row, now| row.run_ended(now, since));
            }
            (InstanceStatus::Pending | InstanceStatus::Running, _) => {
                let why = match (machine.cause, &machine.reason) {
                    (EndCause::Unknown | EndCause::ByHand | EndCause::Itself, _) | (_, None) => {
                        "it was stopped, and not by us".to_owned()
                    }
                    (_, Some(reason)) => format!("it was stopped, and not by us: {reason}"),
                };
                self.give_up(id, &why);
            }
            _ => {}
        }
    }

    fn has_stopped(&mut self, id: InstanceId, since: Option<Timestamp>) {
        self.timers.clear(&Timer::Stop(id));
        self.change_instance(id, |row, now| {
            row.status = InstanceStatus::Stopped;
            row.run_ended(now, since);
        });
        self.set_age_timer(id);
        self.hang_up_on_stopped(id);
    }

    /// A machine whose power was cut hangs up on nobody: its silence must not count against its next start.
    fn hang_up_on_stopped(&mut self, id: InstanceId) {
        let worker = self.instances.get(&id).map(|live| live.instance.worker.clone());
        let Some(worker) = worker else { return };
        let connection = self.workers.get(&worker).and_then(|live| live.connection);
        if let Some(connection) = connection {
            let sentence = "its machine is stopped".to_owned();
            self.perform(Action::Disconnect { connection, sentence });
            self.connection_lost(&worker);
        }
    }

    /// A listing shows a machine up that we have stopped. Whether anything is wrong with that.
    pub(super) fn seen_up_though_stopped(&mut self, id: InstanceId, asked_at: Timestamp) {
        let Some(live) = self.instances.get(&id) else { return };
        let stopped_at = live.instance.runs.last().and_then(|run| run.ended_at);
        if stopped_at.is_none_or(|at| at + LISTING_LAG < asked_at) {
            self.give_up(id, "it was stopped, and started again not by us");
        }
    }

    /// Whether what a listing says of a machine is from before it was started again. It names the start that
    /// it knows of; where that says nothing, it may be behind for a while.
    pub(super) fn is_sight_stale(
        &mut self,
        id: InstanceId,
        asked_at: Timestamp,
        machine: &Machine,
    ) -> bool {
        let Some(row) = self.instances.get(&id).map(|live| &live.instance) else { return false };
        let is_stale = row.is_started_again()
            && match (row.start_before(), &machine.started) {
                (Some(before), Some(seen)) => before == seen,
                _ => asked_at < row.asked_at() + LISTING_LAG,
            };
        let known = row.runs.last().and_then(|run| run.start.as_ref());
        if let Some(seen) = &machine.started
            && !is_stale
            && known != Some(seen)
        {
            self.change_instance(id, |row, _| row.run_is_called(seen));
        }
        is_stale
    }

    /// Goes on with what the last master had stopped, or was about to.
    pub(super) fn take_up_stopped(&mut self, id: InstanceId, status: InstanceStatus) {
        match status {
            InstanceStatus::Stopping => self.timers.set(Timer::Stop(id), self.now),
            InstanceStatus::Stopped => self.set_age_timer(id),
            _ => {}
        }
    }

    fn set_age_timer(&mut self, id: InstanceId) {
        let Some(live) = self.instances.get(&id) else { return };
        let row = &live.instance;
        let stopping = self.pools.get(&row.pool).and_then(|pool| pool.settings.stopping);
        // A pool that stops none any more keeps none either.
        let at = stopping.map_or(self.now, |stopping| row.requested_at + stopping.max_age);
        self.timers.set(Timer::StoppedTooLong(id), at);
    }

    /// Nobody has needed it until it was too old.
    pub(super) fn stopped_too_long(&mut self, id: InstanceId) {
        let status = self.instances.get(&id).map(|live| live.instance.status);
        if status == Some(InstanceStatus::Stopped) {
            self.give_up(id, "it was stopped, and is too old to be kept");
        }
    }

    // --- The next job

    /// Starts a stopped machine instead of launching one, if there is one that can serve: for a job that
    /// waits, or to be kept ready.
    pub(super) fn start_a_stopped(&mut self, pool: &PoolName, for_job: bool) -> bool {
        let chosen = self.choose_stopped(pool, for_job);
        if let Some((worker, id)) = &chosen {
            self.start(worker, *id);
        }
        chosen.is_some()
    }

    /// The same for a job of this project that does not wait yet: whose worker it is.
    pub(super) fn start_a_stopped_for(
        &mut self,
        pool: &PoolName,
        project: &ProjectName,
    ) -> Option<WorkerName> {
        let is_shared = self.pools.get(pool)?.settings.shared;
        let can_serve =
            |worker: &Worker| is_shared || worker.project.as_ref().is_none_or(|its| its == project);
        let (worker, id) = self.last_stopped(pool, can_serve)?;
        self.start(&worker, id);
        Some(worker)
    }

    /// The one that was stopped last of those that can serve.
    fn choose_stopped(&self, pool: &PoolName, for_job: bool) -> Option<(WorkerName, InstanceId)> {
        let known = self.pools.get(pool)?;
        let is_any_good = known.settings.shared || !for_job;
        let wanted = if is_any_good { BTreeMap::new() } else { self.wanted_projects(pool) };
        self.last_stopped(pool, |worker| match &worker.project {
            None => true,
            Some(project) => is_any_good || wanted.get(project).is_some_and(|n| *n > 0),
        })
    }

    fn last_stopped(
        &self,
        pool: &PoolName,
        can_serve: impl Fn(&Worker) -> bool,
    ) -> Option<(WorkerName, InstanceId)> {
        let serving = self.startable(pool).filter(|(_, worker)| can_serve(worker));
        let last = serving.max_by_key(|(row, _)| row.runs.last().and_then(|run| run.ended_at));
        last.map(|(row, _)| (row.worker.clone(), row.id))
    }

    /// The stopped machines of a pool that may be started now, with their workers.
    pub(super) fn startable<'a>(
        &'a self,
        pool: &'a PoolName,
    ) -> impl Iterator<Item = (&'a Instance, &'a Worker)> {
        let known = self.pools.get(pool).filter(|pool| pool.keeping.may_start(self.now));
        let rows = known.into_iter().flat_map(|_| self.instances.values());
        let stopped = rows
            .map(|live| &live.instance)
            .filter(move |row| &row.pool == pool && row.status == InstanceStatus::Stopped);
        let kept = stopped.filter_map(|row| Some((row, &self.workers.get(&row.worker)?.worker)));
        kept.filter(|(_, worker)| worker.fate == WorkerFate::Rests)
    }

    /// How many jobs of each project wait for a worker that is not on its way.
    fn wanted_projects(&self, pool: &PoolName) -> BTreeMap<&ProjectName, usize> {
        let mut wanted = BTreeMap::new();
        let Some(known) = self.pools.get(pool) else { return wanted };
        for job in &known.homed {
            let build = self.jobs.get(job).and_then(|job| self.builds.get(&job.build));
            if let Some(build) = build {
                *wanted.entry(&build.project).or_insert(0) += 1;
            }
        }
        for project in self.bound_on_their_way(pool) {
            if let Some(count) = wanted.get_mut(project) {
                *count = count.saturating_sub(1);
            }
        }
        wanted
    }

    /// The projects of those workers on their way that can serve only one.
    fn bound_on_their_way<'a>(
        &'a self,
        pool: &'a PoolName,
    ) -> impl Iterator<Item = &'a ProjectName> {
        let known = self.pools.get(pool).filter(|pool| !pool.settings.shared);
        let coming = known.into_iter().flat_map(|pool| &pool.coming);
        coming.filter_map(|name| self.workers.get(name)?.worker.project.as_ref())
    }

    /// How many workers are on their way for whom no job waits: each serves one project, and its jobs have
    /// gone or will have a worker already.
    pub(super) fn n_coming_in_vain(&self, pool: &PoolName) -> usize {
        let mut coming = BTreeMap::new();
        for project in self.bound_on_their_way(pool) {
            *coming.entry(project).or_insert(0_usize) += 1;
        }
        if coming.is_empty() {
            return 0;
        }
        let jobs = self.pools.get(pool).into_iter().flat_map(|pool| &pool.homed);
        for job in jobs {
            let build = self.jobs.get(job).and_then(|job| self.builds.get(&job.build));
            if let Some(count) = build.and_then(|build| coming.get_mut(&build.project)) {
                *count = count.saturating_sub(1);
            }
        }
        coming.values().sum()
    }

    fn start(&mut self, name: &WorkerName, id: InstanceId) {
        self.timers.clear(&Timer::StoppedTooLong(id));
        if let Some(live) = self.instances.get_mut(&id) {
            (live.tries, live.misses) = (0, 0);
        }
        self.change_instance(id, |row, now| {
            row.status = InstanceStatus::Requested;
            row.runs.push(InstanceRun::asked(now));
        });
        self.change_worker(name, |worker, _| {
            worker.status = WorkerStatus::Starting;
            worker.fate = WorkerFate::Serves;
            worker.reason = None;
        });
        if let Some(worker) = self.workers.get(name).map(|live| live.worker.clone()) {
            self.set_life_timers(&worker);
        }
        self.launch_again(id);
    }

    /// A stopped machine could not be started. Without quota it is kept for later. Without permission as well,
    /// but a new one takes its place: whoever may not start may still launch, and a launch that is refused too
    /// pauses the pool. Else it is ended, and a new one takes its place.
    pub(super) fn start_failed(&mut self, id: InstanceId, why: &str, failure: LaunchFailure) {
        let Some(live) = self.instances.get(&id) else { return };
        let (pool, worker) = (live.instance.pool.clone(), live.instance.worker.clone());
        match failure {
            LaunchFailure::Quota | LaunchFailure::Limit => {
                self.rest(&worker);
                self.has_stopped(id, None);
                self.limit_met(&pool, why);
            }
            LaunchFailure::Denied => {
                self.rest(&worker);
                self.has_stopped(id, None);
                let until = self.now + KEEP_AGAIN;
                self.cannot_keep(&pool, why, |keeping| keeping.no_starts_until = Some(until));
                self.note_failure(&pool, why);
            }
            _ => {
                self.give_up(id, &format!("it could not be started again: {why}"));
                self.note_failure(&pool, why);
            }
        }
    }
}

#[cfg(test)]
mod tests;
