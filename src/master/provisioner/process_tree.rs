//! Finds and ends the processes below one of ours, by what `/proc` says.

use std::collections::BTreeMap;

/// The processes below `root`, nearest first, without itself. Empty where `/proc` is not readable.
pub(super) fn descendants(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (pid, parent) in parents() {
        children.entry(parent).or_default().push(pid);
    }
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        if let Some(below) = children.remove(&found[next]) {
            found.extend(below);
        }
        next += 1;
    }
    found.split_off(1)
}

/// Sends `signal` to each process; those that have gone meanwhile do not matter.
pub(super) fn signal_all(pids: &[u32], signal: rustix::process::Signal) {
    for pid in pids {
        let pid = i32::try_from(*pid).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _gone = rustix::process::kill_process(pid, signal);
        }
    }
}

/// Gives way for a moment, in a thread or process that only waits for others to end.
pub(super) fn pause(time: std::time::Duration) {
    let time = rustix::event::Timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() };
    let _interrupted = rustix::event::poll(&mut [], Some(&time));
}

/// Every process with its parent.
fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name in parentheses may hold spaces and parentheses: what follows the last one counts.
            let after_name = stat.rsplit_once(')')?.1;
            let parent = after_name.split_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_found_below_its_parent_and_not_beside_it() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("cat is there");
        assert!(descendants(std::process::id()).contains(&child.id()));
        assert!(!descendants(child.id()).contains(&std::process::id()));
        signal_all(&[child.id()], rustix::process::Signal::KILL);
        assert!(!child.wait().expect("it ends").success());
    }
}
