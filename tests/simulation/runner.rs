//! Runs histories: one, many on all cores, or until a planted bug is noticed.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use busybee::model::time::Timestamp;
use busybee::runtime::clock;

use crate::planted::Planted;
use crate::world::World;

/// In how many histories each planted bug must have been noticed once.
const SEEDS_UNTIL_CAUGHT: u64 = 500;

/// Lines before a failure that are printed.
const LINES_SHOWN: usize = 60;

/// How long faults last.
const FAULTS_LAST: Duration = Duration::from_secs(3600);

/// How long the world has to come to rest after them: more than a machine's longest life.
const REST_COMES: Duration = Duration::from_secs(5 * 3600);

/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_secs(300);

/// How often a long run says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// What became of many histories.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    pub(crate) n_histories: u64,
    pub(crate) n_events: u64,
    pub(crate) counts: BTreeMap<&'static str, u64>,
    /// The first that broke a law, as people read it.
    pub(crate) story: Option<String>,
}

fn live(world: &mut World) {
    let start = world.now;
    world.run_until(start + FAULTS_LAST);
    world.faults = false;
    world.note(|| "-- faults stop".to_owned());
    let end = start + FAULTS_LAST + REST_COMES + world.rest_waits_for_budgets();
    // Whatever was on its way has arrived, and every open poll has come.
    world.run_until(start + FAULTS_LAST + 3 * LOOK_EVERY);
    while let Some(why) = world.why_not_quiet() {
        assert!(world.now < end, "the world did not come to rest: {why}");
        let next: Timestamp = world.now + LOOK_EVERY;
        world.run_until(next);
    }
    world.laws_at_the_end();
}

/// Runs one history; says what broke a law.
pub(crate) fn history(seed: u64, planted: Planted, traced: bool) -> (World, Result<(), String>) {
    let mut world = World::new(seed, planted, traced);
    let lived = catch_unwind(AssertUnwindSafe(|| live(&mut world)));
    let told = lived.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "a panic without words".to_owned())
    });
    (world, told)
}

/// The end of a history that broke a law, as people read it.
fn story(seed: u64) -> String {
    let (world, told) = history(seed, Planted::Nothing, true);
    let lines = world.trace.unwrap_or_default();
    let shown = lines.len().saturating_sub(LINES_SHOWN);
    let why = told.err().unwrap_or_else(|| "it did not happen again".to_owned());
    let lines = lines[shown..].join("\n");
    format!(
        "SEED={seed}: {why}\n{lines}\nSEED={seed} cargo test --test simulation prints all of it"
    )
}

/// Runs many histories, on all cores; ends early with the first that breaks a law.
pub(crate) fn many(from: u64, n_seeds: u64) -> Ran {
    let ran = Mutex::new(Ran::default());
    let next = AtomicU64::new(from);
    let began_at = clock::monotonic();
    let until = number_from_env("MINUTES").map(|minutes| began_at + minutes_of(minutes));
    let said_at = Mutex::new(began_at);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let is_late = until.is_some_and(|until| clock::monotonic() > until);
            if seed >= from + n_seeds || is_late || lock(&ran).story.is_some() {
                return;
            }
            let (world, told) = history(seed, Planted::Nothing, false);
            let story = told.err().map(|_| story(seed));
            let mut ran = lock(&ran);
            ran.n_histories += 1;
            ran.n_events += world.n_events;
            for (name, count) in world.counts {
                *ran.counts.entry(name).or_default() += count;
            }
            ran.story = ran.story.take().or(story);
            say_how_far(&said_at, &ran, n_seeds, began_at);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..cores {
            scope.spawn(work);
        }
        work();
    });
    ran.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn say_how_far(said_at: &Mutex<Duration>, ran: &Ran, n_seeds: u64, began_at: Duration) {
    let mut said_at = lock(said_at);
    let now = clock::monotonic();
    if now.saturating_sub(*said_at) < PROGRESS_EVERY {
        return;
    }
    *said_at = now;
    let (done, passed) = (ran.n_histories, now.saturating_sub(began_at).as_secs_f64());
    let left = passed / done as f64 * n_seeds.saturating_sub(done) as f64 / 60.0;
    println!("{done} of {n_seeds} histories, {} events, {left:.0} min left", ran.n_events);
}

fn minutes_of(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

/// The first seed in which a planted bug is noticed.
pub(crate) fn caught(planted: Planted) -> Option<u64> {
    let seed = (1..=SEEDS_UNTIL_CAUGHT).find(|seed| history(*seed, planted, false).1.is_err());
    println!("{planted:?} is noticed in history {seed:?}");
    seed
}

pub(crate) fn number_from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
