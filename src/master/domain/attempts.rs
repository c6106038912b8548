//! An attempt's life: given out, started, over. Only its present owner can change it.

use std::time::Duration;

use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Record;
use crate::master::domain::decision::ToAgent;
use crate::master::domain::entities::Attempt;
use crate::master::domain::entities::AttemptState;
use crate::master::domain::timers::Timer;
use crate::master::domain::wait_reason::WaitReason;
use crate::model::attempt::AttemptOutcome;
use crate::model::attempt::AttemptRef;
use crate::model::ids::AttemptId;
use crate::model::ids::Fence;
use crate::model::ids::JobId;
use crate::model::ids::WorkerName;
use crate::model::status::JobStatus;
use crate::model::status::WorkerStatus;

/// The agent ends cancelled and overdue attempts by itself; when it has not said so by then, its
/// worker is ended.
const END_GRACE: Duration = Duration::from_secs(60);

/// An agent that is connected takes a job within this, or is not what it says it is.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(60);

/// Attempts that were given out and never started, until the job is called off: they cost the user
/// nothing, and yet must not go on for ever.
const UNSTARTED_MAX: u32 = 5;

impl Coordinator {
    /// Gives a queued job to an idle worker.
    pub(super) fn assign(&mut self, job: JobId, name: &WorkerName) {
        self.dequeue(job);
        self.ahead_serves(name);
        self.last_ids.attempt += 1;
        let attempt = AttemptId(self.last_ids.attempt);
        let project = self.jobs.get(&job).and_then(|job| self.builds.get(&job.build));
        let project = project.map(|build| build.project.clone());
        let mut number = 0;
        let mut fence = Fence(0);
        let given = WaitReason::Given { worker: name.clone(), at: self.now };
        self.change_job(job, |job, _| {
            job.fence = Fence(job.fence.0 + 1);
            job.attempt = Some(attempt);
            job.worker = Some(name.clone());
            job.reason = Some(given.sentence());
            (number, fence) = (job.attempts + 1, job.fence);
        });
        let id = AttemptRef { attempt, fence };
        let given = Attempt {
            id,
            job,
            number,
            worker: name.clone(),
            state: AttemptState::Assigned,
            assigned_at: self.now,
            started_at: None,
            finished_at: None,
            cancelling: false,
        };
        self.remember(Record::Attempt(given.clone()));
        self.attempts.insert(attempt, given);
        let is_shared = self.pool_of(name).is_some_and(|pool| pool.settings.shared);
        self.change_worker(name, |worker, _| {
            worker.status = WorkerStatus::Busy;
            worker.attempt = Some(id);
            worker.jobs_given += 1;
            worker.idle_since = None;
            if !is_shared {
                worker.project = project;
            }
        });
        self.watch_attempt(attempt);
        self.tell_to_run(attempt);
    }

    /// Sets the time by which an attempt must be over, whoever enforces it.
    pub(super) fn watch_attempt(&mut self, id: AttemptId) {
        let Some(attempt) = self.attempts.get(&id) else { return };
        let Some(job) = self.jobs.get(&attempt.job) else { return };
        let at = match (attempt.cancelling, attempt.started_at) {
            (true, _) => self.now + END_GRACE,
            // Counted from our own start at the earliest: the clock may have been set since.
            (false, Some(started)) => started.max(self.loaded_at) + job.spec.timeout + END_GRACE,
            (false, None) => attempt.assigned_at + ACCEPT_TIMEOUT,
        };
        // After a start, and after a reconnect, its agent is first let say how it ended.
        self.timers.set(Timer::Overdue(id), at.max(self.now + END_GRACE));
    }

    /// The attempt, if this worker is its present owner.
    pub(super) fn owned(&self, worker: &WorkerName, id: AttemptRef) -> bool {
        let attempt = self.attempts.get(&id.attempt);
        attempt.is_some_and(|attempt| &attempt.worker == worker && attempt.id == id)
    }

    pub(super) fn attempt_started(&mut self, worker: &WorkerName, id: AttemptRef) {
        if !self.owned(worker, id) {
            return;
        }
        let Some(attempt) = self.attempts.get_mut(&id.attempt) else { return };
        if attempt.state != AttemptState::Assigned {
            return;
        }
        attempt.state = AttemptState::Started;
        attempt.started_at = Some(self.now);
        let started = attempt.clone();
        let job = started.job;
        let is_cancelled = started.cancelling;
        self.remember(Record::Attempt(started));
        self.watch_attempt(id.attempt);
        self.change_job(job, |job, now| {
            job.status = JobStatus::Running;
            job.reason = job.reason.take().filter(|_| is_cancelled);
            job.attempts += 1;
            job.started_at = Some(now);
        });
        if let Some(build) = self.jobs.get(&job).map(|job| job.build) {
            self.look_at_build(build);
        }
    }

    pub(super) fn attempt_finished(
        &mut self,
        worker: &WorkerName,
        id: AttemptRef,
        outcome: AttemptOutcome,
    ) {
        // Whatever it is about, the agent may drop it: a stale result changes nothing.
        if self.owned(worker, id) {
            self.attempt_started(worker, id);
            match outcome {
                AttemptOutcome::Passed => {
                    self.end_attempt(id.attempt, AttemptState::Passed, JobStatus::Passed, None);
                }
                AttemptOutcome::Failed => {
                    let why = self.explained_by_notice(id.attempt);
                    self.end_attempt(id.attempt, AttemptState::Failed, JobStatus::Failed, why);
                }
                AttemptOutcome::Cancelled if self.was_taken(id.attempt) => {
                    let why = format!("the cloud took the machine of worker {worker}");
                    self.attempt_broke(id.attempt, &why);
                }
                AttemptOutcome::Cancelled => {
                    let state = AttemptState::Cancelled;
                    self.end_attempt(id.attempt, state, JobStatus::Cancelled, None);
                }
                AttemptOutcome::Infra(why) => {
                    let said = self.explained_by_notice(id.attempt);
                    let why = said.map_or(why.clone(), |said| format!("{why}; {said}"));
                    self.attempt_broke(id.attempt, &why);
                }
            }
            self.free_worker(worker);
        }
        self.tell(worker, ToAgent::Forget(id));
    }

    /// Nobody is left to say whether an attempt had begun. A job that may not be run twice is called off
    /// even where nothing says so: the word of it may have been lost with its worker.
    pub(super) fn attempt_lost(&mut self, id: AttemptId, why: &str) {
        let Some(attempt) = self.attempts.get(&id) else { return };
        let is_for_once =
            self.jobs.get(&attempt.job).is_some_and(|job| job.spec.infra_retries == 0);
        if !is_for_once || attempt.state != AttemptState::Assigned || attempt.cancelling {
            return self.attempt_broke(id, why);
        }
        let reason = format!("{why}; it may have begun, and is not to be run again");
        self.end_attempt(id, AttemptState::Infra(why.to_owned()), JobStatus::Infra, Some(reason));
    }

    /// An attempt could not be carried out: the job is queued again, or called off.
    pub(super) fn attempt_broke(&mut self, id: AttemptId, why: &str) {
        let Some(attempt) = self.attempts.get(&id) else { return };
        let has_started = attempt.state == AttemptState::Started;
        let is_cancelled = attempt.cancelling;
        let job = attempt.job;
        let state = AttemptState::Infra(why.to_owned());
        if is_cancelled {
            let said = self.jobs.get(&job).and_then(|job| job.reason.as_deref());
            let reason = Some(format!("{}; {why}", said.unwrap_or("cancelled")));
            return self.end_attempt(id, state, JobStatus::Cancelled, reason);
        }
        let is_taken = self.is_taken(attempt);
        let Some(known) = self.jobs.get(&job) else { return };
        // The first loss to the cloud costs no try, unless the job may not be run twice.
        let is_free = is_taken && !known.avoids_spot && known.spec.infra_retries > 0;
        let failures = known.infra_failures + u32::from(has_started && !is_free);
        let unstarted = known.unstarted + u32::from(!has_started);
        let retries = known.spec.infra_retries;
        if failures > retries || unstarted > UNSTARTED_MAX {
            let reason = match failures {
                0 => format!("{why} (given out {unstarted} times, and never begun)"),
                1 => why.to_owned(),
                _ => format!("{why} (tried {failures} times)"),
            };
            self.change_job(job, |job, _| {
                (job.infra_failures, job.unstarted) = (failures, unstarted);
            });
            return self.end_attempt(id, state, JobStatus::Infra, Some(reason));
        }
        self.close_attempt(id, state);
        self.change_job(job, |job, now| {
            job.avoids_spot |= is_taken;
            (job.infra_failures, job.unstarted) = (failures, unstarted);
            job.status = JobStatus::Queued;
            job.reason = Some(format!("queued again: {why}"));
            job.queued_at = job.queued_at.or(Some(now));
            job.started_at = None;
        });
        self.enqueue(job);
        if let Some(build) = self.jobs.get(&job).map(|job| job.build) {
            self.foresee(build);
        }
    }

    fn end_attempt(
        &mut self,
        id: AttemptId,
        state: AttemptState,
        status: JobStatus,
        reason: Option<String>,
    ) {
        let Some(job) = self.attempts.get(&id).map(|attempt| attempt.job) else { return };
        self.close_attempt(id, state);
        self.change_job(job, |job, now| {
            job.status = status;
            // Why it was cancelled has been said already.
            let said = job.reason.take().filter(|_| status == JobStatus::Cancelled);
            job.reason = reason.or(said);
            job.finished_at = Some(now);
        });
        self.learn_duration(job, status);
        if let Some(build) = self.jobs.get(&job).map(|job| job.build) {
            self.look_at_build(build);
        }
    }

    /// Writes an attempt's end, and takes it from its worker.
    fn close_attempt(&mut self, id: AttemptId, state: AttemptState) {
        let Some(mut attempt) = self.attempts.remove(&id) else { return };
        self.timers.clear(&Timer::Overdue(id));
        attempt.state = state;
        attempt.finished_at = Some(self.now);
        let worker = attempt.worker.clone();
        self.account_for(&attempt);
        self.remember(Record::Attempt(attempt));
        self.change_worker(&worker, |worker, _| {
            if worker.attempt.is_some_and(|given| given.attempt == id) {
                worker.attempt = None;
            }
        });
    }

    /// Asks the agent to end an attempt.
    pub(super) fn cancel_attempt(&mut self, id: AttemptId) {
        let Some(attempt) = self.attempts.get_mut(&id) else { return };
        if attempt.cancelling {
            return;
        }
        attempt.cancelling = true;
        let attempt = attempt.clone();
        self.remember(Record::Attempt(attempt.clone()));
        self.watch_attempt(id);
        self.tell(&attempt.worker, ToAgent::Cancel(attempt.id));
    }

    /// The agent should have ended it: its worker cannot be trusted with anything more.
    pub(super) fn attempt_overdue(&mut self, id: AttemptId) {
        let Some(attempt) = self.attempts.get(&id) else { return };
        let (worker, cancelling) = (attempt.worker.clone(), attempt.cancelling);
        let was_taken = attempt.state == AttemptState::Started;
        let live = self.workers.get(&worker);
        let is_heard = live.is_some_and(|live| live.connection.is_some() && live.is_known);
        let may_have_ended = !is_heard || self.disk_full.is_some();
        if may_have_ended && !cancelling {
            // It may have ended long ago and cannot say so, or not be written down. The grace and
            // the lease have an end, so this has one too.
            return self.timers.set(Timer::Overdue(id), self.now + END_GRACE);
        }
        if cancelling {
            let state = AttemptState::Cancelled;
            self.end_attempt(id, state, JobStatus::Cancelled, None);
        } else if !was_taken {
            let why = format!("worker {worker} did not take it");
            self.attempt_lost(id, &why);
            return self.end_worker(&worker, "did not take a job");
        } else {
            let reason = Some("ran out of time, and its worker did not end it".to_owned());
            self.end_attempt(id, AttemptState::Failed, JobStatus::Failed, reason);
        }
        self.end_worker(&worker, "did not end an attempt that was over");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::domain::decision::Action;
    use crate::master::domain::event::AgentEvent;
    use crate::master::domain::event::Proof;
    use crate::master::domain::event::Request;
    use crate::master::domain::pipeline::JobSpec;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::model::ids::ConnectionId;
    use crate::model::ids::InstanceId;

    fn given(spec: JobSpec) -> (Rig, InstanceId, WorkerName, ConnectionId, AttemptRef) {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![spec]);
        let (instance, worker, connection) = rig.arrive();
        let attempt = rig.given();
        (rig, instance, worker, connection, attempt)
    }

    fn infra() -> AttemptOutcome {
        AttemptOutcome::Infra("the disk is full".to_owned())
    }

    #[test]
    fn only_started_attempts_count_and_no_more_are_made_than_allowed() {
        let none = JobSpec { infra_retries: 0, ..rig::job("test", &[]) };
        let (mut rig, _, worker, _, attempt) = given(none);
        rig.finish(&worker, attempt, infra());
        assert_eq!(
            (rig.status("test"), rig.reason("test").as_str()),
            (JobStatus::Infra, "the disk is full")
        );
        let (mut rig, _, worker, _, first) = given(rig::job("test", &[]));
        rig.finish(&worker, first, infra());
        let second = rig.given();
        assert!(second.fence > first.fence && second.attempt > first.attempt);
        rig.finish(&worker, second, infra());
        assert_eq!(rig.status("test"), JobStatus::Infra);
        assert!(rig.reason("test").contains("tried 2 times"));
    }

    #[test]
    fn a_job_for_once_that_was_lost_before_it_said_it_had_begun_is_not_run_again() {
        for (infra_retries, status) in [(0, JobStatus::Infra), (1, JobStatus::Queued)] {
            let spec = JobSpec { infra_retries, ..rig::job("test", &[]) };
            let (mut rig, instance, _, _, _) = given(spec);
            rig.say(crate::master::domain::event::Event::InstanceEnded {
                instance,
                sentence: None,
            });
            assert_eq!(rig.status("test"), status);
            assert_eq!(rig.reason("test").contains("it may have begun"), infra_retries == 0);
        }
    }

    #[test]
    fn a_stale_result_is_forgotten_and_changes_nothing() {
        let (mut rig, _, worker, _, first) = given(rig::job("test", &[]));
        rig.finish(&worker, first, infra());
        let second = rig.given();
        let rows = rig.written.len();
        let forged = AttemptRef { fence: first.fence, ..second };
        for stale in [first, forged] {
            rig.finish(&worker, stale, AttemptOutcome::Passed);
            assert_eq!(rig.told(), [&ToAgent::Forget(stale)]);
        }
        rig.finish(&"another".into(), second, AttemptOutcome::Passed);
        assert_eq!(rig.written.len(), rows);
        rig.finish(&worker, second, AttemptOutcome::Passed);
        assert_eq!(rig.status("test"), JobStatus::Passed);
    }

    #[test]
    fn a_running_job_that_is_cancelled_ends_when_its_agent_says_so() {
        let (mut rig, instance, worker, _, attempt) = given(rig::job("test", &[]));
        rig.start(&worker, attempt);
        rig.ask(Request::CancelBuild("app".into(), crate::model::ids::BuildNumber(1)));
        assert_eq!(rig.told(), [&ToAgent::Cancel(attempt)]);
        assert_eq!(rig.status("test"), JobStatus::Running);
        rig.finish(&worker, attempt, AttemptOutcome::Cancelled);
        assert_eq!(rig.status("test"), JobStatus::Cancelled);
        assert!(!rig.ends(instance), "its worker is free again");
    }

    #[test]
    fn a_cancel_that_is_not_obeyed_ends_the_worker_after_the_grace() {
        let (mut rig, instance, worker, connection, attempt) = given(rig::job("test", &[]));
        rig.start(&worker, attempt);
        rig.ask(Request::CancelBuild("app".into(), crate::model::ids::BuildNumber(1)));
        rig.wait_beating(50, &[(&worker, connection)]);
        assert_eq!(rig.status("test"), JobStatus::Running);
        let done = rig.wait(11);
        assert_eq!(rig.status("test"), JobStatus::Cancelled);
        assert!(rig::ends(&done, instance));
    }

    #[test]
    fn a_cancelled_attempt_that_never_arrived_is_not_run_after_a_reconnect() {
        let (mut rig, _, worker, connection, _) = given(rig::job("test", &[]));
        rig.agent(AgentEvent::Disconnected { worker: worker.clone(), connection });
        rig.ask(Request::CancelBuild("app".into(), crate::model::ids::BuildNumber(1)));
        rig.connect(&worker, rig::hello(Proof::Key), &[]);
        assert!(!rig.told().iter().any(|told| matches!(told, ToAgent::Run(_))));
        assert_eq!(rig.status("test"), JobStatus::Cancelled);
    }

    #[test]
    fn an_overdue_attempt_fails_only_if_its_agent_can_speak_and_does_not() {
        let (mut rig, _, worker, connection, attempt) = given(rig::job("test", &[]));
        rig.start(&worker, attempt);
        rig.wait_beating(3550, &[(&worker, connection)]);
        rig.agent(AgentEvent::Disconnected { worker: worker.clone(), connection });
        rig.wait(119);
        assert_eq!(rig.status("test"), JobStatus::Running, "it may have passed long ago");
        let connection = rig.connect(&worker, rig::hello(Proof::Key), &[(attempt, false)]);
        rig.wait_beating(70, &[(&worker, connection)]);
        assert_eq!(rig.status("test"), JobStatus::Failed);
    }

    #[test]
    fn a_job_that_no_worker_takes_is_called_off_in_the_end() {
        let (mut rig, _, worker, _, mut attempt) = given(rig::job("test", &[]));
        let mut on = worker;
        for _ in 0..UNSTARTED_MAX {
            let sentence = "no room".to_owned();
            rig.agent(AgentEvent::AttemptRejected { worker: on, attempt, sentence });
            assert_eq!(rig.status("test"), JobStatus::Queued);
            let ended: Vec<InstanceId> = rig
                .done
                .iter()
                .filter_map(|action| match action {
                    Action::Terminate { instance, .. } => *instance,
                    _ => None,
                })
                .collect();
            let (_, next, _) = rig.arrive();
            attempt = rig.given();
            for instance in ended {
                rig.say(crate::master::domain::event::Event::InstanceEnded {
                    instance,
                    sentence: None,
                });
            }
            on = next;
        }
        let sentence = "no room".to_owned();
        rig.agent(AgentEvent::AttemptRejected { worker: on, attempt, sentence });
        assert_eq!(rig.status("test"), JobStatus::Infra);
    }

    #[test]
    fn an_agent_that_does_not_take_its_job_loses_it_and_ends() {
        let (mut rig, instance, worker, connection, _) = given(rig::job("test", &[]));
        let done = rig.wait_beating(70, &[(&worker, connection)]);
        assert!(rig::ends(&done, instance));
        assert_eq!(rig.status("test"), JobStatus::Queued);
        assert_eq!(rig.job("test").attempts, 0, "it never started, and costs no try");
    }

    // Found by the simulation: a job was called overdue 60 s after the clock was set forward by an hour.
    #[test]
    fn a_clock_that_is_set_forward_does_not_make_a_running_job_overdue() {
        let (mut rig, _, worker, _, attempt) = given(rig::job("test", &[]));
        rig.start(&worker, attempt);
        let mut snapshot = rig.launched();
        snapshot.jobs.push(rig.job("test"));
        for record in rig.written.iter().rev() {
            match record {
                Record::Build(build) if snapshot.builds.is_empty() => {
                    snapshot.builds.push(build.clone());
                }
                Record::Attempt(attempt) if snapshot.attempts.is_empty() => {
                    // As if the new clock were hours ahead of the one it was written by.
                    let started_at = attempt.started_at.map(|at| at - Duration::from_secs(36_000));
                    snapshot.attempts.push(Attempt { started_at, ..attempt.clone() });
                }
                _ => {}
            }
        }
        let mut rig = Rig::load(vec![rig::pool("linux")], snapshot);
        let connection = rig.connect(&worker, rig::hello(Proof::Key), &[(attempt, false)]);
        rig.wait_beating(600, &[(&worker, connection)]);
        rig.finish(&worker, attempt, AttemptOutcome::Passed);
        assert_eq!(rig.status("test"), JobStatus::Passed);
    }
}
