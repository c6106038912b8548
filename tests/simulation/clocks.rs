//! The clocks of the master's machine: one that only counts, and the time of day, which somebody sets; and
//! the law that what attempts have held is as long as it was, whatever the clock was set to.

use std::collections::BTreeMap;
use std::time::Duration;

use busybee::master::domain::decision::Record;
use busybee::model::ids::AttemptId;
use busybee::model::time::Timestamp;

use crate::world::World;

/// What the world itself knows of how long attempts held their workers.
#[derive(Debug, Default)]
pub(crate) struct TrueTimes {
    held: BTreeMap<AttemptId, Held>,
    /// How far the master's time of day was off when it last read its clocks.
    read_off_by: i64,
}

#[derive(Debug)]
struct Held {
    from: Timestamp,
    until: Option<Timestamp>,
    /// How wrong the master may be, in milliseconds: nobody sees a clock that is set while no master runs,
    /// or by less than a time server might.
    slack: u64,
}

impl World {
    pub(crate) fn master_monotonic(&self) -> Duration {
        Duration::from_millis(self.now.0)
    }

    /// The time of day, as the master's machine has it.
    pub(crate) fn master_wall(&self) -> Timestamp {
        Timestamp(self.now.0.saturating_add_signed(self.master.clock_is_off_by))
    }

    /// When the domain wants to be woken.
    pub(crate) fn master_due(&self) -> Option<Timestamp> {
        let due = self.master.it.as_ref()?.next_timeout()?;
        let due = Timestamp(due.0.saturating_add_signed(-self.master.clock_is_off_by));
        Some(due.max(self.master.pauses_until))
    }

    /// Somebody sets the clock of the master's machine, or it is found to be wrong.
    pub(crate) fn clock_is_set(&mut self) {
        let by = self.random(2 * 3_600_000) as i64 - 3_600_000;
        self.master.clock_is_off_by = by;
        *self.counts.entry("clock set").or_default() += 1;
        self.note(|| format!("-- the master's clock is {by} ms off"));
    }

    /// The master has read its clocks, and has seen a step or not.
    pub(crate) fn clocks_are_read(&mut self, step_is_seen: bool) {
        let off_by = self.master.clock_is_off_by;
        let slip = off_by.abs_diff(std::mem::replace(&mut self.true_times.read_off_by, off_by));
        if !step_is_seen {
            let open = self.true_times.held.values_mut().filter(|held| held.until.is_none());
            open.for_each(|held| held.slack += slip);
        }
    }

    /// Notes when attempts are given out and when they end.
    pub(crate) fn note_true_times(&mut self, records: &[Record]) {
        // A clock that was set back by too little to be seen stands still in the domain for a while.
        let ahead = self.master.now.0.saturating_sub(self.master_wall().0);
        for record in records {
            let Record::Attempt(attempt) = record else { continue };
            let fresh = Held { from: self.now, until: None, slack: ahead };
            let held = self.true_times.held.entry(attempt.id.attempt).or_insert(fresh);
            if attempt.finished_at.is_some() && held.until.is_none() {
                held.until = Some(self.now);
                held.slack += ahead;
            }
        }
    }

    /// By their rows, attempts have held their workers for as long as they did.
    pub(crate) fn laws_of_time(&self) {
        for (id, held) in &self.true_times.held {
            let row = self.disk.attempts.get(id).expect("it was written");
            let (Some(until), Some(ended)) = (held.until, row.finished_at) else { continue };
            let (truth, told) = (until.since(held.from), ended.since(row.assigned_at));
            let slack = Duration::from_millis(held.slack);
            assert!(truth.abs_diff(told) <= slack, "{row:?} held for {truth:?}, and not {told:?}");
        }
    }
}
