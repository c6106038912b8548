//! Buildbot's way with latent workers: as many worker entries as machines, each a machine at most; a job
//! goes to a random free entry, whether its machine is up or not (`BuilderConfig.nextWorker`, "by default
//! a random worker is chosen"); a machine without a job ends after `build_wait_timeout`, 10 min.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::MAX_INSTANCES;
use crate::outcome::Outcome;
use crate::traces::Arrival;
use crate::traces::Dice;
use crate::traces::Trace;
use crate::world;

const BUILD_WAIT_TIMEOUT: Duration = Duration::from_secs(600);

/// An entry: when its job ends or ended, and since when its machine is up, if it has ever been.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    free_at: Duration,
    up_since: Option<Duration>,
}

impl Entry {
    /// When its machine ends if no job comes.
    fn ends_at(&self) -> Duration {
        self.free_at + BUILD_WAIT_TIMEOUT
    }
}

pub(crate) fn run(trace: &Trace, seed: u64) -> Outcome {
    let (mut dice, mut outcome) = (Dice::new(seed), Outcome::default());
    let mut entries = [Entry::default(); MAX_INSTANCES as usize];
    // Jobs that can run, by when they could and their place: build and job.
    let mut ready: BTreeSet<(Duration, usize, usize)> = BTreeSet::new();
    let mut ends: Vec<BTreeMap<&str, Duration>> = vec![BTreeMap::new(); trace.len()];
    for (build, arrival) in trace.iter().enumerate() {
        ready.extend(needing(arrival, &[]).map(|job| (arrival.at, build, job)));
    }
    while let Some((at, build, job)) = ready.pop_first() {
        let work = &trace[build].jobs[job];
        // Nobody free: the first that becomes so.
        let earliest = entries.iter().map(|entry| entry.free_at).min().unwrap_or_default();
        let now = at.max(earliest);
        let free: Vec<usize> = (0..entries.len()).filter(|i| entries[*i].free_at <= now).collect();
        let entry = &mut entries[free[dice.below(free.len() as u64) as usize]];
        if let Some(since) = entry.up_since.filter(|_| entry.ends_at() <= now) {
            outcome.machine(entry.ends_at() - since);
            entry.up_since = None;
        }
        let begins = match entry.up_since {
            Some(_) => now,
            None => {
                entry.up_since = Some(now + world::PENDING);
                now + world::PENDING + world::boot(&mut dice)
            }
        };
        entry.free_at = begins + work.runs;
        outcome.job(begins - at, work.runs);
        ends[build].insert(work.name, entry.free_at);
        let over: Vec<&str> = ends[build].keys().copied().collect();
        for next in needing(&trace[build], &over) {
            let needs = trace[build].jobs[next].needs;
            if needs.contains(&work.name) {
                let last = needs.iter().filter_map(|name| ends[build].get(name)).max();
                ready.insert((last.copied().unwrap_or_default(), build, next));
            }
        }
    }
    for entry in entries {
        if let Some(since) = entry.up_since {
            outcome.machine(entry.ends_at() - since);
        }
    }
    outcome
}

/// Jobs of which all needs are among these.
fn needing(arrival: &Arrival, over: &[&str]) -> impl Iterator<Item = usize> {
    let jobs = arrival.jobs.iter().enumerate();
    jobs.filter(|(_, work)| work.needs.iter().all(|name| over.contains(name)))
        .map(|(index, _)| index)
}
