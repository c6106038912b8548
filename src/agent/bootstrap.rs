//! Runs the pool's bootstrap script through `runurl`, its output going straight into the boot log.

use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::agent::config::Config;
use crate::agent::config::Road;
use crate::agent::machine;
use crate::model::step::StepOutcome;
use crate::runtime::signals::DefaultSignals;
use crate::wire::message::Bootstrap;
use crate::wire::message::FromAgent;
use crate::wire::message::TAIL_BYTES_MAX;

/// Between TERM and KILL.
const TERM_GRACE: Duration = Duration::from_secs(10);

/// With less than this no job could write down what it does: the disk counts as full.
const DISK_FREE_MIN: u64 = 8 * 1024 * 1024;

/// Where the script's output goes.
pub(crate) fn log_path(home: &Path) -> PathBuf {
    home.join("boot.log")
}

/// What the machine's user-data has said, before there was an agent.
const USER_DATA_LOG: &str = "/var/log/user-data.log";

/// Begins the boot log with what the machine's user-data has said. Only where the machine is ours.
pub(crate) fn begin_log(home: &Path) {
    let path = log_path(home);
    if !path.exists()
        && let Ok(said) = std::fs::read(USER_DATA_LOG)
    {
        let _shown_on_the_console_too = std::fs::write(path, said);
    }
}

/// The program that fetches and checks scripts. The road leaves it beside the agent; a machine of one's
/// own has only the agent.
const RUNURL: &[u8] = include_bytes!("../../bootstrap/runurl");

/// Puts `runurl` where it is expected, if it is not there.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn provide_runurl(path: &Path) -> std::io::Result<()> {
    if path.exists() { Ok(()) } else { crate::agent::files::write_whole(path, RUNURL) }
}

/// Adds a line of our own.
pub(crate) fn say(home: &Path, line: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut log = std::fs::OpenOptions::new().create(true).append(true).open(log_path(home))?;
    writeln!(log, "busybee: {line}")
}

/// Whether a script has passed here before.
pub(crate) fn has_passed(home: &Path) -> bool {
    home.join("bootstrapped").exists()
}

/// Runs the script to its end, and says how it went.
pub(crate) async fn run(config: &Config, bootstrap: Bootstrap) -> FromAgent {
    let path = log_path(&config.home);
    let outcome = match std::fs::OpenOptions::new().create(true).append(true).open(&path) {
        Ok(log) => carry_out(config, &bootstrap, log).await,
        Err(why) => StepOutcome::Infra(format!("cannot open the boot log: {why}")),
    };
    let is_full = machine::disk_free(&config.home).is_some_and(|free| free < DISK_FREE_MIN);
    let outcome = match is_full && outcome.passed() {
        true => StepOutcome::Infra("it left no room on the disk".into()),
        false => outcome,
    };
    if outcome.passed() {
        let _runs_again_after_a_restart =
            crate::agent::files::write_whole(&config.home.join("bootstrapped"), b"");
    }
    let log = std::fs::read(&path).unwrap_or_default();
    let from = log.len().saturating_sub(TAIL_BYTES_MAX);
    let mut tail = String::from_utf8_lossy(&log[from..]).into_owned();
    if from > 0 {
        // Not half a line.
        tail = tail.split_once('\n').map_or(tail.clone(), |(_, rest)| rest.to_owned());
    }
    if is_full {
        // The log is on that disk: what the script said of it may not be there.
        tail.push_str("\nbusybee: no space is left on this machine's disk\n");
    }
    FromAgent::BootstrapResult { outcome, log_bytes: log.len() as u64, tail }
}

async fn carry_out(config: &Config, bootstrap: &Bootstrap, log: std::fs::File) -> StepOutcome {
    let Ok(second) = log.try_clone() else {
        return StepOutcome::Infra("too many open files".into());
    };
    let mut command = Command::new("sh");
    command
        .arg(&config.runurl)
        .args(["--sha256", &bootstrap.sha256, &bootstrap.url])
        .args(&bootstrap.args)
        .env_clear()
        .envs(inherited())
        .envs(bootstrap.env.iter().map(|(name, value)| (name, value)))
        .envs(told(config))
        .current_dir(&config.home)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(second)
        .process_group(0);
    command.as_std_mut().default_signals();
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(why) => return StepOutcome::Infra(format!("cannot start sh: {why}")),
    };
    match tokio::time::timeout(bootstrap.timeout, child.wait()).await {
        Ok(Ok(status)) => outcome(status),
        Ok(Err(why)) => StepOutcome::Infra(format!("cannot wait for the script: {why}")),
        Err(_) => {
            end(&mut child).await;
            StepOutcome::TimedOut
        }
    }
}

/// What every program wants.
fn inherited() -> impl Iterator<Item = (OsString, OsString)> {
    let wanted = ["PATH", "HOME", "LANG", "USER", "LOGNAME"];
    std::env::vars_os().filter(move |(name, _)| wanted.iter().any(|known| name == known))
}

/// What a bootstrap script is promised (bootstrap/README.md). The password is not among it.
fn told(config: &Config) -> Vec<(&'static str, String)> {
    let road = match config.road {
        Road::Local => "local",
        Road::Cloud => "cloud",
        Road::Own => "own",
    };
    let path = |path: &Path| path.display().to_string();
    vec![
        ("BB_MASTER_URL", config.master_url.clone()),
        ("BB_CA", config.ca.as_deref().map(path).unwrap_or_default()),
        ("BB_HOME", path(&config.home)),
        ("BB_NAME", config.name.clone()),
        ("BB_ROAD", road.to_owned()),
        ("BB_RUNURL", path(&config.runurl)),
        ("BB_USER", config.user.clone().unwrap_or_default()),
    ]
}

async fn end(child: &mut tokio::process::Child) {
    use rustix::process::Pid;
    use rustix::process::Signal;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let Some(group) = group else { return };
    let _gone = rustix::process::kill_process_group(group, Signal::TERM);
    if tokio::time::timeout(TERM_GRACE, child.wait()).await.is_err() {
        let _gone = rustix::process::kill_process_group(group, Signal::KILL);
        let _reaped = child.wait().await;
    }
}

fn outcome(status: std::process::ExitStatus) -> StepOutcome {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => StepOutcome::Exited(code),
        (None, Some(signal)) => StepOutcome::Signalled(signal),
        (None, None) => StepOutcome::Infra("the kernel does not say how the script ended".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_has_only_the_agent_gets_runurl_from_it_and_keeps_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("runurl");
        provide_runurl(&path).expect("it can be written");
        assert_eq!(std::fs::read(&path).expect("it is there"), RUNURL);
        std::fs::write(&path, "another").expect("it is ours");
        provide_runurl(&path).expect("nothing is to be done");
        assert_eq!(std::fs::read(&path).expect("it is there"), b"another");
    }
}
