//! What is started ahead, and what is not.

use super::*;
use crate::master::domain::decision::Action;
use crate::master::domain::event::Proof;
use crate::master::domain::forecast::Estimate;
use crate::master::domain::pipeline::Concurrency;
use crate::master::domain::pipeline::JobSpec;
use crate::master::domain::pipeline::OnNew;
use crate::master::domain::rig;
use crate::master::domain::rig::Rig;
use crate::master::domain::settings::PoolSettings;
use crate::model::attempt::AttemptOutcome;
use crate::model::attempt::AttemptRef;
use crate::model::ids::ConnectionId;
use crate::model::status::WorkerStatus;

fn pool() -> PoolSettings {
    PoolSettings { look_ahead: true, ..rig::pool("linux") }
}

/// `build` is known to take 300 s and to pass so often, and machines to come in 60 s.
fn learned(pool: PoolSettings, passes: u64) -> Rig {
    let seen = |mean| Estimate { mean, seen: 4 };
    let mut time = JobTime::new("app".into(), "build".into());
    (time.took_ms, time.passes) = (seen(300_000), seen(passes));
    let mut forecast = PoolForecast::new("linux".into());
    // 60 s with the first machine here, which is there at once.
    forecast.boot_ms = seen(80_000);
    let (job_times, pool_forecasts) = (vec![time], vec![forecast]);
    Rig::load(vec![pool], Snapshot { job_times, pool_forecasts, ..Snapshot::default() })
}

/// `build` has just begun; two jobs need it.
fn building(rig: &mut Rig) -> (WorkerName, ConnectionId, AttemptRef) {
    let needing = |name| rig::job(name, &["build"]);
    rig.build("app", vec![rig::job("build", &[]), needing("a"), needing("b")]);
    let (_, worker, connection) = rig.arrive();
    let attempt = rig.given();
    rig.start(&worker, attempt);
    (worker, connection, attempt)
}

fn asked_for(done: &[Action]) -> usize {
    done.iter().filter(|action| matches!(action, Action::Prepare { .. })).count()
}

fn forecast(rig: &Rig) -> PoolForecast {
    let found = rig.written.iter().rev().find_map(|record| match record {
        Record::PoolForecast(pool) => Some(pool.clone()),
        _ => None,
    });
    found.expect("something was learned of the pool")
}

/// The machine that was started ahead is ready.
fn arrives_ahead(rig: &mut Rig) -> (WorkerName, ConnectionId) {
    let worker = forecast(rig).ahead.first().cloned().expect("a machine was started ahead");
    let instance = rig.worker(&worker).instance.expect("it has one");
    rig.accept(instance);
    let connection = rig.connect(&worker, rig::hello(Proof::Password), &[]);
    (worker, connection)
}

#[test]
fn none_is_started_for_jobs_that_will_be_ready_before_their_turn_comes() {
    let mut rig = learned(pool(), 1000);
    let group = Concurrency { group: "prod".to_owned(), limit: 1, on_new: OnNew::Queue };
    let deploy = |name, needs: &[&str]| JobSpec {
        concurrency: Some(group.clone()),
        ..rig::job(name, needs)
    };
    rig.build("app", vec![deploy("first", &[])]);
    let (_, other, to_other) = rig.arrive();
    let first = rig.given();
    rig.start(&other, first);
    let jobs = [rig::job("build", &[]), deploy("a", &["build"]), deploy("b", &["build"])];
    rig.build("app", jobs.to_vec());
    let (_, worker, connection) = rig.arrive();
    let attempt = rig.given();
    rig.start(&worker, attempt);
    let done = rig.wait_beating(290, &[(&worker, connection), (&other, to_other)]);
    assert_eq!(asked_for(&done), 0);
}

#[test]
fn a_machine_is_started_so_that_it_is_ready_when_the_next_job_is_queued() {
    let mut rig = learned(pool(), 1000);
    let (worker, connection, attempt) = building(&mut rig);
    assert_eq!(asked_for(&rig.wait_beating(230, &[(&worker, connection)])), 0, "too early");
    let done = rig.wait_beating(20, &[(&worker, connection)]);
    assert_eq!(asked_for(&done), 1, "two jobs will wait, and one worker will be free");
    let (ahead, at_ahead) = arrives_ahead(&mut rig);
    let both = [(&worker, connection), (&ahead, at_ahead)];
    assert_eq!(asked_for(&rig.wait_beating(50, &both)), 0, "once is enough");
    rig.finish(&worker, attempt, AttemptOutcome::Passed);
    assert!(rig.launches().is_empty());
    let mut busy = [rig.job("a").worker, rig.job("b").worker];
    busy.sort();
    let mut expected = [Some(worker), Some(ahead)];
    expected.sort();
    assert_eq!(busy, expected, "nobody waited");
    assert_eq!((forecast(&rig).hits, forecast(&rig).misses), (1, 0));
    assert!(forecast(&rig).ahead.is_empty());
}

#[test]
fn a_machine_that_was_started_in_vain_idles_out_is_counted_and_is_not_started_again() {
    let mut rig = learned(pool(), 1000);
    let (worker, connection, attempt) = building(&mut rig);
    rig.wait_beating(250, &[(&worker, connection)]);
    let (ahead, at_ahead) = arrives_ahead(&mut rig);
    // It takes much longer this time.
    let done = rig.wait_beating(320, &[(&worker, connection), (&ahead, at_ahead)]);
    assert_eq!(rig.worker(&ahead).status, WorkerStatus::Gone);
    assert_eq!((forecast(&rig).hits, forecast(&rig).misses), (0, 1));
    assert_eq!(asked_for(&done), 0, "one machine for one job, at most");
    rig.finish(&worker, attempt, AttemptOutcome::Failed);
    assert!(rig.launches().is_empty());
}

#[test]
fn a_worker_that_will_be_wanted_does_not_end_for_idling_until_that_is_late() {
    let short = PoolSettings { idle_timeout: Duration::from_secs(20), ..pool() };
    let mut rig = learned(short, 1000);
    let (worker, connection, attempt) = building(&mut rig);
    rig.wait_beating(245, &[(&worker, connection)]);
    let (ahead, at_ahead) = arrives_ahead(&mut rig);
    let both = [(&worker, connection), (&ahead, at_ahead)];
    rig.wait_beating(110, &both);
    assert_eq!(rig.worker(&ahead).status, WorkerStatus::Idle, "a minute late is not too late");
    rig.wait_beating(20, &both);
    assert_eq!(rig.worker(&ahead).status, WorkerStatus::Gone);
    rig.finish(&worker, attempt, AttemptOutcome::Passed);
}

#[test]
fn nothing_is_started_ahead_beyond_the_maximum_nor_for_what_mostly_fails_nor_unasked() {
    let off = PoolSettings { look_ahead: false, ..pool() };
    let full = PoolSettings { max_instances: 1, ..pool() };
    for (pool, passes) in [(full, 1000), (pool(), 300), (off, 1000)] {
        let mut rig = learned(pool.clone(), passes);
        let (worker, connection, _) = building(&mut rig);
        let done = rig.wait_beating(400, &[(&worker, connection)]);
        assert_eq!(asked_for(&done), 0, "{pool:?} {passes}");
    }
}

#[test]
fn where_each_job_has_a_machine_of_its_own_the_next_of_a_chain_is_started_ahead() {
    let mut rig = learned(PoolSettings { jobs_per_instance: 1, ..pool() }, 1000);
    let chain = ["build", "a", "b"].windows(2).map(|pair| rig::job(pair[1], &[pair[0]]));
    rig.build("app", [rig::job("build", &[])].into_iter().chain(chain).collect());
    let (_, worker, connection) = rig.arrive();
    let attempt = rig.given();
    rig.start(&worker, attempt);
    let done = rig.wait_beating(250, &[(&worker, connection)]);
    assert_eq!(asked_for(&done), 1, "for a; of b nothing is known, as a never ran");
}
