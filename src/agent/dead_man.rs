//! Keeps the machine's own timer from ending it, for as long as a master answers.
//!
//! On a cloud instance a small program apart from us (user-data's, and at later boots a unit of its own)
//! powers the machine off at the second of uptime that stands in a file. We move that second; nobody
//! can move the end of the machine's life.

use std::path::PathBuf;
use std::time::Duration;

use tracing::warn;

use crate::agent::files;

/// The file that the timer reads; absent where there is no timer.
#[derive(Debug)]
pub(crate) struct DeadMan {
    path: Option<PathBuf>,
}

impl DeadMan {
    pub(crate) fn new(path: Option<PathBuf>) -> DeadMan {
        DeadMan { path }
    }

    /// From now on the machine may run for so long.
    pub(crate) fn allow(&self, time: Duration) {
        let Some(path) = &self.path else { return };
        let end = uptime_secs() + time.as_secs();
        // Aside and renamed: half a number would be the end.
        if let Err(why) = files::write_whole(path, format!("{end}\n").as_bytes()) {
            warn!("cannot keep this machine's timer from ending it: {why:#}");
        }
    }
}

/// For how many seconds this machine has been up, by the clock that /proc/uptime shows: it counts the time
/// asleep as well.
pub(crate) fn uptime_secs() -> u64 {
    let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec;
    u64::try_from(up).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timers_file_holds_one_later_second_of_uptime() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deadman");
        DeadMan::new(Some(path.clone())).allow(Duration::from_secs(600));
        let text = std::fs::read_to_string(&path).expect("it was written");
        let uptime = std::fs::read_to_string("/proc/uptime").expect("Linux has it");
        let uptime: f64 =
            uptime.split(' ').next().and_then(|up| up.parse().ok()).expect("a number");
        let end: f64 = text.trim().parse().expect("a number alone");
        assert!((end - uptime - 600.0).abs() < 5.0, "{end} at {uptime}");
    }
}
