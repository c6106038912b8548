//! Every process below this one, however it tried to get away: this process is their subreaper.

use std::collections::BTreeMap;

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::WaitId;
use rustix::process::WaitIdOptions;

/// What is known of a descendant.
#[derive(Clone, Debug)]
pub(super) struct Descendant {
    pub(super) pid: u32,
    pub(super) name: String,
}

/// The living processes below this one; zombies are not among them.
pub(super) fn all() -> Vec<Descendant> {
    // Each has a chain of living parents up to this process, so without a child there is none, and
    // `/proc`, a millisecond's reading on a machine with a hundred processes, is left alone.
    if !has_children() {
        return Vec::new();
    }
    let mut children: BTreeMap<u32, Vec<Descendant>> = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // `PID (NAME) STATE PARENT …`; the name may hold anything, so the last `)` counts.
        let Some((head, tail)) = stat.rsplit_once(") ") else { continue };
        let mut fields = tail.split(' ');
        let state = fields.next().unwrap_or_default();
        let Some(parent) = fields.next().and_then(|parent| parent.parse().ok()) else { continue };
        if state != "Z" && state != "X" {
            let name = head.split_once('(').map_or("", |(_, name)| name).to_owned();
            children.entry(parent).or_default().push(Descendant { pid, name });
        }
    }
    let mut found: Vec<Descendant> = children.remove(&std::process::id()).unwrap_or_default();
    let mut next = 0;
    while next < found.len() {
        if let Some(below) = children.remove(&found[next].pid) {
            found.extend(below);
        }
        next += 1;
    }
    found
}

/// Whether this process has children, living or not yet reaped.
fn has_children() -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(rustix::process::waitid(WaitId::All, look), Err(Errno::CHILD))
}

/// Sends a signal to each; those that have gone meanwhile do not matter.
pub(super) fn signal(descendants: &[Descendant], signal: Signal) {
    for descendant in descendants {
        let pid = i32::try_from(descendant.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _gone = rustix::process::kill_process(pid, signal);
        }
    }
}

/// Names for a log line: `sleep (4711), make (4712)`.
pub(super) fn names(descendants: &[Descendant]) -> String {
    /// Names in one line, at most.
    const NAMES_MAX: usize = 20;
    let shown = descendants.iter().take(NAMES_MAX);
    let shown: Vec<String> = shown.map(|one| format!("{} ({})", one.name, one.pid)).collect();
    let more = descendants.len().saturating_sub(NAMES_MAX);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{tail}", shown.join(", "))
}
