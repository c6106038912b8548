//! Machines that the cloud takes away: what their agents hear of it, and where the job they had runs next.
//!
//! An attempt goes on until a moment before its machine does: a build that needs two minutes more has them.
//! The first loss costs a job none of its tries, as the next one is where that cannot happen again: an
//! on-demand instance, where the pool has one to offer. (Elsewhere the retry was interrupted too: RunsOn 337.)

use std::time::Duration;

use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::ToAgent;
use crate::master::domain::entities::Attempt;
use crate::master::domain::entities::Instance;
use crate::master::domain::entities::Job;
use crate::master::domain::pool::Pool;
use crate::master::domain::timers::Timer;
use crate::model::ids::AttemptId;
use crate::model::ids::PoolName;
use crate::model::ids::WorkerName;
use crate::model::status::WorkerFate;
use crate::model::status::WorkerStatus;
use crate::model::time::Timestamp;

/// An attempt is ended this long before its machine goes: TERM's grace (10 s), and the way of its log.
const FLUSH: Duration = Duration::from_secs(20);

impl Coordinator {
    /// An agent has heard that its machine will be taken: it takes no more work.
    pub(super) fn interrupted(&mut self, name: &WorkerName, ends_in: Duration, sentence: &str) {
        let Some(live) = self.workers.get(name) else { return };
        let has_attempt = live.worker.attempt.is_some();
        if live.worker.fate == WorkerFate::Ends {
            return;
        }
        let at = self.now + ends_in;
        let at = live.worker.taken_at.map_or(at, |known| known.min(at));
        self.change_worker(name, |worker, now| {
            worker.taken_at = Some(at);
            worker.notice = Some((now, sentence.to_owned()));
            worker.reason = Some(sentence.to_owned());
        });
        if !has_attempt {
            return self.end_worker(name, sentence);
        }
        self.change_worker(name, |worker, _| {
            worker.fate = worker.fate.max(WorkerFate::Drains);
            if worker.status != WorkerStatus::Lost {
                worker.status = WorkerStatus::Draining;
            }
        });
        self.tell(name, ToAgent::Drain);
        self.set_taken_timer(name, at);
    }

    pub(super) fn set_taken_timer(&mut self, name: &WorkerName, at: Timestamp) {
        self.timers.set(Timer::Taken(name.clone()), (at - FLUSH).max(self.now));
    }

    /// Its attempt has no more time. The agent ends it, and says so: only then, or when the machine is gone,
    /// it is given to another.
    pub(super) fn taken_soon(&mut self, name: &WorkerName) {
        let attempt = self.workers.get(name).and_then(|live| live.worker.attempt);
        if let Some(attempt) = attempt {
            self.tell(name, ToAgent::Cancel(attempt));
        }
    }

    /// Whether the machine that an attempt was given to was taken by the cloud, or is about to be.
    pub(super) fn is_taken(&self, attempt: &Attempt) -> bool {
        let live = self.workers.get(&attempt.worker);
        live.is_some_and(|live| live.worker.taken_at.is_some())
    }

    /// Whether the cloud takes the machine that an attempt runs on, and nobody else has called it off.
    pub(super) fn was_taken(&self, id: AttemptId) -> bool {
        let attempt = self.attempts.get(&id);
        attempt.is_some_and(|attempt| !attempt.cancelling && self.is_taken(attempt))
    }

    /// An end that nobody has asked for, of a machine that was only lent: no notice came.
    pub(super) fn note_taken(&mut self, row: &Instance) {
        let pool = self.pools.get(&row.pool);
        if pool.is_some_and(|pool| pool.settings.is_spot(row.candidate)) {
            self.change_worker(&row.worker, |worker, now| {
                worker.taken_at = worker.taken_at.or(Some(now));
            });
        }
    }

    // --- The next try

    pub(super) fn is_on_spot(&self, pool: &Pool, name: &WorkerName) -> bool {
        let instance = self.workers.get(name).and_then(|live| live.worker.instance);
        let row = instance.and_then(|id| self.instances.get(&id));
        row.is_some_and(|live| pool.settings.is_spot(live.instance.candidate))
    }

    /// Whether a worker of the pool may have the job.
    pub(super) fn may_have(&self, pool: &Pool, job: &Job, name: &WorkerName) -> bool {
        !self.avoids_spot(pool, job) || !self.is_on_spot(pool, name)
    }

    /// Whether a job is kept from spot instances: it has lost an attempt to one, and others are to be had.
    fn avoids_spot(&self, pool: &Pool, job: &Job) -> bool {
        job.avoids_spot && pool.on_demand_candidate(self.now).is_some()
    }

    fn n_avoiding(&self, pool: &Pool) -> usize {
        if !pool.settings.candidates.iter().any(|candidate| candidate.is_spot) {
            return 0;
        }
        let jobs = pool.homed.iter().filter_map(|job| self.jobs.get(job));
        jobs.filter(|job| self.avoids_spot(pool, job)).count()
    }

    fn n_not_on_spot<'a>(&self, pool: &Pool, names: impl Iterator<Item = &'a WorkerName>) -> usize {
        names.filter(|name| !self.is_on_spot(pool, name)).count()
    }

    /// How many of a pool's workers, idle or on their way, are of no use to the jobs that wait: they are on
    /// spot, and these jobs avoid it.
    pub(super) fn n_useless_on_spot(&self, name: &PoolName, n_workers: usize) -> usize {
        let Some(pool) = self.pools.get(name) else { return 0 };
        let avoiding = self.n_avoiding(pool);
        if avoiding == 0 {
            return 0;
        }
        let fit = self.n_not_on_spot(pool, pool.coming.iter())
            + self.n_not_on_spot(pool, pool.idle.names());
        let served = avoiding.min(fit);
        let others = pool.homed.len() - avoiding;
        let useful = served + others.min(n_workers.saturating_sub(served));
        n_workers.saturating_sub(useful)
    }

    /// The candidate for a pool's next launch: one that is not on spot, as long as more jobs want such a one
    /// than are on their way.
    pub(super) fn next_candidate(&self, name: &PoolName) -> Option<u32> {
        let pool = self.pools.get(name)?;
        let avoiding = self.n_avoiding(pool);
        if avoiding > 0 && avoiding > self.n_not_on_spot(pool, pool.coming.iter()) {
            return pool.on_demand_candidate(self.now);
        }
        pool.candidate(self.now)
    }
}

#[cfg(test)]
mod tests;
