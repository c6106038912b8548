//! Runs the pool's bootstrap script through `runurl`, its output going straight into the boot log.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use tokio::process::Command;

use crate::agent::config::Config;
use crate::agent::config::Road;
use crate::agent::machine;
use crate::model::step::StepOutcome;
use crate::runtime::clock;
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

/// Locked for as long as a script runs, by the shell that waits for it.
const LOCK_FILE: &str = "bootstrap.lock";

/// How the last script ended: its exit code, and its SHA-256.
const STATUS_FILE: &str = "bootstrap.status";

/// How often it is looked whether the script of an earlier agent has ended.
const LOCK_LOOK_EVERY: Duration = Duration::from_millis(100);

/// Runs a script, holds the lock (its standard input) meanwhile, and writes down how it ended, whether or
/// not there is an agent then. Its first argument is the script's hash, the others are how to run it.
const KEEPER: &str = r#"trap : TERM # It ends when what it runs does.
hash=$1; shift
sh "$@" </dev/null
code=$?
echo "$code $hash" >bootstrap.status.new && mv -f bootstrap.status.new bootstrap.status
exit "$code""#;

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

/// Runs the script, unless it runs or has passed already: an agent that is killed leaves it running, and
/// two at a time would be in each other's way.
async fn carry_out(config: &Config, bootstrap: &Bootstrap, log: std::fs::File) -> StepOutcome {
    let begun = Begun { home: &config.home, sha256: &bootstrap.sha256 };
    let (lock, was_running) = match begun.await_end(bootstrap.timeout).await {
        Ok(Some(ended)) => ended,
        Ok(None) => return StepOutcome::TimedOut,
        Err(why) => return StepOutcome::Infra(format!("cannot lock the bootstrap script: {why}")),
    };
    match begun.status() {
        Some(0) => StepOutcome::Exited(0),
        Some(code) if was_running => StepOutcome::Exited(code),
        Some(_) | None => begin(config, bootstrap, log, lock).await,
    }
}

/// What is known of a script that an earlier process of this agent has begun.
struct Begun<'a> {
    home: &'a Path,
    sha256: &'a str,
}

impl Begun<'_> {
    /// Waits until no script runs, and takes the lock that says so; whether one was waited for. Nothing:
    /// it does not end in time.
    async fn await_end(&self, timeout: Duration) -> std::io::Result<Option<(File, bool)>> {
        let path = self.home.join(LOCK_FILE);
        let lock = File::options().create(true).truncate(false).write(true).open(path)?;
        let until = clock::monotonic() + timeout;
        let mut was_running = false;
        loop {
            let exclusive = rustix::fs::FlockOperation::NonBlockingLockExclusive;
            match rustix::fs::flock(&lock, exclusive) {
                Ok(()) => return Ok(Some((lock, was_running))),
                Err(rustix::io::Errno::WOULDBLOCK) if clock::monotonic() >= until => {
                    return Ok(None);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => was_running = true,
                Err(why) => return Err(why.into()),
            }
            tokio::time::sleep(LOCK_LOOK_EVERY).await;
        }
    }

    /// How this very script ended when it last did, as far as anybody wrote it down.
    fn status(&self) -> Option<i32> {
        let text = std::fs::read_to_string(self.home.join(STATUS_FILE)).ok()?;
        let (code, sha256) = text.trim().split_once(' ')?;
        (sha256 == self.sha256).then(|| code.parse().ok()).flatten()
    }
}

async fn begin(config: &Config, bootstrap: &Bootstrap, log: File, lock: File) -> StepOutcome {
    let Ok(second) = log.try_clone() else {
        return StepOutcome::Infra("too many open files".into());
    };
    let _of_an_earlier_run = std::fs::remove_file(config.home.join(STATUS_FILE));
    let mut command = Command::new("sh");
    command
        .args(["-c", KEEPER, "keeper", &bootstrap.sha256])
        .arg(&config.runurl)
        .args(["--sha256", &bootstrap.sha256, &bootstrap.url])
        .args(&bootstrap.args)
        .env_clear()
        .envs(inherited())
        .envs(bootstrap.env.iter().map(|(name, value)| (name, value)))
        .envs(told(config))
        .current_dir(&config.home)
        .stdin(lock)
        .stdout(log)
        .stderr(second)
        .process_group(0);
    command.as_std_mut().default_signals();
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(why) => return StepOutcome::Infra(format!("cannot start sh: {why}")),
    };
    // The lock is the keeper's alone now.
    drop(command);
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

    /// An agent's settings, with a script in the place of what fetches scripts.
    fn told_to_run(home: &Path, script: &str) -> (Config, Bootstrap) {
        std::fs::write(home.join("runurl"), script).expect("a fresh folder");
        let settings = home.join("agent.env");
        let lines = "BB_MASTER=127.0.0.1:9\nBB_MASTER_URL=https://127.0.0.1:9\nBB_NAME=w-1\n";
        std::fs::write(&settings, lines).expect("a fresh folder");
        let config = Config::from_file(&settings).expect("all is there");
        let bootstrap = Bootstrap {
            url: "https://127.0.0.1:9/bootstrap/debian.sh".into(),
            sha256: "00".into(),
            args: Vec::new(),
            env: Vec::new(),
            timeout: Duration::from_secs(60),
        };
        (config, bootstrap)
    }

    #[tokio::test]
    async fn a_script_whose_agent_was_killed_is_waited_for_and_not_run_beside_itself() {
        let home = tempfile::tempdir().expect("a folder");
        let fifo = home.path().join("gate");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).expect("a fresh one");
        let script = "echo began; read -r code <gate; echo ended; exit $code";
        for (code, runs) in [("0", 1), ("3", 2)] {
            let _none_yet = std::fs::remove_file(log_path(home.path()));
            let (config, bootstrap) = told_to_run(home.path(), script);
            let first = tokio::spawn({
                let (config, bootstrap) = (config.clone(), bootstrap.clone());
                async move { run(&config, bootstrap).await }
            });
            let gate = fifo.clone();
            // It has begun when somebody reads at the gate.
            let open = move || File::options().write(true).open(gate);
            let mut gate = tokio::task::spawn_blocking(open).await.unwrap().unwrap();
            first.abort();
            let second = tokio::spawn({
                let (config, bootstrap) = (config.clone(), bootstrap.clone());
                async move { run(&config, bootstrap).await }
            });
            std::io::Write::write_all(&mut gate, format!("{code}\n").as_bytes()).unwrap();
            let FromAgent::BootstrapResult { outcome, .. } = second.await.unwrap() else {
                panic!("something else")
            };
            assert_eq!(outcome, StepOutcome::Exited(code.parse().unwrap()));
            let log = std::fs::read_to_string(log_path(home.path())).unwrap();
            assert_eq!(log, "began\nended\n", "once");
            // What has passed is not run again; what has failed is, by the next order.
            let again = tokio::spawn(async move { run(&config, bootstrap).await });
            if runs == 2 {
                let gate = fifo.clone();
                let open = move || std::fs::write(gate, "0\n");
                tokio::task::spawn_blocking(open).await.unwrap().unwrap();
            }
            let FromAgent::BootstrapResult { outcome, .. } = again.await.unwrap() else {
                panic!("something else")
            };
            assert_eq!(outcome, StepOutcome::Exited(0));
            let log = std::fs::read_to_string(log_path(home.path())).unwrap();
            assert_eq!(log.matches("began").count(), runs);
            std::fs::remove_file(home.path().join(STATUS_FILE)).unwrap();
        }
    }
}
