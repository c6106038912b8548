//! What people ask for.

use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Action;
use crate::master::domain::decision::Answer;
use crate::master::domain::decision::Record;
use crate::master::domain::decision::RefusalKind;
use crate::master::domain::decision::ReplyId;
use crate::master::domain::decision::ToAgent;
use crate::master::domain::entities::Job;
use crate::master::domain::event::LoadedBuild;
use crate::master::domain::event::Request;
use crate::model::ids::BuildId;
use crate::model::ids::BuildNumber;
use crate::model::ids::JobName;
use crate::model::ids::LaunchId;
use crate::model::ids::PoolName;
use crate::model::ids::ProjectName;
use crate::model::ids::WorkerName;
use crate::model::status::BuildStatus;
use crate::model::status::JobStatus;
use crate::model::status::WorkerFate;
use crate::model::status::WorkerStatus;

/// A worker's name is also a folder's and a host's.
const WORKER_NAME_BYTES_MAX: usize = 63;

/// A finished build on its way from the store, to be retried.
#[derive(Debug)]
pub(super) struct Loading {
    reply: ReplyId,
    failed_only: bool,
}

/// Whether it would be more to do; what ends something is taken at any time.
fn begins_something(request: &Request) -> bool {
    match request {
        Request::StartBuild { .. } | Request::RetryBuild { .. } | Request::AddWorker(..) => true,
        Request::CancelBuild(..)
        | Request::PausePool(_)
        | Request::ResumePool(_)
        | Request::DrainWorker(_)
        | Request::StopWorker(_) => false,
    }
}

impl Coordinator {
    pub(super) fn asked(&mut self, reply: ReplyId, request: Request) {
        if let Some(why) = self.disk_full.clone().filter(|_| begins_something(&request)) {
            return self.refuse(reply, RefusalKind::Unavailable, why);
        }
        match request {
            Request::StartBuild { project, reference, inputs } => {
                self.start_asked(reply, project, reference, inputs);
            }
            Request::CancelBuild(project, number) => self.cancel_asked(reply, &project, number),
            Request::RetryBuild { project, number, failed_only } => {
                self.retry_asked(reply, project, number, failed_only);
            }
            Request::PausePool(pool) => self.pause_asked(reply, &pool),
            Request::ResumePool(pool) => self.resume_asked(reply, &pool),
            Request::DrainWorker(worker) => self.drain_asked(reply, &worker),
            Request::StopWorker(worker) => self.stop_asked(reply, &worker),
            Request::AddWorker(worker, pool) => self.add_asked(reply, worker, &pool),
        }
    }

    fn cancel_asked(&mut self, reply: ReplyId, project: &ProjectName, number: BuildNumber) {
        let Some(id) = self.numbers.get(&(project.clone(), number)).copied() else {
            let last = self.last_numbers.get(project).copied();
            return match last {
                Some(last) if number.0 >= 1 && number <= last => {
                    let sentence = format!("build {project}/{number} is over already");
                    self.refuse(reply, RefusalKind::Conflict, sentence);
                }
                Some(_) | None => {
                    let sentence = format!("there is no build {project}/{number}");
                    self.refuse(reply, RefusalKind::NotFound, sentence);
                }
            };
        };
        for job in self.jobs_of.get(&id).cloned().unwrap_or_default() {
            self.cancel_job(job, "somebody cancelled its build");
        }
        self.look_at_build(id);
        self.answer(reply, Answer::Done);
    }

    fn retry_asked(
        &mut self,
        reply: ReplyId,
        project: ProjectName,
        number: BuildNumber,
        failed_only: bool,
    ) {
        let key = (project.clone(), number);
        if self.numbers.contains_key(&key) || self.loading.contains_key(&key) {
            let sentence =
                format!("build {project}/{number} is not over: cancel it first, or wait");
            return self.refuse(reply, RefusalKind::Conflict, sentence);
        }
        self.loading.insert(key, Loading { reply, failed_only });
        self.perform(Action::LoadBuild { project, number });
    }

    pub(super) fn build_loaded(
        &mut self,
        project: ProjectName,
        number: BuildNumber,
        found: Option<Box<LoadedBuild>>,
    ) {
        let Some(Loading { reply, failed_only }) = self.loading.remove(&(project.clone(), number))
        else {
            return;
        };
        let Some(found) = found else {
            let sentence = format!("there is no build {project}/{number}");
            return self.refuse(reply, RefusalKind::NotFound, sentence);
        };
        let LoadedBuild { mut build, jobs } = *found;
        let chosen = jobs_to_retry(&jobs, failed_only);
        if chosen.is_empty() {
            let sentence = match jobs.is_empty() {
                true => format!(
                    "build {project}/{number} has no jobs, as its pipeline file is broken: push a \
                     mended one"
                ),
                false => format!("every job of build {project}/{number} has passed"),
            };
            return self.refuse(reply, RefusalKind::Conflict, sentence);
        }
        let id: BuildId = build.id;
        build.status = BuildStatus::Queued;
        build.started_at = None;
        build.finished_at = None;
        build.has_turn = build.concurrency.is_none();
        self.numbers.insert((project.clone(), number), id);
        self.remember(Record::Build(build.clone()));
        self.builds.insert(id, build);
        self.keep_build_in_line(id);
        for mut job in jobs {
            if chosen.contains(&job.spec.name) {
                job.status = JobStatus::Waiting;
                job.reason = None;
                (job.infra_failures, job.unstarted) = (0, 0);
                job.avoids_spot = false;
                job.queued_at = None;
                job.started_at = None;
                job.finished_at = None;
                self.remember(Record::Job(job.clone()));
            }
            self.take_up_job(job);
        }
        self.look_at_build(id);
        self.answer(reply, Answer::BuildStarted(project, number));
    }

    fn known_pool(&mut self, reply: ReplyId, pool: &PoolName) -> bool {
        let is_known = self.pools.contains_key(pool);
        if !is_known {
            let sentence = format!("there is no pool \"{pool}\" in the master's file");
            self.refuse(reply, RefusalKind::NotFound, sentence);
        }
        is_known
    }

    fn pause_asked(&mut self, reply: ReplyId, pool: &PoolName) {
        if self.known_pool(reply, pool) {
            self.pause(pool, "somebody paused it".to_owned());
            self.answer(reply, Answer::Done);
        }
    }

    fn resume_asked(&mut self, reply: ReplyId, name: &PoolName) {
        if !self.known_pool(reply, name) {
            return;
        }
        self.resume(name);
        self.answer(reply, Answer::Done);
    }

    fn known_worker(&mut self, reply: ReplyId, worker: &WorkerName) -> bool {
        let is_known = self.workers.contains_key(worker);
        if !is_known {
            let sentence = format!("there is no worker \"{worker}\", or it is gone");
            self.refuse(reply, RefusalKind::NotFound, sentence);
        }
        is_known
    }

    fn drain_asked(&mut self, reply: ReplyId, name: &WorkerName) {
        if !self.known_worker(reply, name) {
            return;
        }
        let attempt = self.workers.get(name).and_then(|live| live.worker.attempt);
        if attempt.is_none() {
            self.end_worker(name, "somebody drained it");
        } else {
            self.change_worker(name, |worker, _| {
                // What was told to end does not go back to finishing its job.
                worker.fate = worker.fate.max(WorkerFate::Drains);
                // A lost one stays lost: the end of its lease must still find it.
                if worker.status != WorkerStatus::Lost {
                    worker.status = WorkerStatus::Draining;
                }
            });
            self.tell(name, ToAgent::Drain);
        }
        self.answer(reply, Answer::Done);
    }

    fn stop_asked(&mut self, reply: ReplyId, name: &WorkerName) {
        if self.known_worker(reply, name) {
            self.end_worker(name, "somebody stopped it");
            self.answer(reply, Answer::Done);
        }
    }

    fn add_asked(&mut self, reply: ReplyId, name: WorkerName, pool: &PoolName) {
        if !self.known_pool(reply, pool) {
            return;
        }
        if self.pools.get(pool).is_some_and(|pool| pool.launches()) {
            let sentence = format!(
                "pool \"{pool}\" starts its own machines; add yours to one with \
                 provisioner = \"none\""
            );
            return self.refuse(reply, RefusalKind::Invalid, sentence);
        }
        if !is_worker_name(name.as_str()) {
            let sentence = format!(
                "\"{name}\" cannot be a worker's name: use a-z, 0-9 and -, at most \
                 {WORKER_NAME_BYTES_MAX} characters, not beginning with -"
            );
            return self.refuse(reply, RefusalKind::Invalid, sentence);
        }
        if self.workers.contains_key(&name) {
            let sentence = format!("there is a worker \"{name}\" already");
            return self.refuse(reply, RefusalKind::Conflict, sentence);
        }
        let launch = LaunchId(format!("{:016x}{:016x}", self.dice.roll(), self.dice.roll()));
        let worker = self.fresh_worker(name.clone(), pool.clone(), launch.clone(), None);
        self.remember(Record::Worker(worker.clone()));
        self.take_up_worker(worker);
        self.unsettled.insert(pool.clone());
        // It may call whenever its owner starts it.
        self.timers.clear(&crate::master::domain::timers::Timer::Lost(name.clone()));
        self.answer(reply, Answer::WorkerAdded(name, launch));
    }
}

fn is_worker_name(name: &str) -> bool {
    let is_ours = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let len = 1..=WORKER_NAME_BYTES_MAX;
    len.contains(&name.len()) && name.chars().all(is_ours) && !name.starts_with('-')
}

/// Which jobs run again: all, or those that did not pass and everything that needs one of them.
fn jobs_to_retry(jobs: &[Job], failed_only: bool) -> Vec<JobName> {
    let mut chosen: Vec<JobName> = jobs
        .iter()
        .filter(|job| !failed_only || job.status != JobStatus::Passed)
        .map(|job| job.spec.name.clone())
        .collect();
    for _ in jobs {
        for job in jobs {
            let needs_one = job.spec.needs.iter().any(|name| chosen.contains(name));
            if needs_one && !chosen.contains(&job.spec.name) {
                chosen.push(job.spec.name.clone());
            }
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::domain::entities::Build;
    use crate::master::domain::event::AgentEvent;
    use crate::master::domain::event::Event;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::model::attempt::AttemptOutcome;

    /// The build as the store has it.
    fn stored(rig: &Rig, names: &[&str]) -> Option<Box<LoadedBuild>> {
        let build: Option<Build> = rig.written.iter().rev().find_map(|record| match record {
            Record::Build(build) => Some(build.clone()),
            _ => None,
        });
        let jobs = names.iter().map(|name| rig.job(name)).collect();
        Some(Box::new(LoadedBuild { build: build?, jobs }))
    }

    fn retry(rig: &mut Rig, failed_only: bool, names: &[&str]) {
        let (project, number) = (ProjectName::from("app"), BuildNumber(1));
        rig.ask(Request::RetryBuild { project: project.clone(), number, failed_only });
        let found = stored(rig, names);
        rig.say(Event::BuildLoaded { project, number, found });
    }

    /// `lint` passed, `test` failed, and `pack`, which needs it, was skipped.
    fn failed() -> (Rig, WorkerName) {
        let mut rig = Rig::new(vec![crate::master::domain::settings::PoolSettings {
            max_instances: 1,
            ..rig::pool("linux")
        }]);
        let jobs = [rig::job("lint", &[]), rig::job("test", &[]), rig::job("pack", &["test"])];
        rig.build("app", jobs.to_vec());
        let (_, worker, _) = rig.arrive();
        let lint = rig.given();
        rig.finish(&worker, lint, AttemptOutcome::Passed);
        let test = rig.given();
        rig.finish(&worker, test, AttemptOutcome::Failed);
        (rig, worker)
    }

    #[test]
    fn a_job_whose_need_failed_is_skipped_and_says_which() {
        let (rig, _) = failed();
        assert_eq!(rig.status("pack"), JobStatus::Skipped);
        assert_eq!(rig.reason("pack"), "needs test, which failed");
        assert_eq!(rig.builds(), [BuildStatus::Failed]);
    }

    #[test]
    fn a_retry_of_what_failed_leaves_what_passed_alone() {
        let (mut rig, worker) = failed();
        retry(&mut rig, true, &["lint", "test", "pack"]);
        assert_eq!(rig.status("lint"), JobStatus::Passed);
        assert_eq!(rig.reason("pack"), "needs test, which has not passed yet");
        let test = rig.given();
        rig.finish(&worker, test, AttemptOutcome::Passed);
        let pack = rig.given();
        rig.finish(&worker, pack, AttemptOutcome::Passed);
        assert_eq!(rig.builds(), [BuildStatus::Passed]);
    }

    #[test]
    fn a_retry_of_everything_runs_everything_and_of_nothing_is_refused() {
        let (mut rig, _) = failed();
        retry(&mut rig, false, &["lint", "test", "pack"]);
        assert_eq!(rig.job("lint").fence.0, 2);
        let again = Request::RetryBuild {
            project: "app".into(),
            number: BuildNumber(1),
            failed_only: false,
        };
        assert!(matches!(rig.ask(again), Some(Answer::Refused(_))), "it is not over");
    }

    #[test]
    fn a_retry_begins_the_count_of_attempts_that_never_started_anew() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        for _ in 0..6 {
            let (instance, worker, _) = rig.arrive();
            let attempt = rig.given();
            let sentence = "no room".to_owned();
            rig.agent(AgentEvent::AttemptRejected { worker, attempt, sentence });
            let launched = std::mem::take(&mut rig.done);
            rig.say(Event::InstanceEnded { instance, sentence: None });
            rig.done = launched;
        }
        assert_eq!(rig.status("test"), JobStatus::Infra);
        retry(&mut rig, true, &["test"]);
        rig.arrive();
        let attempt = rig.given();
        assert!(attempt.fence.0 > 6, "{attempt:?}");
        assert_eq!(rig.job("test").unstarted, 0);
    }

    #[test]
    fn a_waiting_build_that_is_cancelled_is_over_at_once() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[]), rig::job("pack", &["test"])]);
        let answer = rig.ask(Request::CancelBuild("app".into(), BuildNumber(1)));
        assert_eq!(answer, Some(Answer::Done));
        assert_eq!(rig.builds(), [BuildStatus::Cancelled]);
        assert_eq!(rig.status("pack"), JobStatus::Cancelled);
        let again = rig.ask(Request::CancelBuild("app".into(), BuildNumber(1)));
        assert!(matches!(again, Some(Answer::Refused(why)) if why.kind == RefusalKind::Conflict));
        let unknown = rig.ask(Request::CancelBuild("app".into(), BuildNumber(2)));
        assert!(matches!(unknown, Some(Answer::Refused(why)) if why.kind == RefusalKind::NotFound));
    }

    #[test]
    fn a_drained_worker_finishes_its_job_and_takes_no_other() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (instance, worker, _) = rig.arrive();
        let attempt = rig.given();
        rig.agent(AgentEvent::AttemptAccepted(worker.clone(), attempt));
        rig.ask(Request::DrainWorker(worker.clone()));
        assert!(!rig.ends(instance));
        rig.finish(&worker, attempt, AttemptOutcome::Passed);
        assert_eq!(rig.status("test"), JobStatus::Passed);
        assert!(rig.ends(instance));
    }

    #[test]
    fn a_machine_of_ones_own_is_added_only_where_it_belongs() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        let mut add =
            |name: &str, pool: &str| rig.ask(Request::AddWorker(name.into(), pool.into()));
        assert!(matches!(add("mac", "linux"), Some(Answer::Refused(_))));
        assert!(matches!(add("mac", "nothing"), Some(Answer::Refused(_))));
    }
}
