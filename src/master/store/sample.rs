//! One of each row, every field filled, for this folder's tests.

use std::sync::Arc;
use std::time::Duration;

use crate::master::domain::entities::Attempt;
use crate::master::domain::entities::AttemptState;
use crate::master::domain::entities::Build;
use crate::master::domain::entities::Change;
use crate::master::domain::entities::Enrolment;
use crate::master::domain::entities::Instance;
use crate::master::domain::entities::InstanceRun;
use crate::master::domain::entities::Job;
use crate::master::domain::entities::StepRun;
use crate::master::domain::entities::Worker;
use crate::master::domain::forecast::Estimate;
use crate::master::domain::forecast::JobTime;
use crate::master::domain::forecast::PoolForecast;
use crate::master::domain::pipeline::ChangeEvent;
use crate::master::domain::pipeline::Concurrency;
use crate::master::domain::pipeline::JobSpec;
use crate::master::domain::pipeline::OnNew;
use crate::model::attempt::AttemptRef;
use crate::model::ids::AttemptId;
use crate::model::ids::BuildId;
use crate::model::ids::BuildNumber;
use crate::model::ids::ChangeId;
use crate::model::ids::Fence;
use crate::model::ids::InstanceId;
use crate::model::ids::JobId;
use crate::model::money::Money;
use crate::model::status::BuildStatus;
use crate::model::status::InstanceStatus;
use crate::model::status::JobStatus;
use crate::model::status::WorkerFate;
use crate::model::status::WorkerStatus;
use crate::model::step::RunsAfter;
use crate::model::step::Shell;
use crate::model::step::StepOutcome;
use crate::model::step::StepSpec;
use crate::model::time::Timestamp;

/// A job's spec that uses every field.
pub(super) fn job_spec(name: &str) -> JobSpec {
    let plain = StepSpec {
        name: "build".into(),
        run: "make -j2".into(),
        shell: Shell::Sh,
        env: Vec::new(),
        timeout: None,
        when: RunsAfter::SUCCESS,
    };
    let special = StepSpec {
        name: "tidy \"up\"".into(),
        run: "rm -rf out\necho äöü".into(),
        shell: Shell::Bash,
        env: vec![("B".into(), "2".into()), ("A".into(), "1".into())],
        timeout: Some(Duration::from_millis(1500)),
        when: RunsAfter { success: false, failure: true, cancel: true },
    };
    JobSpec {
        name: name.into(),
        needs: vec!["lint".into()],
        worker: Some(["linux", "x64"].into_iter().collect()),
        env: vec![("MODE".into(), "full".into())],
        secrets: vec!["DEPLOY_TOKEN".into()],
        checkout: true,
        keep_workspace: true,
        timeout: Duration::from_secs(3600),
        infra_retries: 2,
        concurrency: Some(Concurrency { group: "deploy".into(), limit: 2, on_new: OnNew::Queue }),
        steps: vec![plain, special],
    }
}

/// Build `id` of project `hello`, running.
pub(super) fn build(id: u64) -> Build {
    Build {
        id: BuildId(id),
        project: "hello".into(),
        number: BuildNumber(id),
        status: BuildStatus::Running,
        reason: Some("a reason".into()),
        event: ChangeEvent::Push,
        ref_name: "refs/heads/main".into(),
        commit: "0123456789abcdef0123456789abcdef01234567".into(),
        subject: "make it work".into(),
        author: "Ada <ada@example.com>".into(),
        pipeline_name: Some("ci".into()),
        inputs: [("dry_run".into(), "true".into()), ("note".into(), "é \"x\"\n".into())].into(),
        concurrency: Some(Concurrency { group: "main".into(), limit: 1, on_new: OnNew::Cancel }),
        has_turn: false,
        created_at: Timestamp(1000 + id),
        started_at: Some(Timestamp(2000 + id)),
        finished_at: Some(Timestamp(3000 + id)),
    }
}

/// Job `id` of build `build`, running as attempt `id`.
pub(super) fn job(id: u64, build: u64) -> Job {
    Job {
        id: JobId(id),
        build: BuildId(build),
        spec: Arc::new(job_spec("test")),
        status: JobStatus::Running,
        reason: Some("w-1 has it".into()),
        attempts: 2,
        infra_failures: 1,
        unstarted: 2,
        avoids_spot: true,
        fence: Fence(id + 7),
        attempt: Some(AttemptId(id)),
        worker: Some("w-1".into()),
        queued_at: Some(Timestamp(4000 + id)),
        started_at: Some(Timestamp(5000)),
        finished_at: Some(Timestamp(6000)),
    }
}

/// Attempt `id` of job `id`.
pub(super) fn attempt(id: u64, state: AttemptState) -> Attempt {
    Attempt {
        id: AttemptRef { attempt: AttemptId(id), fence: Fence(id + 7) },
        job: JobId(id),
        number: 2,
        worker: "w-1".into(),
        state,
        assigned_at: Timestamp(5000),
        started_at: Some(Timestamp(5001)),
        finished_at: Some(Timestamp(5002)),
        cancelling: true,
    }
}

/// A step of attempt `attempt`.
pub(super) fn step(attempt: u64, step: u32, outcome: Option<StepOutcome>) -> StepRun {
    StepRun {
        attempt: AttemptId(attempt),
        step,
        name: format!("step {step}"),
        outcome,
        // An agent may send anything.
        started_at: Timestamp(u64::MAX),
        duration_ms: Some(12),
        log_bytes: Some(345),
        log_incomplete: true,
    }
}

/// A worker that runs attempt 1.
pub(super) fn worker(name: &str, enrolment: Enrolment) -> Worker {
    Worker {
        name: name.into(),
        pool: "linux".into(),
        launch: "beef".into(),
        instance: Some(InstanceId(1)),
        status: WorkerStatus::Busy,
        reason: Some("at work".into()),
        enrolment,
        boot_id: Some("b00t".into()),
        bootstrapped: true,
        project: Some("hello".into()),
        jobs_given: 3,
        attempt: Some(AttemptRef { attempt: AttemptId(1), fence: Fence(8) }),
        fate: WorkerFate::Drains,
        taken_at: Some(Timestamp(250)),
        notice: Some((Timestamp(240), "memory is short".into())),
        created_at: Timestamp(100),
        idle_since: Some(Timestamp(200)),
        ended_at: Some(Timestamp(300)),
    }
}

/// Row `id` of the ledger.
pub(super) fn instance(id: u64, status: InstanceStatus) -> Instance {
    Instance {
        id: InstanceId(id),
        launch: "beef".into(),
        pool: "linux".into(),
        worker: "w-1".into(),
        status,
        candidate: 2,
        seat: Some(1),
        what: Some("c7i.large in subnet-a, ami-1".into()),
        price_per_hour: Some(Money(89_250)),
        request: Some("a=1".into()),
        cloud_id: Some("i-0123".into()),
        why_started: "a job waits".into(),
        why_ended: Some("it was idle".into()),
        requested_at: Timestamp(1),
        accepted_at: Some(Timestamp(2)),
        running_at: Some(Timestamp(3)),
        contact_at: Some(Timestamp(4)),
        ready_at: Some(Timestamp(5)),
        ending_at: Some(Timestamp(6)),
        ended_at: Some(Timestamp(7)),
        runs: vec![
            InstanceRun {
                asked_at: Timestamp(1),
                started_at: Some(Timestamp(3)),
                ready_at: Some(Timestamp(5)),
                ended_at: Some(Timestamp(6)),
                start: Some("2026-01-01T00:00:00Z".into()),
            },
            InstanceRun {
                asked_at: Timestamp(6),
                started_at: None,
                ready_at: None,
                ended_at: Some(Timestamp(7)),
                start: None,
            },
        ],
    }
}

/// A push that waits.
pub(super) fn change(id: u64) -> Change {
    Change {
        id: ChangeId(id),
        project: "hello".into(),
        ref_name: "refs/heads/main".into(),
        commit: "0123456789abcdef0123456789abcdef01234567".into(),
        seen_at: Timestamp(9),
    }
}

/// How long a job of `hello` takes.
pub(super) fn job_time(job: &str) -> JobTime {
    JobTime {
        project: "hello".into(),
        job: job.into(),
        took_ms: Estimate { mean: 61_000, seen: 3 },
        passes: Estimate { mean: 750, seen: 4 },
        seen_at: Timestamp(1000),
    }
}

/// What was learned of a pool.
pub(super) fn pool_forecast(name: &str) -> PoolForecast {
    PoolForecast {
        name: name.into(),
        boot_ms: Estimate { mean: 95_000, seen: 4 },
        hits: 7,
        misses: u64::MAX,
        ahead: ["w-1".into(), "w-2".into()].into(),
    }
}
