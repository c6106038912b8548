//! What a run came to.

use std::time::Duration;

/// EC2 bills at least this much of each start (of Linux): User Guide, "On-Demand Instances", billing.
const BILLED_AT_LEAST: Duration = Duration::from_secs(60);

/// How long jobs waited, and what ran for how long.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// From when a job could run until it did.
    pub(crate) waits: Vec<Duration>,
    pub(crate) billed: Duration,
    pub(crate) busy: Duration,
    pub(crate) starts: usize,
    /// Machines that were started ahead and served, and those that did not.
    pub(crate) hits: usize,
    pub(crate) misses: usize,
}

impl Outcome {
    /// A machine was up for so long.
    pub(crate) fn machine(&mut self, up: Duration) {
        self.billed += up.max(BILLED_AT_LEAST);
        self.starts += 1;
    }

    /// A job waited and ran.
    pub(crate) fn job(&mut self, waited: Duration, ran: Duration) {
        self.waits.push(waited);
        self.busy += ran;
    }

    /// Several runs as one.
    pub(crate) fn together(all: Vec<Outcome>) -> Outcome {
        let mut sum = Outcome::default();
        for one in all {
            sum.waits.extend(one.waits);
            sum.billed += one.billed;
            sum.busy += one.busy;
            sum.starts += one.starts;
            sum.hits += one.hits;
            sum.misses += one.misses;
        }
        sum.waits.sort();
        sum
    }

    /// How long jobs waited, on average, in seconds.
    fn mean(&self) -> u64 {
        let sum: Duration = self.waits.iter().sum();
        sum.as_secs() / self.waits.len().max(1) as u64
    }

    /// The cells of a table's row, per run.
    pub(crate) fn row(&self, runs: u64) -> String {
        let at = |hundredths: usize| {
            let index = (self.waits.len() * hundredths / 100).min(self.waits.len().max(1) - 1);
            self.waits.get(index).map_or(0, Duration::as_secs)
        };
        let hours = |time: Duration| time.as_secs_f64() / 3600.0 / runs as f64;
        let ahead = match self.hits + self.misses {
            0 => String::new(),
            all => format!("{} of {all}", self.hits),
        };
        format!(
            "{} s | {} s | {} s | {:.1} | {:.1} | {:.0} % | {:.0} | {ahead}",
            at(50),
            at(95),
            self.mean(),
            hours(self.billed),
            hours(self.busy),
            100.0 * self.busy.as_secs_f64() / self.billed.as_secs_f64().max(1.0),
            self.starts as f64 / runs as f64,
        )
    }
}
