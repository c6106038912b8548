//! What the agent decides, without clock, disk or processes.

pub mod job_run;
pub mod metadata;
pub mod step_user;
