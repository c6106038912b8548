//! Arrivals: which jobs come when, and how long each runs. Synthetic, drawn from a seed.

use std::time::Duration;

/// A push: a build of some jobs.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    /// Since the begin.
    pub(crate) at: Duration,
    pub(crate) jobs: Vec<Work>,
}

/// A job of a build.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    /// The same in each build: what looking ahead learns by.
    pub(crate) name: &'static str,
    pub(crate) runs: Duration,
    /// Which of its build must be over before.
    pub(crate) needs: &'static [&'static str],
}

/// A job that needs none other.
fn alone(runs: Duration) -> Work {
    Work { name: "test", runs, needs: &[] }
}

/// A build of one job.
fn single(at: Duration, runs: Duration) -> Arrival {
    Arrival { at, jobs: vec![alone(runs)] }
}

/// All builds of a run, in order of their arrival.
pub(crate) type Trace = Vec<Arrival>;

/// Draws a trace from a seed.
pub(crate) type MakeTrace = fn(u64) -> Trace;

/// Every kind of trace, by name.
pub(crate) const ALL: &[(&str, MakeTrace)] = &[
    ("Bursts: a push of 12 jobs (2 to 6 min) about every 40 min, 10 h", bursts),
    (
        "Working hours: pushes of 3 jobs (1 to 8 min), 6 an hour from 9 to 18, two nightly jobs; 3 days",
        working_hours,
    ),
    (
        "One long among many short: a job of 90 min, and one of 1 to 3 min about every 4 min, 10 h",
        long_and_short,
    ),
    ("Calm: a job of 5 min about every 50 min, 24 h", calm),
    (
        "Fans: build (4 min), then 5 tests (3 to 5 min), then package (1 min), about every 30 min, 10 h",
        fans,
    ),
    ("Chains: three jobs of 2 to 4 min, one after another, about every 20 min, 10 h", chains),
];

/// A source of chance: xorshift64.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n.max(1)
    }

    /// A time between two, in seconds.
    pub(crate) fn between(&mut self, from_s: u64, to_s: u64) -> Duration {
        Duration::from_secs(from_s + self.below(to_s - from_s + 1))
    }

    /// Until the next of things that come at random, at this mean distance.
    fn next(&mut self, mean_s: u64) -> Duration {
        let unit = (self.below(1 << 32) as f64 + 1.0) / (1_u64 << 32) as f64;
        Duration::from_secs_f64(-unit.ln() * mean_s as f64)
    }
}

const HOUR: Duration = Duration::from_secs(3600);

fn in_order(mut trace: Trace) -> Trace {
    trace.sort_by_key(|arrival| arrival.at);
    trace
}

fn bursts(seed: u64) -> Trace {
    let (mut dice, mut trace) = (Dice::new(seed), Trace::new());
    let mut at = dice.next(2400);
    while at < 10 * HOUR {
        for _ in 0..12 {
            trace.push(single(at, dice.between(120, 360)));
        }
        at += dice.next(2400);
    }
    trace
}

fn working_hours(seed: u64) -> Trace {
    let (mut dice, mut trace) = (Dice::new(seed), Trace::new());
    for day in 0..3 {
        let midnight = 24 * HOUR * day;
        for _ in 0..2 {
            trace.push(single(midnight + 3 * HOUR, dice.between(1200, 2400)));
        }
        let mut at = midnight + 9 * HOUR + dice.next(600);
        while at < midnight + 18 * HOUR {
            for _ in 0..3 {
                trace.push(single(at, dice.between(60, 480)));
            }
            at += dice.next(600);
        }
    }
    in_order(trace)
}

fn long_and_short(seed: u64) -> Trace {
    let (mut dice, mut trace) = (Dice::new(seed), Trace::new());
    trace.push(single(HOUR, Duration::from_secs(90 * 60)));
    let mut at = dice.next(240);
    while at < 10 * HOUR {
        trace.push(single(at, dice.between(60, 180)));
        at += dice.next(240);
    }
    in_order(trace)
}

fn calm(seed: u64) -> Trace {
    let (mut dice, mut trace) = (Dice::new(seed), Trace::new());
    let mut at = dice.next(3000);
    while at < 24 * HOUR {
        trace.push(single(at, Duration::from_secs(300)));
        at += dice.next(3000);
    }
    trace
}

/// Of about this time: a tenth more or less.
fn about(dice: &mut Dice, mean_s: u64) -> Duration {
    dice.between(mean_s - mean_s / 10, mean_s + mean_s / 10)
}

fn fans(seed: u64) -> Trace {
    const TESTS: [(&str, u64); 5] =
        [("unit", 180), ("web", 210), ("slow", 300), ("docs", 180), ("arm", 240)];
    let (mut dice, mut trace) = (Dice::new(seed), Trace::new());
    let mut at = dice.next(1800);
    while at < 10 * HOUR {
        let mut jobs = vec![Work { name: "build", runs: about(&mut dice, 240), needs: &[] }];
        for (name, mean_s) in TESTS {
            jobs.push(Work { name, runs: about(&mut dice, mean_s), needs: &["build"] });
        }
        let needs = &["unit", "web", "slow", "docs", "arm"];
        jobs.push(Work { name: "package", runs: about(&mut dice, 60), needs });
        trace.push(Arrival { at, jobs });
        at += dice.next(1800);
    }
    trace
}

fn chains(seed: u64) -> Trace {
    let (mut dice, mut trace) = (Dice::new(seed), Trace::new());
    let mut at = dice.next(1200);
    while at < 10 * HOUR {
        let mut job = |name, mean_s, needs| Work { name, runs: about(&mut dice, mean_s), needs };
        let jobs = vec![
            job("build", 240, &[]),
            job("test", 180, &["build"]),
            job("deploy", 120, &["test"]),
        ];
        trace.push(Arrival { at, jobs });
        at += dice.next(1200);
    }
    trace
}
