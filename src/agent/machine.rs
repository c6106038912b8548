//! Facts about the machine: its boot, its load, what is free.

use std::path::Path;

use crate::agent::domain::notices::Figures;
use crate::wire::message::Heartbeat;

/// A heartbeat's figures. What the machine does not say counts as zero.
pub(crate) fn heartbeat(number: u64, home: &Path, spool_bytes: u64) -> Heartbeat {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0);
    Heartbeat {
        number,
        load,
        memory_available_bytes: memory_available().unwrap_or(0),
        disk_free_bytes: disk_free(home).unwrap_or(0),
        spool_bytes,
    }
}

/// The boot id of this machine's kernel; empty where there is none to read.
pub(crate) fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().chars().take(64).collect()
}

/// Bytes that are free for everybody on the disk of a folder.
pub(crate) fn disk_free(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// What a person may have to know of it.
pub(crate) fn figures(home: &Path) -> Figures {
    let disk = rustix::fs::statvfs(home).ok();
    let bytes = |blocks: u64, size: u64| blocks.saturating_mul(size);
    Figures {
        disk_free: disk.as_ref().map(|disk| bytes(disk.f_bavail, disk.f_frsize)),
        disk_size: disk.as_ref().map(|disk| bytes(disk.f_blocks, disk.f_frsize)),
        oom_kills: oom_kills(),
    }
}

fn oom_kills() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/vmstat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

fn memory_available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}
