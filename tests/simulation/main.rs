//! The real decisions of the master and of its agents, and the real ends of the connections between
//! them, in a fake world with virtual time. One seed is one history.
//!
//! `SEED=42 cargo test --test simulation` runs one history and prints it;
//! `SEEDS=1000000 cargo test --release --test simulation -- --nocapture the_laws` runs many, on all
//! cores, and says how far it is. `FROM=1000` begins at another seed, `MINUTES=60` ends it after that
//! time.

mod acts;
mod agents;
mod budgets;
mod clocks;
mod cloud;
mod disk;
mod ears;
mod foresight;
mod greetings;
mod groups;
mod hosts;
mod laws;
mod links;
mod logs;
mod master;
mod people;
mod planted;
mod power;
mod reasons;
mod runner;
mod shipping;
mod supervisors;
mod trace;
mod watchers;
mod world;

use std::sync::OnceLock;

use crate::planted::Planted;
use crate::runner::Ran;
use crate::runner::caught;
use crate::runner::history;
use crate::runner::many;
use crate::runner::number_from_env;

/// Histories in each run of the test suite: half a minute.
const SEEDS: u64 = 300;

/// They are run once, whoever looks at what became of them.
static RAN: OnceLock<Ran> = OnceLock::new();

fn ran() -> &'static Ran {
    RAN.get_or_init(|| {
        let from = number_from_env("FROM").unwrap_or(1);
        many(from, number_from_env("SEEDS").unwrap_or(SEEDS))
    })
}

#[test]
fn the_laws_hold_whatever_fails() {
    if let Some(seed) = number_from_env("SEED") {
        let (world, told) = history(seed, Planted::Nothing, true);
        println!("{}", world.trace.unwrap_or_default().join("\n"));
        assert_eq!(told, Ok(()), "SEED={seed}");
        return;
    }
    let ran = ran();
    println!("{} histories, {} events; {:?}", ran.n_histories, ran.n_events, ran.counts);
    if let Some(story) = &ran.story {
        panic!("{story}");
    }
}

#[test]
fn one_seed_is_one_history() {
    for seed in [7, 8, 9] {
        let trace = || history(seed, Planted::Nothing, true).0.trace.unwrap_or_default();
        let (one, other) = (trace(), trace());
        assert!(one.len() > 500, "a history has more than {} lines", one.len());
        assert_eq!(one, other);
    }
}

#[test]
fn the_faults_do_happen() {
    let counts = &ran().counts;
    let expected = [
        "agent gives up a connection",
        "agent killed",
        "alarm",
        "attempt rejected",
        "boot hangs",
        "bootstrap fails",
        "bootstrap hangs",
        "budget spent",
        "cancel ignored",
        "chunk lost",
        "clock set",
        "cloud down",
        "commit failed",
        "connection cut",
        "crash before commit",
        "crash between commit and act",
        "equipment late",
        "equipment taken",
        "frame cut",
        "gave way",
        "half open",
        "launch refused",
        "launch's answer lost",
        "left out",
        "listing failed",
        "listing lags",
        "log incomplete",
        "log sync failed",
        "log write failed",
        "machine reboots",
        "machine started again",
        "machine stopped",
        "machine unclean",
        "machine vanishes",
        "master crashes",
        "master's disk full",
        "network gone",
        "preparation failed",
        "repository down",
        "shutdown ignored",
        "spot notice",
        "spot taken",
        "stall",
        "started ahead",
        "started ahead and served",
        "started ahead in vain",
        "start refused",
        "start's answer lost",
        "stop lost",
        "stop refused",
        "step hangs",
        "supervisor killed",
        "termination lost",
        "termination refused",
        "thief calls",
        "told twice",
        "waited for a turn",
        "worker's disk full",
    ];
    for name in expected {
        assert!(counts.contains_key(name), "{name} never happened: {counts:?}");
    }
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
fn a_job_that_is_not_given_out_again_would_be_noticed() {
    assert!(caught(Planted::ReassignForgotten).is_some());
}

#[test]
fn a_turn_that_has_not_come_would_be_noticed() {
    assert!(caught(Planted::LineForgotten).is_some());
}

#[test]
fn an_ignored_fence_would_be_noticed() {
    assert!(caught(Planted::FenceIgnored).is_some());
}

#[test]
fn an_ack_before_its_log_is_durable_would_be_noticed() {
    assert!(caught(Planted::AckBeforeDurable).is_some());
}

#[test]
fn an_ignored_lease_would_be_noticed() {
    assert!(caught(Planted::LeaseIgnored).is_some());
}

#[test]
fn an_end_that_is_not_told_would_be_noticed() {
    assert!(caught(Planted::NoticeDropped).is_some());
}

#[test]
fn a_machine_that_is_never_ended_would_be_noticed() {
    assert!(caught(Planted::TerminationForgotten).is_some());
}

#[test]
fn a_budget_that_is_not_kept_would_be_noticed() {
    assert!(caught(Planted::BudgetForgotten).is_some());
}

#[test]
fn a_stopped_machine_that_is_kept_for_ever_would_be_noticed() {
    assert!(caught(Planted::StoppedForgotten).is_some());
}

#[test]
fn a_clock_that_is_set_and_trusted_would_be_noticed() {
    assert!(caught(Planted::ClockTrusted).is_some());
}
