//! How many machines a pool should start now, and how long one that idles is kept. Pure functions of a
//! few counts.

use std::time::Duration;

/// A pool in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Jobs that wait for this pool.
    pub queued: usize,
    /// Idle workers that any of those jobs could have.
    pub free: usize,
    /// Idle workers, those bound to some project included.
    pub idle: usize,
    /// Workers on their way.
    pub coming: usize,
    /// Instances of which a machine may be there, whatever it does: they all count.
    pub alive: usize,
    /// Never more than this.
    pub max_instances: usize,
    /// This many kept ready without work.
    pub min_idle: usize,
}

/// How many to start.
///
/// What is on its way is capacity already: without that every event during a boot would start
/// another machine (woodpecker autoscaler 137; ec2-plugin 1149).
pub fn launches(pool: PoolCounts) -> usize {
    let for_jobs = pool.queued.saturating_sub(pool.free + pool.coming);
    let spare = pool.idle + pool.coming.saturating_sub(pool.queued);
    let for_spare = pool.min_idle.saturating_sub(spare);
    let room = pool.max_instances.saturating_sub(pool.alive);
    for_jobs.max(for_spare).min(room)
}

/// How long a worker idles before it ends, while this many (itself included) idle for the same jobs: the
/// last one for the whole of `idle_timeout`, each of n for the n-th part.
///
/// After a burst of n jobs this costs as much idling as 1 + 1/2 + … + 1/n machines would for the whole
/// time, and not as n; `docs/performance.md` has what that does to costs and waits.
pub fn patience(idle_timeout: Duration, beside: usize) -> Duration {
    idle_timeout / u32::try_from(beside).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pool: PoolCounts, expected: usize) {
        assert_eq!(launches(PoolCounts { max_instances: 3, ..pool }), expected, "{pool:?}");
    }

    #[test]
    fn starts_what_is_missing_and_never_more_than_the_maximum() {
        check(PoolCounts::default(), 0);
        check(PoolCounts { queued: 1, ..PoolCounts::default() }, 1);
        check(PoolCounts { queued: 9, ..PoolCounts::default() }, 3);
        check(PoolCounts { queued: 9, alive: 2, ..PoolCounts::default() }, 1);
        check(PoolCounts { queued: 9, alive: 4, ..PoolCounts::default() }, 0);
    }

    #[test]
    fn what_is_on_its_way_is_not_started_twice() {
        check(PoolCounts { queued: 2, coming: 2, alive: 2, ..PoolCounts::default() }, 0);
        check(PoolCounts { queued: 3, coming: 1, alive: 1, ..PoolCounts::default() }, 2);
    }

    #[test]
    fn keeps_spare_workers_beside_those_that_jobs_will_take() {
        check(PoolCounts { min_idle: 1, ..PoolCounts::default() }, 1);
        check(PoolCounts { min_idle: 1, idle: 1, free: 1, alive: 1, ..PoolCounts::default() }, 0);
        let taken =
            PoolCounts { min_idle: 1, queued: 1, coming: 1, alive: 1, ..PoolCounts::default() };
        check(taken, 1);
    }
}
