//! What must hold of looking ahead: who is said to have been started early is there and has not served since,
//! and each of them is counted once, as right or as wrong.

use busybee::master::domain::decision::Record;
use busybee::master::domain::forecast::PoolForecast;
use busybee::model::status::WorkerFate;
use busybee::model::status::WorkerStatus;

use crate::disk::Disk;
use crate::world::World;

impl World {
    /// A row is about to be written over the one before.
    pub(crate) fn forecast_changes(&mut self, record: &Record) {
        let Record::PoolForecast(new) = record else { return };
        let none = PoolForecast::new(new.name.clone());
        let old = self.disk.pool_forecasts.get(&new.name).unwrap_or(&none);
        let settled = old.ahead.difference(&new.ahead).count() as u64;
        let started = new.ahead.difference(&old.ahead).count() as u64;
        let (hits, misses) = (new.hits - old.hits, new.misses - old.misses);
        assert!(hits + misses <= settled, "{old:?} → {new:?}: each is counted once");
        for (name, count) in [
            ("started ahead", started),
            ("started ahead and served", hits),
            ("started ahead in vain", misses),
        ] {
            if count > 0 {
                *self.counts.entry(name).or_default() += count;
            }
        }
    }
}

/// After a commit that changed workers or what was learned.
pub(crate) fn ahead_is_true(disk: &Disk) {
    for pool in disk.pool_forecasts.values() {
        for name in &pool.ahead {
            let worker = disk.workers.get(name).unwrap_or_else(|| panic!("{name} is on no disk"));
            assert!(worker.attempt.is_none(), "{name} serves: it is no forecast any more");
            assert_ne!(worker.fate, WorkerFate::Rests, "{name} rests, and is not counted");
            assert_ne!(worker.status, WorkerStatus::Gone, "{name} is gone, and not counted");
        }
    }
}
