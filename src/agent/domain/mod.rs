//! What the agent decides, without clock, disk or processes.

pub mod agent;
pub mod attempts;
pub mod bounds;
pub mod held;
pub mod interruption;
pub mod job_run;
pub mod metadata;
pub mod notices;
pub mod patience;
pub mod pulse;
pub mod redactor;
mod secret_forms;
pub mod step_user;
