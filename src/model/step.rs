//! What a step is, and how one can end.

use std::time::Duration;

/// One command of a job, as the pipeline means it: every condition is already a yes or no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepSpec {
    /// What people see; unique within the job.
    pub name: String,
    /// The script, given to the shell as it stands.
    pub run: String,
    /// Which shell reads it.
    pub shell: Shell,
    /// Variables of this step alone, in the order of the file.
    pub env: Vec<(String, String)>,
    /// How long it may take; nothing: as long as the job may.
    pub timeout: Option<Duration>,
    /// After what it runs.
    pub when: RunsAfter,
}

/// The shell that reads a step's script.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shell {
    /// `sh -e`
    #[default]
    Sh,
    /// `bash -eo pipefail`
    Bash,
}

/// After which outcomes of the steps before it a step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunsAfter {
    /// Every step before it passed.
    pub success: bool,
    /// A step before it failed or ran out of time.
    pub failure: bool,
    /// The job was cancelled.
    pub cancel: bool,
}

impl RunsAfter {
    /// What a step without a condition does.
    pub const SUCCESS: RunsAfter = RunsAfter { success: true, failure: false, cancel: false };
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// It ended by itself with this code; 0 is a pass.
    Exited(i32),
    /// A signal ended it that we did not send.
    Signalled(i32),
    /// It ran longer than it may.
    TimedOut,
    /// The kernel ended it, or something below it, for want of memory.
    OutOfMemory,
    /// The job was cancelled while it ran.
    Cancelled,
    /// Its condition did not hold.
    Skipped,
    /// It could not be carried out; the sentence says why.
    Infra(String),
}

impl StepOutcome {
    /// Whether the steps after it go on as after a pass.
    pub fn passed(&self) -> bool {
        match self {
            StepOutcome::Exited(0) | StepOutcome::Skipped => true,
            StepOutcome::Exited(_)
            | StepOutcome::Signalled(_)
            | StepOutcome::TimedOut
            | StepOutcome::OutOfMemory
            | StepOutcome::Cancelled
            | StepOutcome::Infra(_) => false,
        }
    }
}
