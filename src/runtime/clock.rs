//! The only reader of the system's clocks.

use std::path::Path;
use std::time::Duration;

use crate::model::time::Timestamp;

/// The time of day, as the system has it. It can step; for durations use [`monotonic`].
pub fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let ms = since_epoch.map_or(0, |elapsed| elapsed.as_millis());
    Timestamp(u64::try_from(ms).unwrap_or(u64::MAX))
}

/// Whether a file or folder was last changed longer ago than `age`; not, where that cannot be told.
pub fn is_older_than(path: &Path, age: Duration) -> bool {
    let modified = std::fs::metadata(path).and_then(|meta| meta.modified());
    modified.is_ok_and(|at| at.elapsed().is_ok_and(|elapsed| elapsed > age))
}

/// Time since the machine's boot (clock_gettime(2), CLOCK_MONOTONIC on Linux): never steps back, and does not
/// count time asleep. All processes of one machine share it.
pub fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}
