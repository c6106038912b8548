//! The real Coordinator in a fake world with virtual time. One seed is one history.
//!
//! `SEEDS=20000 cargo test --test simulation` runs more of them; `SEED=42` runs one and prints it.

mod agents;
mod cloud;
mod disk;
mod laws;
mod logs;
mod people;
mod runs;
mod world;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::time::Duration;

use busybee::model::time::Timestamp;

use crate::world::Planted;
use crate::world::World;

/// Histories in each run of the test suite: a few seconds.
const SEEDS: u64 = 300;

/// In how many histories each planted bug must have been noticed once.
const SEEDS_UNTIL_CAUGHT: u64 = 500;

/// Lines before a failure that are printed.
const LINES_SHOWN: usize = 40;

/// How long faults last.
const FAULTS_LAST: Duration = Duration::from_secs(3600);

/// How long the world has to come to rest after them: more than a machine's longest life.
const REST_COMES: Duration = Duration::from_secs(5 * 3600);

/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_secs(300);

fn live(world: &mut World) {
    let start = world.now;
    world.run_until(start + FAULTS_LAST);
    world.faults = false;
    world.note(|| "-- faults stop".to_owned());
    let end = start + FAULTS_LAST + REST_COMES;
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
fn history(seed: u64, planted: Planted, traced: bool) -> (World, Result<(), String>) {
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
fn story(seed: u64, planted: Planted) -> String {
    let (world, told) = history(seed, planted, true);
    let lines = world.trace.unwrap_or_default();
    let shown = lines.len().saturating_sub(LINES_SHOWN);
    let why = told.err().unwrap_or_else(|| "it did not happen again".to_owned());
    format!("SEED={seed}: {why}\n{}", lines[shown..].join("\n"))
}

fn number_from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn the_laws_hold_whatever_fails() {
    if let Some(seed) = number_from_env("SEED") {
        let (world, told) = history(seed, Planted::Nothing, true);
        println!("{}", world.trace.unwrap_or_default().join("\n"));
        assert_eq!(told, Ok(()), "SEED={seed}");
        return;
    }
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut n_events = 0;
    for seed in 1..=number_from_env("SEEDS").unwrap_or(SEEDS) {
        let (world, told) = history(seed, Planted::Nothing, false);
        assert!(told.is_ok(), "{}", story(seed, Planted::Nothing));
        n_events += world.n_events;
        for (name, count) in world.counts {
            *counts.entry(name).or_default() += count;
        }
    }
    println!("{n_events} events; {counts:?}");
}

#[test]
fn one_seed_is_one_history() {
    let trace = || history(7, Planted::Nothing, true).0.trace.unwrap_or_default();
    let (one, other) = (trace(), trace());
    assert!(one.len() > 500, "a history has more than {} lines", one.len());
    assert_eq!(one, other);
}

#[test]
fn the_faults_do_happen() {
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in 1..=60 {
        for (name, count) in history(seed, Planted::Nothing, false).0.counts {
            *counts.entry(name).or_default() += count;
        }
    }
    let expected = [
        "alarm",
        "attempt hangs",
        "attempt rejected",
        "agent restarts",
        "boot hangs",
        "bootstrap fails",
        "bootstrap hangs",
        "cancel ignored",
        "chunk lost",
        "commit failed",
        "connection cut",
        "crash before commit",
        "crash between commit and act",
        "launch refused",
        "listing failed",
        "log disk full",
        "log incomplete",
        "machine reboots",
        "machine vanishes",
        "master crashes",
        "network gone",
        "repository down",
        "resolved twice",
        "shutdown ignored",
        "termination lost",
        "thief calls",
    ];
    for name in expected {
        assert!(counts.contains_key(name), "{name} never happened: {counts:?}");
    }
}

/// The first seed in which a planted bug is noticed.
fn caught(planted: Planted) -> Option<u64> {
    (1..=SEEDS_UNTIL_CAUGHT).find(|seed| history(*seed, planted, false).1.is_err())
}

#[test]
fn acting_before_committing_would_be_noticed() {
    assert!(caught(Planted::ActBeforeCommit).is_some());
}

#[test]
fn a_dropped_commit_would_be_noticed() {
    assert!(caught(Planted::CommitDropped).is_some());
}

#[test]
fn assignments_forgotten_by_a_restart_would_be_noticed() {
    assert!(caught(Planted::AssignmentsForgotten).is_some());
}

#[test]
fn an_accepted_stale_result_would_be_noticed() {
    assert!(caught(Planted::StaleResultAccepted).is_some());
}

#[test]
fn an_ack_before_its_log_is_durable_would_be_noticed() {
    assert!(caught(Planted::AckBeforeDurable).is_some());
}

#[test]
fn an_ignored_lease_would_be_noticed() {
    assert!(caught(Planted::LeaseIgnored).is_some());
}
