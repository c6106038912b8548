//! Between two jobs of a machine that is ours as a whole: everything of the steps' user is ended and
//! removed but its home, wherever it went.
//!
//! What a step leaves below itself is ended with the step (`descendants`). This is for what others run
//! in its name: cron and at, systemd, D-Bus; and for what an earlier supervisor could not end itself.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::agent::domain::step_user::StepUser;
use crate::agent::privileges;
use crate::agent::supervisor::waiting::Waiting;
use crate::runtime::clock;

/// Between TERM and KILL. Short: the steps themselves have had their time.
const TERM_GRACE: Duration = Duration::from_secs(2);

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Processes that fork while they are being ended are ended again this often.
const KILL_ROUNDS_MAX: u32 = 500;

/// Where everybody may leave something, and where cron and at keep what they run later.
const PLACES: &[&str] = &["/tmp", "/var/tmp", "/dev/shm", "/var/spool/cron", "/var/spool/at"];

/// What is named in the sentence, at most.
const NAMED_MAX: usize = 5;

/// Ends the user's processes and removes its files.
///
/// # Errors
/// A sentence that names what is left: the machine must not run another job then.
pub(super) fn sweep(user: &StepUser, waiting: &Waiting) -> Result<(), String> {
    end_processes(user, waiting)?;
    let mut left = Vec::new();
    for place in PLACES {
        remove_files(Path::new(place), user, &mut left);
    }
    match left.is_empty() {
        true => Ok(()),
        false => Err(format!("files of a job could not be removed: {}", some_of(&left))),
    }
}

fn end_processes(user: &StepUser, waiting: &Waiting) -> Result<(), String> {
    if processes(user).is_empty() {
        return Ok(());
    }
    privileges::signal_all(user, Signal::TERM);
    let until = clock::monotonic() + TERM_GRACE;
    while !processes(user).is_empty() && clock::monotonic() < until {
        waiting.wait(None, LOOK_EVERY);
    }
    for _ in 0..KILL_ROUNDS_MAX {
        if processes(user).is_empty() {
            return Ok(());
        }
        privileges::signal_all(user, Signal::KILL);
        waiting.wait(None, LOOK_EVERY);
    }
    match processes(user) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("processes of a job could not be ended: {}", some_of(&left))),
    }
}

/// The user's living processes, as `sleep (4711)`.
fn processes(user: &StepUser) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return vec!["/proc cannot be read".to_owned()];
    };
    let process = |entry: std::fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        Some(format!("{} ({pid})", user.process_name(&status)?))
    };
    entries.flatten().filter_map(process).collect()
}

/// Removes what is the user's below a folder that is not. Its processes have ended: nobody lays links
/// meanwhile.
fn remove_files(folder: &Path, user: &StepUser, left: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(found) = entry.metadata() else { continue };
        if found.uid() == user.uid {
            let removed = match found.is_dir() {
                true => std::fs::remove_dir_all(&path),
                false => std::fs::remove_file(&path),
            };
            if let Err(why) = removed
                && why.kind() != std::io::ErrorKind::NotFound
            {
                left.push(format!("{} ({why})", path.display()));
            }
        } else if found.is_dir() && user.may_enter(found.gid(), found.mode()) {
            remove_files(&path, user, left);
        }
    }
}

fn some_of(left: &[String]) -> String {
    let more = left.len().saturating_sub(NAMED_MAX);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{tail}", left[..left.len().min(NAMED_MAX)].join(", "))
}
