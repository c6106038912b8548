//! A plausible past: builds of every status, workers and machines in every state.

use std::sync::Arc;
use std::time::Duration;

use busybee::master::domain::billing;
use busybee::master::domain::decision::Record;
use busybee::master::domain::doing::Doing;
use busybee::master::domain::entities::Attempt;
use busybee::master::domain::entities::AttemptState;
use busybee::master::domain::entities::Build;
use busybee::master::domain::entities::Enrolment;
use busybee::master::domain::entities::Instance;
use busybee::master::domain::entities::InstanceRun;
use busybee::master::domain::entities::Job;
use busybee::master::domain::entities::PoolState;
use busybee::master::domain::entities::ProjectDay;
use busybee::master::domain::entities::Resumes;
use busybee::master::domain::entities::StepRun;
use busybee::master::domain::entities::Worker;
use busybee::master::domain::forecast::Estimate;
use busybee::master::domain::forecast::PoolForecast;
use busybee::master::domain::pipeline::ChangeEvent;
use busybee::master::domain::pipeline::JobSpec;
use busybee::master::domain::wait_reason::WaitReason;
use busybee::model::attempt::AttemptRef;
use busybee::model::ids::AttemptId;
use busybee::model::ids::BuildId;
use busybee::model::ids::BuildNumber;
use busybee::model::ids::Commit;
use busybee::model::ids::Fence;
use busybee::model::ids::InstanceId;
use busybee::model::ids::JobId;
use busybee::model::ids::RefName;
use busybee::model::money::Money;
use busybee::model::status::BuildStatus;
use busybee::model::status::InstanceStatus;
use busybee::model::status::JobStatus;
use busybee::model::status::WorkerFate;
use busybee::model::status::WorkerStatus;
use busybee::model::step::StepOutcome;
use busybee::model::time::Timestamp;

use crate::seeded_web::archive::Archive;

const S: u64 = 1000;

/// A build that is done, with the usual in every field.
pub fn build(id: u64, project: &str, number: u64, status: BuildStatus, at: Timestamp) -> Build {
    let is_final = status.is_final();
    Build {
        id: BuildId(id),
        project: project.into(),
        number: BuildNumber(number),
        status,
        reason: None,
        event: ChangeEvent::Push,
        ref_name: RefName::from("refs/heads/main"),
        commit: Commit(
            format!("{:016x}", 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(id)).repeat(3)[..40]
                .to_owned(),
        ),
        subject: subject(number).into(),
        author: "Ada Byron <ada@example.com>".into(),
        pipeline_name: None,
        inputs: [].into(),
        concurrency: None,
        has_turn: true,
        created_at: at,
        started_at: (status != BuildStatus::Queued).then(|| Timestamp(at.0 + 2 * S)),
        finished_at: is_final.then(|| Timestamp(at.0 + (20 + number * 37 % 90) * S)),
    }
}

/// A job with no steps of its own.
pub fn job(
    id: u64,
    build: u64,
    name: &str,
    needs: &[&str],
    status: JobStatus,
    at: Timestamp,
) -> Job {
    let has_run = !matches!(status, JobStatus::Waiting | JobStatus::Queued | JobStatus::Skipped);
    let spec = JobSpec {
        name: name.into(),
        needs: needs.iter().map(|need| (*need).into()).collect(),
        worker: Some(["linux"].into_iter().collect()),
        env: Vec::new(),
        secrets: Vec::new(),
        checkout: true,
        keep_workspace: false,
        timeout: Duration::from_secs(1800),
        infra_retries: 2,
        concurrency: None,
        steps: Vec::new(),
    };
    Job {
        id: JobId(id),
        build: BuildId(build),
        spec: Arc::new(spec),
        status,
        reason: None,
        attempts: u32::from(has_run),
        infra_failures: 0,
        unstarted: 0,
        avoids_spot: false,
        fence: Fence(1),
        attempt: has_run.then_some(AttemptId(id)),
        worker: has_run.then(|| "linux-7c2f".into()),
        queued_at: Some(at),
        started_at: has_run.then(|| Timestamp(at.0 + 2 * S)),
        finished_at: (has_run && status.is_final()).then(|| Timestamp(at.0 + 30 * S)),
    }
}

/// The attempt that has its job's number.
pub fn attempt(job: u64, state: AttemptState, at: Timestamp) -> Attempt {
    let is_over = !matches!(state, AttemptState::Assigned | AttemptState::Started);
    Attempt {
        id: AttemptRef { attempt: AttemptId(job), fence: Fence(1) },
        job: JobId(job),
        number: 1,
        worker: "linux-7c2f".into(),
        state,
        assigned_at: at,
        started_at: Some(Timestamp(at.0 + S)),
        finished_at: is_over.then(|| Timestamp(at.0 + 30 * S)),
        cancelling: false,
    }
}

/// A step; without an outcome it runs.
pub fn step(
    attempt: u64,
    step: u32,
    name: &str,
    outcome: Option<StepOutcome>,
    at: Timestamp,
) -> StepRun {
    let duration_ms = outcome.is_some().then_some(1200 + 3700 * u64::from(step));
    StepRun {
        attempt: AttemptId(attempt),
        step,
        name: name.into(),
        log_bytes: outcome.is_some().then_some(1),
        outcome,
        started_at: at,
        duration_ms,
        log_incomplete: false,
    }
}

/// A worker of the pool `linux`.
pub fn worker(name: &str, instance: Option<u64>, status: WorkerStatus, at: Timestamp) -> Worker {
    Worker {
        name: name.into(),
        pool: "linux".into(),
        launch: "00ff".into(),
        instance: instance.map(InstanceId),
        status,
        reason: None,
        enrolment: Enrolment::Bound {
            public_key: vec![0; 32],
            instance_claim: String::new(),
            epoch: 1,
        },
        boot_id: None,
        bootstrapped: status != WorkerStatus::Bootstrapping,
        project: Some("hello".into()),
        jobs_given: 3,
        attempt: None,
        fate: WorkerFate::Serves,
        taken_at: None,
        notice: None,
        created_at: at,
        idle_since: (status == WorkerStatus::Idle).then(|| Timestamp(at.0 + 60 * S)),
        ended_at: (status == WorkerStatus::Gone).then(|| Timestamp(at.0 + 600 * S)),
    }
}

/// A machine that has gone through all of its life.
pub fn instance(id: u64, worker: &str, status: InstanceStatus, at: Timestamp) -> Instance {
    let after = |seconds: u64| Some(Timestamp(at.0 + seconds * S));
    let is_over = status.is_final();
    Instance {
        id: InstanceId(id),
        launch: "00ff".into(),
        pool: "linux".into(),
        worker: worker.into(),
        status,
        candidate: 0,
        seat: None,
        what: Some("c7i.large in subnet-a, ami-1".into()),
        price_per_hour: Some(Money(89_250)),
        request: None,
        cloud_id: Some("4711:8899".into()),
        why_started: "job test of hello #61 waits for linux".into(),
        why_ended: is_over.then(|| "idle for 10 min".into()),
        requested_at: at,
        accepted_at: after(1),
        running_at: after(2),
        contact_at: after(4),
        ready_at: after(19),
        ending_at: is_over.then(|| Timestamp(at.0 + 680 * S)),
        ended_at: is_over.then(|| Timestamp(at.0 + 684 * S)),
        runs: vec![InstanceRun {
            asked_at: at,
            started_at: after(2),
            ready_at: after(19),
            ended_at: is_over.then(|| Timestamp(at.0 + 684 * S)),
            start: None,
        }],
    }
}

/// Sixty finished builds, three that run or wait, and the fleet that goes with them.
pub async fn seed(archive: &Archive, now: Timestamp) {
    let ago = |seconds: u64| Timestamp(now.0 - seconds * S);
    let mut records = Vec::new();
    for number in 1..=58u64 {
        let (project, number_of) = match number % 3 {
            0 => ("orchard", number / 3),
            _ => ("hello", number - number / 3),
        };
        let status = match number {
            _ if number % 11 == 0 => BuildStatus::Failed,
            23 => BuildStatus::Cancelled,
            41 => BuildStatus::Infra,
            _ => BuildStatus::Passed,
        };
        let mut one = build(number, project, number_of, status, ago((59 - number) * 2600));
        if number % 5 == 0 {
            one.ref_name = RefName::from("refs/heads/release/1.x");
            one.author = "Grace Hopper <grace@example.com>".into();
        }
        records.push(Record::Build(one));
    }
    for branch in ["main", "release/1.x", "faster-parser"] {
        let ref_name = RefName(format!("refs/heads/{branch}"));
        records.push(Record::Ref("hello".into(), ref_name, Some("00".into())));
    }
    records.push(Record::Pool(PoolState {
        name: "arm".into(),
        paused: Some("three launches in a row ended before their worker was ready; the last one said: E: Unable to locate package libfoo-dev".into()),
        resumes: Resumes::WhenAsked,
        failures: 3,
    }));
    let boot_ms = Estimate { mean: 95_000, seen: 4 };
    records.push(Record::PoolForecast(PoolForecast {
        boot_ms,
        hits: 7,
        misses: 2,
        ..PoolForecast::new("linux".into())
    }));
    archive.remember(records).await;
    seed_fleet(archive, now).await;
    seed_past_work(archive, now).await;
    seed_failed(archive, ago(900)).await;
    seed_running(archive, ago(95)).await;
    seed_waiting(archive, ago(30)).await;
    seed_broken(archive, ago(1500)).await;
}

async fn seed_fleet(archive: &Archive, now: Timestamp) {
    let ago = |seconds: u64| Timestamp(now.0 - seconds * S);
    let mut busy = worker("linux-7c2f", Some(3), WorkerStatus::Busy, ago(400));
    busy.jobs_given = 12;
    let mut lost = worker("linux-0b1a", Some(1), WorkerStatus::Gone, ago(9000));
    lost.reason = Some("its agent was silent for 75 s".into());
    let boots = worker("linux-e41d", Some(4), WorkerStatus::Bootstrapping, ago(12));
    let mut alone = worker("mac-mini", None, WorkerStatus::Idle, ago(90_000));
    alone.pool = "arm".into();
    let mut booting = instance(4, "linux-e41d", InstanceStatus::Running, ago(14));
    booting.ready_at = None;
    let mut failed = instance(2, "linux-9a9a", InstanceStatus::Failed, ago(5000));
    failed.why_ended = Some("the provisioner said: fork: Resource temporarily unavailable".into());
    (failed.accepted_at, failed.running_at, failed.contact_at) = (None, None, None);
    (failed.ready_at, failed.ended_at) = (None, None);
    let rows = vec![
        Record::Worker(lost),
        Record::Worker(alone),
        Record::Worker(busy),
        Record::Worker(worker("linux-51d0", Some(5), WorkerStatus::Idle, ago(240))),
        Record::Worker(boots),
        Record::Instance(instance(1, "linux-0b1a", InstanceStatus::Terminated, ago(9000))),
        Record::Instance(failed),
        Record::Instance(instance(3, "linux-7c2f", InstanceStatus::Running, ago(402))),
        Record::Instance(booting),
        Record::Instance(instance(5, "linux-51d0", InstanceStatus::Running, ago(242))),
    ];
    archive.remember(rows).await;
    archive.boot_log("linux-e41d", b"+ apt-get update\r\nHit:1 http://deb.example.com stable InRelease\nReading package lists... 0%\rReading package lists... 40%\rReading package lists... Done\n+ apt-get install -y git ca-certificates\n\x1b[33mW:\x1b[0m Not using locking for read only lock file\nUnpacking git (1:2.39.2) ...\n").await;
    archive.boot_log("linux-51d0", b"git version 2.39.2\nready\n").await;
}

/// What a machine has done that is gone, and what its project has cost since.
async fn seed_past_work(archive: &Archive, now: Timestamp) {
    let began = |seconds: u64| Timestamp(now.0 - 9000 * S + seconds * S);
    let mut records = Vec::new();
    let turns = [(581, "lint", 21, 60), (582, "test", 75, 260), (583, "package", 300, 380)];
    for (id, name, from, until) in turns {
        let failed = name == "package";
        let status = if failed { JobStatus::Failed } else { JobStatus::Passed };
        let mut job = job(id, 58, name, &[], status, began(from));
        job.worker = Some("linux-0b1a".into());
        let state = if failed { AttemptState::Failed } else { AttemptState::Passed };
        let mut attempt = attempt(id, state, began(from));
        attempt.worker = "linux-0b1a".into();
        attempt.finished_at = Some(began(until));
        records.extend([Record::Job(job), Record::Attempt(attempt)]);
    }
    let day = billing::day_of(now);
    for (project, day, cost) in [("hello", day, 1_250_000), ("orchard", day, 40_000)] {
        let cost = Money(cost);
        records.push(Record::ProjectDay(ProjectDay {
            project: project.into(),
            day,
            cost,
            in_part: project == "orchard",
        }));
    }
    archive.remember(records).await;
}

async fn seed_failed(archive: &Archive, at: Timestamp) {
    let mut failed = build(59, "hello", 40, BuildStatus::Failed, at);
    failed.subject = "parser: accept a trailing comma".into();
    failed.ref_name = RefName::from("refs/heads/faster-parser");
    let mut test = job(592, 59, "test", &["lint"], JobStatus::Failed, at);
    test.reason = Some("step \"unit\" failed: exit code 101".into());
    let mut package = job(593, 59, "package", &["test"], JobStatus::Skipped, at);
    package.reason = Some("test did not pass".into());
    let records = vec![
        Record::Build(failed),
        Record::Job(job(591, 59, "lint", &[], JobStatus::Passed, at)),
        Record::Job(test),
        Record::Job(package),
        Record::Attempt(attempt(591, AttemptState::Passed, at)),
        Record::Attempt(attempt(592, AttemptState::Failed, at)),
        Record::Step(step(591, 0, "checkout", Some(StepOutcome::Exited(0)), at)),
        Record::Step(step(591, 1, "cargo fmt --check", Some(StepOutcome::Exited(0)), at)),
        Record::Step(step(592, 0, "checkout", Some(StepOutcome::Exited(0)), at)),
        Record::Step(step(592, 1, "unit", Some(StepOutcome::Exited(101)), at)),
    ];
    archive.remember(records).await;
    archive.step_log(592, 0, b"HEAD is now at 3c6ef372 parser: accept a trailing comma\n").await;
    archive.step_log(592, 1, cargo_log(240, true).as_bytes()).await;
}

async fn seed_running(archive: &Archive, at: Timestamp) {
    let mut running = build(60, "hello", 41, BuildStatus::Running, at);
    running.subject =
        "store: keep the index beside the log, so that a long one opens at any line".into();
    running.pipeline_name = Some("build".into());
    let mut retried = job(602, 60, "test", &["lint"], JobStatus::Running, at);
    retried.attempts = 2;
    let mut docs = job(603, 60, "docs", &["lint"], JobStatus::Queued, at);
    docs.reason = Some(docs_waits_for().sentence());
    docs.queued_at = Some(Timestamp(at.0 + 9 * S));
    let records = vec![
        Record::Build(running),
        Record::Job(job(601, 60, "lint", &[], JobStatus::Passed, at)),
        Record::Job(retried),
        Record::Job(docs),
        Record::Job(job(604, 60, "package", &["test", "docs"], JobStatus::Waiting, at)),
        Record::Job(job(605, 60, "deploy", &["package"], JobStatus::Waiting, at)),
        Record::Attempt(attempt(601, AttemptState::Passed, at)),
        Record::Attempt(attempt(602, AttemptState::Started, at)),
        Record::Step(step(601, 0, "checkout", Some(StepOutcome::Exited(0)), at)),
        Record::Step(step(601, 1, "cargo clippy", Some(StepOutcome::Exited(0)), at)),
        Record::Step(step(602, 0, "checkout", Some(StepOutcome::Exited(0)), at)),
        Record::Step(step(602, 1, "unit", None, Timestamp(at.0 + 20 * S))),
    ];
    archive.remember(records).await;
    archive.step_log(602, 0, b"HEAD is now at 9e3779b9\n").await;
    archive.step_log(602, 1, cargo_log(40, false).as_bytes()).await;
}

/// Why a job of a running build waits.
pub fn docs_waits_for() -> WaitReason {
    let machines = [(Doing::Works, 2), (Doing::IdlesForAnother, 1), (Doing::Ends, 1)];
    let machines = machines.into_iter().collect();
    WaitReason::Full { pool: "linux".into(), machines, max: 4, longest: None }
}

/// Why the job of a build waits that has not begun.
pub fn test_waits_for() -> WaitReason {
    let why = "3 launches in a row went wrong; the last: no capacity".to_owned();
    WaitReason::Paused { pool: "arm".into(), why }
}

async fn seed_waiting(archive: &Archive, at: Timestamp) {
    let mut waiting = build(61, "orchard", 20, BuildStatus::Queued, at);
    waiting.event = ChangeEvent::Manual;
    let mut test = job(611, 61, "test", &[], JobStatus::Queued, at);
    test.reason = Some(test_waits_for().sentence());
    archive.remember(vec![Record::Build(waiting), Record::Job(test)]).await;
}

async fn seed_broken(archive: &Archive, at: Timestamp) {
    let mut broken = build(62, "orchard", 21, BuildStatus::Failed, at);
    broken.subject = "ci: run the tests on two databases".into();
    broken.reason = Some(
        ".busybee.yaml:7:9: unknown key \"step\" in job \"test\"; did you mean \"steps\"?\n\n\
         6 |   test:\n7 |     step: [{ run: make <test> }]\n  |     ^^^^\n"
            .into(),
    );
    archive.remember(vec![Record::Build(broken)]).await;
}

/// What a build with tests prints, colours and progress included.
fn cargo_log(tests: u32, fails: bool) -> String {
    let mut log = String::new();
    for (index, name) in ["bytes", "tokio", "serde", "orchard-core", "hello"].iter().enumerate() {
        log += &format!("\x1b[1m\x1b[32m   Compiling\x1b[0m {name} v1.{index}.0\n");
    }
    log += "\x1b[1m\x1b[36m    Building\x1b[0m [=====>      ] 41/97\r\x1b[1m\x1b[36m    Building\x1b[0m [==========> ] 92/97\r\x1b[K\x1b[1m\x1b[32m    Finished\x1b[0m `test` profile in 8.21s\n";
    log += "\x1b[33mwarning\x1b[0m: unused variable: `comma`\n  \x1b[34m-->\x1b[0m src/parser.rs:88:13\n";
    log += &format!("\nrunning {tests} tests\n");
    for test in 1..=tests {
        let failed = fails && test == tests - 3;
        let verdict = if failed { "\x1b[31mFAILED\x1b[0m" } else { "\x1b[32mok\x1b[0m" };
        log += &format!("test parser::reads_a_list_of_{test}_values ... {verdict}\n");
    }
    if fails {
        log += "\nfailures:\n\n---- parser::reads_a_list stdout ----\nthread 'main' panicked at src/parser.rs:90:9:\nassertion `left == right` failed\n  left: Some(<list>)\n right: None\n\ntest result: \x1b[31mFAILED\x1b[0m. 239 passed; 1 failed\n\x1b[1m\x1b[31merror\x1b[0m: test failed, to rerun pass `--lib`\n";
    }
    log
}

fn subject(number: u64) -> &'static str {
    const SUBJECTS: [&str; 7] = [
        "agent: resume a log at the byte the master has",
        "docs: say what a pool is",
        "scheduler: give the oldest job to the warmest worker",
        "wire: refuse a frame that claims more than it may",
        "pages: show why a job waits",
        "tests: cut the connection in a build's middle",
        "local: end a worker's processes one by one",
    ];
    SUBJECTS[usize::try_from(number).unwrap_or(0) % SUBJECTS.len()]
}
