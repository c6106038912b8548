//! Builds and machines for the fake master to tell of, in the API's own types.

use busybee::api::build::Build;
use busybee::api::build::Job;
use busybee::api::build::Step;

/// `hello/1` with these jobs.
pub(crate) fn build(status: &str, jobs: Vec<Job>) -> Build {
    let is_over = !matches!(status, "queued" | "running");
    Build {
        project: "hello".into(),
        number: 1,
        status: status.into(),
        reason: None,
        ref_name: "refs/heads/main".into(),
        branch: Some("main".into()),
        commit: "0123456789abcdef0123456789abcdef01234567".into(),
        subject: "Greet \x1b[2Jthe world".into(),
        author: "Ada <ada@example.com>".into(),
        event: "manual".into(),
        pipeline: None,
        inputs: [].into(),
        group: None,
        created_at: "2026-01-31T12:00:00.000Z".into(),
        started_at: Some("2026-01-31T12:00:01.000Z".into()),
        finished_at: is_over.then(|| "2026-01-31T12:01:06.500Z".into()),
        cost: is_over.then(|| "0.041250".into()),
        cost_in_part: false,
        jobs,
        url: "https://ci.example.com/hello/1".into(),
    }
}

/// A job with these steps.
pub(crate) fn job(name: &str, status: &str, steps: Vec<Step>) -> Job {
    let has_started = !matches!(status, "waiting" | "queued" | "skipped");
    let is_over = has_started && status != "running";
    Job {
        name: name.into(),
        status: status.into(),
        worker: has_started.then(|| "linux-7".into()),
        attempts: has_started.into(),
        reason: None,
        needs: Vec::new(),
        group: None,
        queued_at: None,
        started_at: has_started.then(|| "2026-01-31T12:00:01.000Z".into()),
        finished_at: is_over.then(|| "2026-01-31T12:00:04.000Z".into()),
        cost: None,
        cost_in_part: false,
        steps: Some(steps),
    }
}

/// A step; one that runs has no end yet.
pub(crate) fn step(number: u32, name: &str, status: &str) -> Step {
    Step {
        step: number,
        name: name.into(),
        status: status.into(),
        reason: (status == "failed").then(|| "exit code 2".into()),
        exit_code: None,
        started_at: "2026-01-31T12:00:01.000Z".into(),
        duration_ms: (status != "running").then_some(1500),
        log_bytes: None,
        log_incomplete: false,
    }
}
