//! Which step of an attempt comes next, and what the attempt comes to.

use crate::agent::domain::bounds::Ending;
use crate::model::attempt::AttemptOutcome;
use crate::model::step::RunsAfter;
use crate::model::step::StepOutcome;

/// How it has gone so far.
#[derive(Clone, Debug, PartialEq, Eq)]
enum SoFar {
    Good,
    Failed,
    Cancelled,
    /// It could not be carried out: no further step runs, whatever it wants.
    Broken(String),
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Run this step; then tell `finished`.
    Run(u32),
    /// Record this step as skipped; `finished` is not told.
    Skip(u32),
    /// There is nothing more to do.
    Done(AttemptOutcome),
}

/// One attempt's way through its steps. Step 0 is the checkout.
#[derive(Clone, Debug)]
pub struct JobRun {
    steps: Vec<RunsAfter>,
    has_checkout: bool,
    next: u32,
    so_far: SoFar,
    /// No step may run any more, whatever it wants.
    stopped: bool,
    /// A cancel was seen: it ends no further step.
    cancel_seen: bool,
}

impl JobRun {
    /// An attempt with these steps, none of which has run.
    pub fn new(has_checkout: bool, steps: Vec<RunsAfter>) -> JobRun {
        JobRun {
            steps,
            has_checkout,
            next: 0,
            so_far: SoFar::Good,
            stopped: false,
            cancel_seen: false,
        }
    }

    /// What comes next. Each step is named once.
    pub fn next_step(&mut self) -> Next {
        if self.next == 0 {
            self.next = 1;
            if self.has_checkout && self.so_far == SoFar::Good {
                return Next::Run(0);
            }
        }
        let step = self.next;
        let Some(when) = self.steps.get(step as usize - 1) else {
            return Next::Done(self.outcome());
        };
        self.next += 1;
        let runs = match self.so_far {
            SoFar::Good => when.success,
            SoFar::Failed => when.failure,
            SoFar::Cancelled => when.cancel,
            SoFar::Broken(_) => false,
        };
        if runs && !self.stopped { Next::Run(step) } else { Next::Skip(step) }
    }

    /// Whether a cancel that comes now ends the step: the first one does, and no other.
    pub fn heeds_cancel(&self) -> bool {
        !self.cancel_seen
    }

    /// A cancel is there before the next step.
    pub fn cancel_is_there(&mut self) {
        if !self.cancel_seen {
            self.cancel();
        }
    }

    /// A step has ended: by itself, or because it had to.
    pub fn finished(&mut self, outcome: &StepOutcome, ending: Option<Ending>) {
        match outcome {
            StepOutcome::Infra(why) => self.so_far = SoFar::Broken(why.clone()),
            StepOutcome::Cancelled => self.cancel(),
            StepOutcome::Exited(0) | StepOutcome::Skipped => {}
            StepOutcome::Exited(_)
            | StepOutcome::Signalled(_)
            | StepOutcome::TimedOut
            | StepOutcome::OutOfMemory => {
                if self.so_far == SoFar::Good {
                    self.so_far = SoFar::Failed;
                }
            }
        }
        // The time of the whole attempt, or its lease, is over.
        self.stopped |= matches!(ending, Some(Ending::Attempt | Ending::Lease));
    }

    fn cancel(&mut self) {
        self.cancel_seen = true;
        match self.so_far {
            SoFar::Good | SoFar::Failed => self.so_far = SoFar::Cancelled,
            SoFar::Cancelled | SoFar::Broken(_) => {}
        }
    }

    fn outcome(&self) -> AttemptOutcome {
        match &self.so_far {
            SoFar::Good => AttemptOutcome::Passed,
            SoFar::Failed => AttemptOutcome::Failed,
            SoFar::Cancelled => AttemptOutcome::Cancelled,
            SoFar::Broken(why) => AttemptOutcome::Infra(why.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALWAYS: RunsAfter = RunsAfter { success: true, failure: true, cancel: true };
    const FAILURE: RunsAfter = RunsAfter { success: false, failure: true, cancel: false };

    #[test]
    fn after_a_failure_only_the_steps_that_want_to_run() {
        let mut run =
            JobRun::new(true, vec![RunsAfter::SUCCESS, RunsAfter::SUCCESS, FAILURE, ALWAYS]);
        assert_eq!(run.next_step(), Next::Run(0));
        run.finished(&StepOutcome::Exited(0), None);
        assert_eq!(run.next_step(), Next::Run(1));
        run.finished(&StepOutcome::Exited(7), None);
        assert_eq!(run.next_step(), Next::Skip(2));
        assert_eq!(run.next_step(), Next::Run(3));
        run.finished(&StepOutcome::Exited(0), None);
        assert_eq!(run.next_step(), Next::Run(4));
        run.finished(&StepOutcome::Exited(0), None);
        assert_eq!(run.next_step(), Next::Done(AttemptOutcome::Failed));
    }

    #[test]
    fn after_a_cancel_only_steps_that_always_run_do() {
        let mut run = JobRun::new(false, vec![RunsAfter::SUCCESS, FAILURE, ALWAYS]);
        assert_eq!(run.next_step(), Next::Run(1));
        run.finished(&StepOutcome::Cancelled, None);
        assert_eq!(run.next_step(), Next::Skip(2));
        assert_eq!(run.next_step(), Next::Run(3));
        run.finished(&StepOutcome::Exited(1), None);
        assert_eq!(run.next_step(), Next::Done(AttemptOutcome::Cancelled));
    }

    #[test]
    fn what_cannot_be_carried_out_runs_nothing_more() {
        let mut run = JobRun::new(true, vec![ALWAYS]);
        assert_eq!(run.next_step(), Next::Run(0));
        run.finished(&StepOutcome::Infra("no such commit".into()), None);
        assert_eq!(run.next_step(), Next::Skip(1));
        assert_eq!(run.next_step(), Next::Done(AttemptOutcome::Infra("no such commit".into())));
    }

    #[test]
    fn the_end_of_the_lease_or_of_the_time_stops_even_what_always_runs() {
        for (outcome, ending) in [
            (StepOutcome::TimedOut, Ending::Attempt),
            (StepOutcome::Infra("silence".into()), Ending::Lease),
        ] {
            let mut run = JobRun::new(false, vec![RunsAfter::SUCCESS, ALWAYS]);
            assert_eq!(run.next_step(), Next::Run(1));
            run.finished(&outcome, Some(ending));
            assert_eq!(run.next_step(), Next::Skip(2));
        }
    }

    #[test]
    fn only_the_first_cancel_ends_a_step() {
        let mut run = JobRun::new(false, vec![RunsAfter::SUCCESS, ALWAYS]);
        assert_eq!(run.next_step(), Next::Run(1));
        assert!(run.heeds_cancel());
        run.finished(&StepOutcome::Cancelled, Some(Ending::Cancel));
        run.cancel_is_there();
        assert_eq!(run.next_step(), Next::Run(2));
        assert!(!run.heeds_cancel());
    }
}
