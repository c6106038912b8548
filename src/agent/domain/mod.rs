//! What the agent decides, without clock, disk or processes.

pub mod job_run;
pub mod metadata;
pub mod patience;
pub mod redactor;
mod secret_forms;
pub mod step_user;
