//! The clocks of the master's machine: one that only counts, and the time of day, which somebody sets.

use std::time::Duration;

use busybee::model::time::Timestamp;

use crate::world::World;

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
}
