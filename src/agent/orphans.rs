//! What an attempt's supervisor leaves running when it is killed. All of it is in the supervisor's
//! session, unless it made one of its own; the agent ends it before the attempt counts as over, or
//! the next one would run at the same time.

use rustix::process::Pid;
use rustix::process::Signal;

use crate::agent::attempt_dir::AttemptDir;
use crate::agent::machine;

/// Notes this process's session in the attempt's directory, if it leads one: others are nobody's to
/// end.
pub(super) fn note_session(dir: &AttemptDir) -> std::io::Result<()> {
    let this = std::process::id();
    match Process::of("self") {
        Some(process) if process.session == this => {
            dir.set_session(&format!("{this} {}", machine::boot_id()))
        }
        Some(_) | None => Ok(()),
    }
}

/// Kills what is left of the session of an attempt's supervisor, which is dead. What is still there
/// then, by name: a killed process takes its moment to go.
pub(super) fn kill(dir: &AttemptDir) -> Vec<String> {
    let Some(session) = session(dir) else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let mut left = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Some(process) = Process::of(&pid.to_string()) else { continue };
        if process.session == session && !process.is_dead {
            if let Some(pid) = Pid::from_raw(pid) {
                let _gone = rustix::process::kill_process(pid, Signal::KILL);
            }
            left.push(format!("{} ({pid})", process.name));
        }
    }
    left
}

/// The session, if the machine has not booted since: numbers begin anew then.
fn session(dir: &AttemptDir) -> Option<u32> {
    let noted = dir.session()?;
    let (session, boot) = noted.split_once(' ')?;
    (boot == machine::boot_id()).then(|| session.parse().ok()).flatten()
}

/// What /proc says of a process.
struct Process {
    name: String,
    is_dead: bool,
    session: u32,
}

impl Process {
    fn of(pid: &str) -> Option<Process> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // `PID (NAME) STATE PARENT GROUP SESSION …`; the name may hold anything.
        let (head, tail) = stat.rsplit_once(") ")?;
        let (_, name) = head.split_once('(')?;
        let session = tail.split(' ').nth(3)?.parse().ok()?;
        Some(Process { name: name.to_owned(), is_dead: tail.starts_with(['Z', 'X']), session })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::attempt::AttemptRef;
    use crate::model::ids::AttemptId;
    use crate::model::ids::Fence;
    use std::os::unix::process::CommandExt;

    #[test]
    fn only_what_is_in_the_dead_supervisors_session_of_this_boot_is_killed() {
        let home = tempfile::tempdir().unwrap();
        let id = AttemptRef { attempt: AttemptId(1), fence: Fence(1) };
        let dir = AttemptDir::of(home.path(), id);
        std::fs::create_dir_all(dir.path()).unwrap();
        let mut step = std::process::Command::new("sleep");
        step.arg("600");
        // SAFETY: setsid is async-signal-safe and touches no memory of ours.
        unsafe {
            step.pre_exec(|| {
                rustix::process::setsid()?;
                Ok(())
            });
        }
        let mut step = step.spawn().unwrap();
        note_session(&dir).unwrap();
        assert_eq!(kill(&dir), Vec::<String>::new(), "a test leads no session");

        dir.set_session(&format!("{} an-earlier-boot", step.id())).unwrap();
        assert_eq!(kill(&dir), Vec::<String>::new());
        assert!(step.try_wait().unwrap().is_none());

        dir.set_session(&format!("{} {}", step.id(), machine::boot_id())).unwrap();
        assert_eq!(kill(&dir), [format!("sleep ({})", step.id())]);
        step.wait().unwrap();
        assert_eq!(kill(&dir), Vec::<String>::new());
    }
}
