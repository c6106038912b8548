//! Chaos on real processes: a real master, real agents and real steps, a wire that is bad in every
//! way a network can be, and `kill -9`, from a seed. Whatever happens, logs are what steps wrote,
//! each result counts once, and nothing is left running. `docs/reliability.md` has the counts.
//!
//! ```text
//! cargo test --test chaos                                    a hundred rounds
//! ROUNDS=1000 cargo test --release --test chaos -- --nocapture
//! SEED=… ROUNDS=… cargo test --test chaos                    the same dice again
//! ```

mod dice;
mod fault;
mod fleet;
#[path = "../end_to_end/house.rs"]
#[allow(dead_code, reason = "it is furnished for the tests of end_to_end")]
mod house;
mod kills;
mod printed;
mod silence;
mod wire;

use fleet::Done;
use fleet::Fleet;
use fleet::Kind;

/// Rounds without a word of the environment.
const ROUNDS: u64 = 100;

/// Fleets at the same time (they mostly wait), and how many of ten rounds each has: where machines
/// come anew for each job a round takes longer.
const FLEETS: [(Kind, std::ops::Range<u64>); 4] =
    [(Kind::Warm, 0..3), (Kind::Harsh, 3..6), (Kind::Fresh, 6..8), (Kind::Fresh, 8..10)];

fn from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is {value:?}, which is no number")))
}

#[test]
fn whatever_breaks_no_log_is_wrong_no_result_counts_twice_and_nothing_stays() {
    let rounds = from_environment("ROUNDS").unwrap_or(ROUNDS);
    let seed = from_environment("SEED").unwrap_or_else(|| {
        let now = std::time::UNIX_EPOCH.elapsed().expect("it is after 1970");
        now.as_secs()
    });
    println!("SEED={seed}");
    let mut all = Done::default();
    std::thread::scope(|scope| {
        let fleets = FLEETS.into_iter().map(|(kind, share)| {
            let own = (0..rounds).filter(move |round| share.contains(&(round % 10)));
            scope.spawn(move || {
                let mut fleet = Fleet::open(kind, seed);
                own.for_each(|round| fleet.round(round));
                fleet.close()
            })
        });
        let fleets: Vec<_> = fleets.collect();
        for fleet in fleets {
            let done = fleet.join().unwrap_or_else(|_| panic!("SEED={seed}: a law did not hold"));
            all.add(done);
        }
    });
    println!("{all:#?}");
}
