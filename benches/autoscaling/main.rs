//! How long jobs wait, and what machines cost, under several policies on the same arrivals:
//! `cargo bench --bench autoscaling`.
//!
//! Virtual time: days take milliseconds. Ours is the real domain with the settings of a pool; what other
//! systems do stands in `buildbot.rs`. The figures are of the model, not of EC2: machines take as long to
//! boot as `world.rs` says.

mod buildbot;
mod outcome;
mod traces;
mod world;

use std::time::Duration;

use crate::outcome::Outcome;
use crate::traces::MakeTrace;
use crate::traces::Trace;
use crate::world::Policy;

/// Machines at one time, under every policy.
const MAX_INSTANCES: u32 = 10;

/// Each figure is of this many runs whose boots and arrivals differ.
const SEEDS: u64 = 5;

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

fn policies() -> Vec<(String, Policy)> {
    let ours = |idle: u64, min_idle: u32| Policy {
        idle_timeout: minutes(idle),
        jobs_per_instance: 0,
        min_idle,
        look_ahead: false,
    };
    let alone = |look_ahead| Policy {
        idle_timeout: Duration::ZERO,
        jobs_per_instance: 1,
        min_idle: 0,
        look_ahead,
    };
    let mut policies = vec![("one instance per job".to_owned(), alone(false))];
    // One that is started ahead must be allowed to wait for its job.
    let waits = Policy { idle_timeout: minutes(2), ..alone(true) };
    policies.push(("one instance per job, 2 min, look_ahead".to_owned(), waits));
    for idle in [1, 2, 5, 10, 20, 30] {
        policies.push((format!("ours, idle_timeout {idle} min"), ours(idle, 0)));
    }
    for idle in [2, 5, 10] {
        let policy = Policy { look_ahead: true, ..ours(idle, 0) };
        policies.push((format!("ours, {idle} min, look_ahead"), policy));
    }
    policies.push(("ours, 10 min, min_idle 1".to_owned(), ours(10, 1)));
    policies
}

fn main() {
    for (name, make) in traces::ALL {
        println!("\n{name}");
        println!(
            "| policy | wait p50 | p95 | mean | billed h | busy h | busy of billed | starts | ahead |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
        show("Buildbot: a random free worker, 10 min", *make, buildbot::run);
        for (label, policy) in policies() {
            show(&label, *make, |trace, seed| world::run(trace, &policy, seed));
        }
    }
}

fn show(label: &str, make: MakeTrace, run: impl Fn(&Trace, u64) -> Outcome) {
    let all = (1..=SEEDS).map(|seed| run(&make(seed), seed)).collect();
    println!("| {label} | {} |", Outcome::together(all).row(SEEDS));
}
