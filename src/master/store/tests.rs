//! The store as a whole: what was committed is read back, by every way in.

use std::path::Path;

use crate::master::domain::decision::Record;
use crate::master::domain::entities::AttemptState;
use crate::master::domain::entities::Enrolment;
use crate::master::domain::entities::PoolState;
use crate::master::domain::entities::Resumes;
use crate::master::store::Store;
use crate::master::store::builds::BuildFilter;
use crate::master::store::builds::BuildsOf;
use crate::master::store::sample;
use crate::model::ids::AttemptId;
use crate::model::ids::BuildId;
use crate::model::ids::BuildNumber;
use crate::model::ids::ChangeId;
use crate::model::ids::InstanceId;
use crate::model::ids::JobId;
use crate::model::status::BuildStatus;
use crate::model::status::InstanceStatus;
use crate::model::status::JobStatus;
use crate::model::status::WorkerStatus;
use crate::model::step::StepOutcome;
use crate::model::time::Timestamp;

fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

#[tokio::test]
async fn a_restart_finds_all_that_was_not_over_and_nothing_that_was() {
    let (dir, store) = open();
    let mut done = sample::build(1);
    done.status = BuildStatus::Passed;
    let mut done_job = sample::job(1, 1);
    done_job.status = JobStatus::Passed;
    let mut gone = sample::worker("w-0", Enrolment::Alarmed);
    gone.status = WorkerStatus::Gone;
    let bound = Enrolment::Bound {
        public_key: vec![7; 32],
        instance_claim: "i-0123".into(),
        epoch: u64::MAX,
    };
    let unused = Enrolment::Unused { expires_at: Some(Timestamp(77)) };
    let pool = PoolState {
        name: "linux".into(),
        paused: Some("why".into()),
        resumes: Resumes::WhenPermitted,
        failures: 3,
    };
    let active = vec![
        Record::Build(sample::build(2)),
        Record::Job(sample::job(2, 2)),
        Record::Job(sample::job(3, 2)),
        Record::Attempt(sample::attempt(2, AttemptState::Started)),
        Record::Step(sample::step(2, 0, Some(StepOutcome::Exited(0)))),
        Record::Step(sample::step(2, 1, None)),
        Record::Worker(sample::worker("w-1", bound)),
        Record::Worker(sample::worker("w-2", unused)),
        Record::Instance(sample::instance(2, InstanceStatus::Stopped)),
        Record::Pool(pool.clone()),
        Record::JobTime(sample::job_time("test")),
        Record::PoolForecast(sample::pool_forecast("linux")),
        Record::Change(sample::change(5)),
        Record::Baseline("hello".into()),
        Record::Ref("hello".into(), "refs/heads/main".into(), Some("c0".into())),
    ];
    let mut records = vec![
        Record::Build(done),
        Record::Job(done_job),
        Record::Attempt(sample::attempt(1, AttemptState::Passed)),
        // Job 3 has had its attempt: over, though its build is not.
        Record::Attempt(sample::attempt(3, AttemptState::Infra("lost".into()))),
        Record::Worker(gone),
        Record::Instance(sample::instance(1, InstanceStatus::Terminated)),
        Record::Instance(sample::instance(3, InstanceStatus::Failed)),
        Record::Change(sample::change(6)),
        Record::JobTime(sample::job_time("old")),
        Record::Ref("hello".into(), "refs/tags/v1".into(), Some("c1".into())),
    ];
    records.extend(active.clone());
    store.commit(records).await.unwrap();
    let later = vec![
        Record::ChangeDone(ChangeId(6)),
        Record::JobTimeForgotten("hello".into(), "old".into()),
        Record::Ref("hello".into(), "refs/tags/v1".into(), None),
    ];
    store.commit(later).await.unwrap();
    drop(store);

    let snapshot = Store::open(dir.path()).unwrap().load().unwrap();

    let mut found: Vec<Record> = snapshot.builds.into_iter().map(Record::Build).collect();
    found.extend(snapshot.jobs.into_iter().map(Record::Job));
    found.extend(snapshot.attempts.into_iter().map(Record::Attempt));
    found.extend(snapshot.steps.into_iter().map(Record::Step));
    found.extend(snapshot.workers.into_iter().map(Record::Worker));
    found.extend(snapshot.instances.into_iter().map(Record::Instance));
    found.extend(snapshot.pools.into_iter().map(Record::Pool));
    found.extend(snapshot.job_times.into_iter().map(Record::JobTime));
    found.extend(snapshot.pool_forecasts.into_iter().map(Record::PoolForecast));
    found.extend(snapshot.changes.into_iter().map(Record::Change));
    found.extend(snapshot.baselines.into_iter().map(Record::Baseline));
    let refs = snapshot.refs.into_iter();
    found.extend(refs.map(|((project, name), at)| Record::Ref(project, name, Some(at))));
    assert_eq!(found, active);
    let ids = snapshot.last_ids;
    assert_eq!((ids.build, ids.job, ids.attempt, ids.instance, ids.change), (2, 3, 3, 3, 6));
    assert_eq!(snapshot.last_numbers, [("hello".into(), BuildNumber(2))].into());
}

#[tokio::test]
async fn a_build_is_listed_page_by_page_without_gap_or_repeat() {
    let (_dir, store) = open();
    let mut records = Vec::new();
    for id in 1..=30 {
        let mut build = sample::build(id);
        build.project = if id % 3 == 0 { "other".into() } else { "hello".into() };
        build.ref_name = if id % 2 == 0 { "refs/heads/main".into() } else { "refs/x".into() };
        build.status = if id % 5 == 0 { BuildStatus::Failed } else { BuildStatus::Passed };
        records.push(Record::Build(build));
    }
    store.commit(records).await.unwrap();
    let check = async |of: BuildsOf, status, keep: fn(u64) -> bool| {
        let expected: Vec<u64> = (1..=30).rev().filter(|id| keep(*id)).collect();
        let (mut listed, mut before) = (Vec::new(), None);
        loop {
            let filter = BuildFilter { of: of.clone(), status };
            let page = store.builds(filter, before, 3).await.unwrap();
            let Some(last) = page.last() else { break };
            before = Some(last.id);
            listed.extend(page.iter().map(|build| build.id.0));
        }
        assert_eq!(listed, expected, "{of:?} {status:?}");
    };
    let failed = Some(BuildStatus::Failed);
    let main = BuildsOf::Ref("hello".into(), "refs/heads/main".into());
    check(BuildsOf::Everyone, None, |_| true).await;
    check(BuildsOf::Everyone, failed, |id| id % 5 == 0).await;
    check(BuildsOf::Project("other".into()), None, |id| id % 3 == 0).await;
    check(BuildsOf::Project("other".into()), failed, |id| id % 15 == 0).await;
    check(main.clone(), None, |id| id % 3 != 0 && id % 2 == 0).await;
    check(main, failed, |id| id % 3 != 0 && id % 10 == 0).await;
    let latest = store.latest_builds().await.unwrap();
    assert_eq!(latest.iter().map(|build| build.id.0).collect::<Vec<_>>(), [29, 30]);
}

#[tokio::test]
async fn a_step_that_has_ended_stays_so_whatever_is_told_again() {
    let (_dir, store) = open();
    let ended = sample::step(1, 1, Some(StepOutcome::Exited(0)));
    let mut without_log = ended.clone();
    without_log.log_incomplete = true;
    let told = [
        (sample::step(1, 1, None), sample::step(1, 1, None)),
        (without_log.clone(), without_log.clone()),
        (sample::step(1, 1, None), without_log),
        // Its log was given up, and came after all.
        (ended.clone(), ended.clone()),
        (sample::step(1, 1, None), ended.clone()),
        (sample::step(1, 1, Some(StepOutcome::Exited(1))), ended),
    ];
    for (record, kept) in told {
        store.commit(vec![Record::Step(record.clone())]).await.unwrap();
        let steps = store.steps_of(AttemptId(1)).await.unwrap();
        assert_eq!(steps, [kept], "after {record:?}");
    }
}

#[tokio::test]
async fn every_outcome_of_a_step_and_every_state_of_an_attempt_reads_back() {
    let (_dir, store) = open();
    let outcomes = [
        None,
        Some(StepOutcome::Exited(-1)),
        Some(StepOutcome::Signalled(9)),
        Some(StepOutcome::TimedOut),
        Some(StepOutcome::OutOfMemory),
        Some(StepOutcome::Cancelled),
        Some(StepOutcome::Skipped),
        Some(StepOutcome::Infra("no disk".into())),
    ];
    let steps: Vec<_> =
        (0..).zip(outcomes).map(|(step, outcome)| sample::step(1, step, outcome)).collect();
    let states = [
        AttemptState::Assigned,
        AttemptState::Started,
        AttemptState::Passed,
        AttemptState::Failed,
        AttemptState::Cancelled,
        AttemptState::Infra("it burned".into()),
    ];
    let attempts: Vec<_> = (1..)
        .zip(states)
        .map(|(id, state)| {
            let mut attempt = sample::attempt(id, state);
            attempt.job = JobId(1);
            attempt
        })
        .collect();
    let mut records: Vec<Record> = steps.iter().cloned().map(Record::Step).collect();
    records.extend(attempts.iter().cloned().map(Record::Attempt));
    store.commit(records).await.unwrap();
    assert_eq!(store.steps_of(AttemptId(1)).await.unwrap(), steps);
    assert_eq!(store.attempts_of(JobId(1)).await.unwrap(), attempts);
}

#[tokio::test]
async fn a_start_that_is_told_again_does_not_undo_a_steps_end() {
    let (_dir, store) = open();
    let started = || Record::Step(sample::step(1, 1, None));
    let ended = sample::step(1, 1, Some(StepOutcome::Exited(3)));
    store.commit(vec![started(), Record::Step(ended.clone()), started()]).await.unwrap();
    let found = store.steps_of(AttemptId(1)).await.unwrap();
    assert_eq!(found, std::slice::from_ref(&ended));
    store.commit(vec![started()]).await.unwrap();
    assert_eq!(store.steps_of(AttemptId(1)).await.unwrap(), [ended]);
}

#[tokio::test]
async fn the_longest_waiting_job_is_first_in_the_queue_and_spec_is_never_rewritten() {
    let (_dir, store) = open();
    let mut jobs = [sample::job(1, 1), sample::job(2, 1), sample::job(3, 1)];
    for (job, queued_at) in jobs.iter_mut().zip([30, 10, 20]) {
        job.status = JobStatus::Queued;
        job.queued_at = Some(Timestamp(queued_at));
    }
    let mut records: Vec<Record> = jobs.iter().cloned().map(Record::Job).collect();
    records.push(Record::Build(sample::build(1)));
    store.commit(records).await.unwrap();
    let order: Vec<u64> =
        store.queued_jobs(10).await.unwrap().iter().map(|(job, _)| job.id.0).collect();
    assert_eq!(order, [2, 3, 1]);

    let mut changed = jobs[1].clone();
    changed.status = JobStatus::Failed;
    changed.spec = sample::job_spec("another").into();
    store.commit(vec![Record::Job(changed.clone())]).await.unwrap();
    changed.spec = jobs[1].spec.clone();
    let of_build = store.jobs_of(BuildId(1)).await.unwrap();
    assert_eq!(of_build, [jobs[0].clone(), changed, jobs[2].clone()]);
    let loaded = store.load_build("hello".into(), BuildNumber(1)).await.unwrap().unwrap();
    assert_eq!((loaded.build, loaded.jobs), (sample::build(1), of_build));
    assert_eq!(store.load_build("hello".into(), BuildNumber(9)).await.unwrap(), None);
}

#[tokio::test]
async fn the_home_page_counts_what_is_not_over() {
    let (_dir, store) = open();
    let mut queued = sample::build(2);
    queued.status = BuildStatus::Queued;
    let mut over = sample::build(3);
    over.status = BuildStatus::Infra;
    let records = vec![
        Record::Build(sample::build(1)),
        Record::Build(queued),
        Record::Build(over),
        Record::Job(sample::job(1, 1)),
        Record::Worker(sample::worker("w-1", Enrolment::Alarmed)),
        Record::Instance(sample::instance(1, InstanceStatus::Terminated)),
    ];
    store.commit(records).await.unwrap();
    let counts = store.counts().await.unwrap();
    let builds = [(BuildStatus::Queued, 1), (BuildStatus::Running, 1)];
    assert_eq!(counts.builds, builds.into());
    assert_eq!(counts.jobs, [(JobStatus::Running, 1)].into());
    assert_eq!(counts.workers, [(WorkerStatus::Busy, 1)].into());
    assert!(counts.instances.is_empty());
    let active: Vec<_> = store.active_builds(1).await.unwrap();
    assert_eq!(active.iter().map(|build| build.id.0).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn gone_workers_and_the_ledger_are_paged_newest_first() {
    let (_dir, store) = open();
    let mut records = vec![Record::Worker(sample::worker("here", Enrolment::Alarmed))];
    for id in 1..=5 {
        let mut worker = sample::worker(&format!("w-{id}"), Enrolment::Alarmed);
        worker.status = WorkerStatus::Gone;
        worker.ended_at = Some(Timestamp(id / 2));
        records.push(Record::Worker(worker));
        records.push(Record::Instance(sample::instance(id, InstanceStatus::Terminated)));
    }
    store.commit(records).await.unwrap();
    let first = store.gone_workers(None, 3).await.unwrap();
    let last = first.last().unwrap();
    let next = Some((last.ended_at.unwrap(), last.name.clone()));
    let rest = store.gone_workers(next, 3).await.unwrap();
    let names: Vec<&str> = first.iter().chain(&rest).map(|worker| worker.name.as_str()).collect();
    assert_eq!(names, ["w-5", "w-4", "w-3", "w-2", "w-1"]);
    let present: Vec<_> = store.workers().await.unwrap();
    assert_eq!(present.iter().map(|w| w.name.as_str()).collect::<Vec<_>>(), ["here"]);
    let page = store.instances(Some(InstanceId(4)), 2).await.unwrap();
    assert_eq!(page.iter().map(|instance| instance.id.0).collect::<Vec<_>>(), [3, 2]);
}

#[tokio::test]
async fn the_files_are_for_their_owner_only_and_facts_survive() {
    let (dir, store) = open();
    store.set_meta("token", "t1".into()).await.unwrap();
    store.set_meta("token", "t2".into()).await.unwrap();
    let mode = |path: &Path| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    assert!(store.release_ballast().unwrap());
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.meta("token").await.unwrap().as_deref(), Some("t2"));
    assert_eq!(store.meta("other").await.unwrap(), None);
    assert!(store.release_ballast().unwrap(), "a start takes it aboard again");
}
