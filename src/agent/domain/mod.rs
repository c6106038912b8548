//! What the agent decides, without clock, disk or processes.

pub mod job_run;
