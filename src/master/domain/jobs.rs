//! A job's life: waiting → queued → running → passed, failed, cancelled, infra or skipped.

use std::sync::Arc;

use crate::master::domain::concurrency::Turn;
use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Record;
use crate::master::domain::entities::Job;
use crate::master::domain::pipeline::JobSpec;
use crate::master::domain::wait_reason::WaitReason;
use crate::model::ids::BuildId;
use crate::model::ids::Fence;
use crate::model::ids::JobId;
use crate::model::ids::JobName;
use crate::model::ids::PoolName;
use crate::model::status::JobStatus;

/// What a job's needs say about it.
enum Needs {
    Met,
    /// Not yet: these are not over.
    Waiting(Vec<JobName>),
    /// Never: this one did not pass.
    Unmet(JobName, JobStatus),
}

impl Coordinator {
    pub(super) fn make_job(&mut self, build: BuildId, spec: JobSpec) {
        self.last_ids.job += 1;
        let id = JobId(self.last_ids.job);
        let job = Job {
            id,
            build,
            spec: Arc::new(spec),
            status: JobStatus::Waiting,
            reason: None,
            attempts: 0,
            infra_failures: 0,
            unstarted: 0,
            avoids_spot: false,
            fence: Fence(0),
            attempt: None,
            worker: None,
            queued_at: None,
            started_at: None,
            finished_at: None,
        };
        self.remember(Record::Job(job.clone()));
        self.jobs.insert(id, job);
        self.jobs_of.entry(build).or_default().push(id);
        self.keep_job_in_line(id);
    }

    pub(super) fn take_up_job(&mut self, job: Job) {
        let (id, build, status) = (job.id, job.build, job.status);
        let has_attempt = job.attempt.is_some_and(|id| self.attempts.contains_key(&id));
        self.jobs.insert(id, job);
        self.jobs_of.entry(build).or_default().push(id);
        self.keep_job_in_line(id);
        // One that was given out and not accepted yet is queued as well, but it has an attempt.
        if status == JobStatus::Queued && !has_attempt {
            self.enqueue(id);
        }
    }

    /// Queues or skips the jobs of a build whose needs are decided, until nothing more follows.
    pub(super) fn look_at_needs(&mut self, build: BuildId) {
        let jobs = self.jobs_of.get(&build).cloned().unwrap_or_default();
        // A skipped job can decide the next one; each round decides at least one, or is the last.
        for _ in 0..=jobs.len() {
            let mut decided = false;
            for id in &jobs {
                decided |= self.look_at_need(*id, &jobs);
            }
            if !decided {
                return;
            }
        }
    }

    fn look_at_need(&mut self, id: JobId, siblings: &[JobId]) -> bool {
        let Some(job) = self.jobs.get(&id).filter(|job| job.status == JobStatus::Waiting) else {
            return false;
        };
        match self.needs_of(job, siblings) {
            Needs::Met => match self.turn_of_job(id) {
                Turn::Come => {
                    self.change_job(id, |job, now| {
                        job.status = JobStatus::Queued;
                        job.queued_at = Some(now);
                        job.reason = None;
                    });
                    self.enqueue(id);
                    true
                }
                Turn::Behind(why) => {
                    self.explain(id, &why);
                    false
                }
                Turn::LeftOut(why) => {
                    self.skip_job(id, why);
                    true
                }
            },
            Needs::Waiting(names) => {
                self.explain(id, &WaitReason::Needs(names));
                false
            }
            Needs::Unmet(name, status) => {
                let why = match status {
                    JobStatus::Cancelled => format!("needs {name}, which was cancelled"),
                    JobStatus::Skipped => format!("needs {name}, which was skipped"),
                    JobStatus::Infra => format!("needs {name}, which could not be carried out"),
                    _ => format!("needs {name}, which failed"),
                };
                self.skip_job(id, why);
                true
            }
        }
    }

    fn skip_job(&mut self, id: JobId, why: String) {
        self.change_job(id, |job, now| {
            job.status = JobStatus::Skipped;
            job.finished_at = Some(now);
            job.reason = Some(why);
        });
    }

    /// Ends a job, whatever it is at: at once, or as soon as its agent says that it has. The sentence says why.
    pub(super) fn cancel_job(&mut self, id: JobId, why: &str) {
        let Some(job) = self.jobs.get(&id).filter(|job| !job.status.is_final()) else { return };
        let present = job.attempt.and_then(|attempt| self.attempts.get(&attempt));
        match present.map(|attempt| (attempt.id.attempt, attempt.cancelling)) {
            Some((_, true)) => {}
            Some((attempt, false)) => {
                self.change_job(id, |job, _| job.reason = Some(why.to_owned()));
                self.cancel_attempt(attempt);
            }
            None => {
                self.dequeue(id);
                self.change_job(id, |job, now| {
                    job.status = JobStatus::Cancelled;
                    job.reason = Some(why.to_owned());
                    job.finished_at = Some(now);
                });
            }
        }
    }

    fn needs_of(&self, job: &Job, siblings: &[JobId]) -> Needs {
        let mut waiting = Vec::new();
        for name in &job.spec.needs {
            let mut found = siblings.iter().filter_map(|id| self.jobs.get(id));
            let Some(needed) = found.find(|needed| &needed.spec.name == name) else { continue };
            if !needed.status.is_final() {
                waiting.push(name.clone());
            } else if needed.status != JobStatus::Passed {
                return Needs::Unmet(name.clone(), needed.status);
            }
        }
        if waiting.is_empty() { Needs::Met } else { Needs::Waiting(waiting) }
    }

    /// Changes a job and remembers it.
    pub(super) fn change_job(
        &mut self,
        id: JobId,
        change: impl FnOnce(&mut Job, crate::model::time::Timestamp),
    ) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        change(job, self.now);
        let job = job.clone();
        let has_group = job.spec.concurrency.is_some();
        self.remember(Record::Job(job));
        if has_group {
            self.keep_job_in_line(id);
        }
    }

    /// Says why a job waits, if that is news.
    pub(super) fn explain(&mut self, id: JobId, why: &WaitReason) {
        let why = why.sentence();
        if self.jobs.get(&id).is_some_and(|job| job.reason.as_ref() != Some(&why)) {
            self.change_job(id, |job, _| job.reason = Some(why));
        }
    }

    /// The pools that could run a job, in the order of the file.
    pub(super) fn pools_for(&self, job: &Job) -> Vec<PoolName> {
        let pools = self.settings.pools.iter();
        match &job.spec.worker {
            None => pools.take(1).map(|pool| pool.name.clone()).collect(),
            Some(labels) => pools
                .filter(|pool| pool.labels.satisfy(labels))
                .map(|pool| pool.name.clone())
                .collect(),
        }
    }

    /// Puts a queued job where the scheduler looks.
    pub(super) fn enqueue(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let Some(project) = self.builds.get(&job.build).map(|build| &build.project) else { return };
        let (since, avoids_spot) = (job.queued_at.unwrap_or(self.now), job.avoids_spot);
        let names = self.pools_for(job);
        if names.is_empty() {
            let why = match &job.spec.worker {
                Some(labels) => WaitReason::NoPoolOffers(labels.clone()),
                None => WaitReason::NoPool,
            };
            return self.explain(id, &why);
        }
        for (index, name) in names.into_iter().enumerate() {
            if let Some(pool) = self.pools.get_mut(&name) {
                pool.queue.insert((since, id));
                if index == 0 {
                    pool.take_in(id, project, avoids_spot);
                }
                self.unsettled.insert(name);
            }
        }
        self.unexplained.insert(id);
    }

    /// Takes a job from where the scheduler looks.
    pub(super) fn dequeue(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let Some(project) = self.builds.get(&job.build).map(|build| &build.project) else { return };
        let key = (job.queued_at.unwrap_or(self.now), id);
        for name in self.pools_for(job) {
            if let Some(pool) = self.pools.get_mut(&name) {
                pool.queue.remove(&key);
                pool.let_go(id, project);
                self.unsettled.insert(name);
            }
        }
        self.unexplained.remove(&id);
    }
}
