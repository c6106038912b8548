//! A build's life: queued → running → passed, failed, cancelled or infra; and back, when retried.

use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Answer;
use crate::master::domain::decision::Record;
use crate::master::domain::decision::ReplyId;
use crate::master::domain::entities::Build;
use crate::master::domain::event::Resolved;
use crate::master::domain::pipeline::ChangeEvent;
use crate::master::domain::pipeline::Pipeline;
use crate::master::domain::pipeline::Planned;
use crate::model::ids::BuildId;
use crate::model::ids::BuildNumber;
use crate::model::ids::ProjectName;
use crate::model::status::BuildStatus;
use crate::model::status::JobStatus;

impl Coordinator {
    /// Makes a build of a change, and tells whoever asked for it.
    pub(super) fn make_build(
        &mut self,
        project: ProjectName,
        event: ChangeEvent,
        resolved: Resolved,
        reply: Option<ReplyId>,
    ) {
        let number = self.last_numbers.get(&project).map_or(1, |last| last.0 + 1);
        let number = BuildNumber(number);
        self.last_numbers.insert(project.clone(), number);
        self.last_ids.build += 1;
        let id = BuildId(self.last_ids.build);
        if let Some(reply) = reply {
            self.answer(reply, Answer::BuildStarted(project.clone(), number));
        }
        let (pipeline, broken) = match resolved.planned {
            Planned::Pipeline(pipeline) => (pipeline, None),
            Planned::NotTriggered(why) | Planned::Broken(why) => (Pipeline::default(), Some(why)),
        };
        let build = Build {
            id,
            project: project.clone(),
            number,
            status: BuildStatus::Queued,
            reason: broken,
            event,
            ref_name: resolved.ref_name,
            commit: resolved.commit,
            subject: resolved.subject,
            author: resolved.author,
            pipeline_name: pipeline.name,
            inputs: pipeline.inputs,
            has_turn: pipeline.concurrency.is_none(),
            concurrency: pipeline.concurrency,
            created_at: self.now,
            started_at: None,
            finished_at: None,
        };
        self.numbers.insert((project, number), id);
        self.remember(Record::Build(build.clone()));
        self.builds.insert(id, build);
        self.jobs_of.insert(id, Vec::new());
        self.keep_build_in_line(id);
        for spec in pipeline.jobs {
            self.make_job(id, spec);
        }
        self.look_at_build(id);
    }

    /// Starts what can start in a build, and ends it when all of its jobs are over.
    pub(super) fn look_at_build(&mut self, id: BuildId) {
        if self.is_its_turn(id) {
            self.look_at_needs(id);
        }
        let jobs = self.jobs_of.get(&id).map(Vec::as_slice).unwrap_or_default();
        let statuses: Vec<JobStatus> =
            jobs.iter().filter_map(|job| self.jobs.get(job)).map(|job| job.status).collect();
        let Some(build) = self.builds.get_mut(&id) else { return };
        let before = build.status;
        if statuses.iter().all(|status| status.is_final()) {
            build.status = outcome(&statuses, build.reason.is_some());
            build.finished_at = Some(self.now);
        } else if statuses.contains(&JobStatus::Running) || before == BuildStatus::Running {
            build.status = BuildStatus::Running;
            build.started_at = build.started_at.or(Some(self.now));
        }
        if build.status != before {
            let build = build.clone();
            let is_over = build.status.is_final();
            self.remember(Record::Build(build));
            if is_over {
                return self.forget_build(id);
            }
        }
        self.foresee(id);
    }

    /// A build that is over leaves memory; the store has it.
    fn forget_build(&mut self, id: BuildId) {
        self.forget_foreseen(id);
        for job in self.jobs_of.remove(&id).unwrap_or_default() {
            self.jobs.remove(&job);
            self.unexplained.remove(&job);
        }
        if let Some(build) = self.builds.remove(&id) {
            self.build_leaves_line(&build);
            self.numbers.remove(&(build.project, build.number));
        }
    }
}

/// What a build's jobs come to. Who cancelled a build knows that it is incomplete: that word wins. One of
/// which nothing ran, as all was left out for others, has not passed either.
fn outcome(jobs: &[JobStatus], is_broken: bool) -> BuildStatus {
    let any = |status| jobs.contains(&status);
    let is_left_out = !jobs.is_empty() && jobs.iter().all(|job| *job == JobStatus::Skipped);
    if any(JobStatus::Cancelled) || is_left_out {
        BuildStatus::Cancelled
    } else if is_broken || any(JobStatus::Failed) {
        BuildStatus::Failed
    } else if any(JobStatus::Infra) {
        BuildStatus::Infra
    } else {
        BuildStatus::Passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_as_good_as_its_worst_job() {
        use JobStatus::Cancelled;
        use JobStatus::Failed;
        use JobStatus::Infra;
        use JobStatus::Passed;
        use JobStatus::Skipped;
        let check = |jobs: &[JobStatus], expected| assert_eq!(outcome(jobs, false), expected);
        check(&[Passed, Passed], BuildStatus::Passed);
        check(&[Passed, Failed, Skipped, Infra], BuildStatus::Failed);
        check(&[Passed, Infra, Skipped], BuildStatus::Infra);
        check(&[Failed, Cancelled], BuildStatus::Cancelled);
        check(&[Passed, Skipped], BuildStatus::Passed);
        check(&[Skipped, Skipped], BuildStatus::Cancelled);
        assert_eq!(outcome(&[], true), BuildStatus::Failed);
    }
}
