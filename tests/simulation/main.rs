//! One seed, one history: the real domain of the master in a fake world with virtual time.
//!
//! `SEED=42 cargo test --test simulation` prints one history; `SEEDS=100000 cargo test --release
//! --test simulation` runs many.

use std::panic::AssertUnwindSafe;

use busybee::master::domain::event::Event;
use busybee::master::domain::event::Request;
use busybee::model::ids::BuildNumber;
use busybee::model::ids::Commit;
use busybee::model::ids::RefName;

use crate::world::Mutation;
use crate::world::World;

mod disk;
mod laws;
mod scenery;
mod world;

/// Histories in the test suite.
const SEEDS: u64 = 300;

/// Seeds within which each planted bug must be found.
const MUTATION_SEEDS: u64 = 500;

const MINUTE: u64 = 60_000;

/// How many lines of a failed history are shown.
const LINES_SHOWN: usize = 40;

/// Three virtual hours of work and faults, then eight without faults.
fn history(seed: u64, mutation: Mutation) -> Result<String, String> {
    let mut world = World::new(seed, mutation);
    let run = std::panic::catch_unwind(AssertUnwindSafe(|| {
        people(&mut world);
        world.run_until(180 * MINUTE);
        world.faults = false;
        // Pools that paused themselves after failures want somebody to look.
        for minute in 0..3 {
            let at = (180 + minute * 60) * MINUTE;
            world.ask(at, Request::ResumePool("cloud".into()));
        }
        world.run_until(660 * MINUTE);
        laws::finally(&world);
    }));
    let trace = world.trace.join("\n");
    run.map(|()| trace).map_err(|why| {
        let text = why.downcast_ref::<String>().cloned();
        let text = text.or_else(|| why.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let from = world.trace.len().saturating_sub(LINES_SHOWN);
        let story = world.trace[from..].join("\n");
        format!("SEED={seed}: {}\n{story}", text.unwrap_or_default())
    })
}

/// What people and repositories do in the first hours.
fn people(world: &mut World) {
    world.ask(10, Request::AddWorker(scenery::OWN_WORKER.into(), "own".into()));
    world.plug_in(5_000, scenery::OWN_WORKER);
    for hour in 0..3 {
        // Should the first have been lost with a restart.
        let at = hour * 60 * MINUTE + 20_000;
        world.ask(at, Request::AddWorker(scenery::OWN_WORKER.into(), "own".into()));
        world.plug_in(at + 5_000, scenery::OWN_WORKER);
    }
    for number in 0..12 {
        let at = 60_000 + world.random(150 * MINUTE);
        let project = || "hello".into();
        match world.random(6) {
            0 => {
                let number = BuildNumber(1 + world.random(8));
                world.ask(at, Request::CancelBuild(project(), number));
            }
            1 => {
                let number = BuildNumber(1 + world.random(8));
                let failed_only = world.random(2) == 0;
                world.ask(at, Request::RetryBuild { project: project(), number, failed_only });
            }
            _ => {
                let _nth = number;
                world.ask(at, Request::StartBuild { project: project(), reference: None });
            }
        }
    }
    for push in 0..6_u64 {
        let commit = Commit(format!("{push:040}"));
        let refs = vec![(RefName::from("refs/heads/main"), commit)];
        world.listed(
            30_000 + push * 25 * MINUTE,
            Event::RefsListed { project: "hello".into(), refs },
        );
    }
}

#[test]
fn whatever_fails_every_build_ends_and_no_machine_is_left() {
    if let Some(seed) = number_in("SEED") {
        match history(seed, Mutation::None) {
            Ok(trace) => println!("{trace}"),
            Err(story) => panic!("{story}"),
        }
        return;
    }
    for seed in 1..=number_in("SEEDS").unwrap_or(SEEDS) {
        if let Err(story) = history(seed, Mutation::None) {
            panic!("{story}");
        }
    }
}

#[test]
fn one_seed_is_one_history() {
    assert_eq!(history(7, Mutation::None), history(7, Mutation::None));
}

#[test]
fn the_faults_do_happen() {
    let all: String = (1..=40).filter_map(|seed| history(seed, Mutation::None).ok()).collect();
    for what in [
        "the master ends between",
        "vanishes",
        "hangs up",
        "LaunchFailed",
        "CloudUnlisted",
        "Cancel",
    ] {
        assert!(all.matches(what).count() > 0, "{what} never happened");
    }
}

#[test]
fn every_planted_bug_is_found() {
    std::panic::set_hook(Box::new(|_| ()));
    let planted = [
        Mutation::ActBeforeCommit,
        Mutation::LoseCommits,
        Mutation::ForgetAssignments,
        Mutation::IgnoreLease,
    ];
    let found =
        planted.map(|mutation| (1..=MUTATION_SEEDS).find(|seed| history(*seed, mutation).is_err()));
    let _ = std::panic::take_hook();
    for (mutation, seed) in planted.iter().zip(found) {
        println!("{mutation:?}: found at seed {seed:?}");
        assert!(seed.is_some(), "{mutation:?} was not found within {MUTATION_SEEDS} seeds");
    }
}

fn number_in(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
