//! What is remembered of an attempt's steps, as its present owner tells it.

use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Record;
use crate::master::domain::entities::StepRun;
use crate::master::domain::event::StepResult;
use crate::model::attempt::AttemptRef;
use crate::model::ids::WorkerName;
use crate::model::time::Timestamp;

impl Coordinator {
    pub(super) fn step_started(
        &mut self,
        worker: &WorkerName,
        id: AttemptRef,
        step: u32,
        started_at: Timestamp,
    ) {
        self.attempt_started(worker, id);
        if let Some(name) = self.step_name(worker, id, step) {
            self.remember(Record::Step(StepRun {
                attempt: id.attempt,
                step,
                name,
                outcome: None,
                started_at,
                duration_ms: None,
                log_bytes: None,
                log_incomplete: false,
            }));
        }
    }

    pub(super) fn step_finished(
        &mut self,
        worker: &WorkerName,
        id: AttemptRef,
        result: StepResult,
    ) {
        self.attempt_started(worker, id);
        if let Some(name) = self.step_name(worker, id, result.step) {
            self.remember(Record::Step(StepRun {
                attempt: id.attempt,
                step: result.step,
                name,
                outcome: Some(result.outcome),
                started_at: result.started_at,
                duration_ms: Some(result.duration_ms),
                log_bytes: Some(result.log_bytes),
                log_incomplete: result.log_incomplete,
            }));
        }
    }

    /// The name of a step, if the attempt is this worker's and the job has such a step.
    fn step_name(&self, worker: &WorkerName, id: AttemptRef, step: u32) -> Option<String> {
        if !self.owned(worker, id) {
            return None;
        }
        let job = self.jobs.get(&self.attempts.get(&id.attempt)?.job)?;
        match step.checked_sub(1) {
            None => Some("checkout".to_owned()),
            Some(index) => Some(job.spec.steps.get(index as usize)?.name.clone()),
        }
    }
}
