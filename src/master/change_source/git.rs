//! Runs the `git` program: with an environment of our own, a deadline, and an end for all that it
//! started.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::process::Child;
use tokio::process::Command;

use crate::master::change_source::git_message;

/// How long a git that only looks at local files may take. Disks stall; this is not one of them.
pub(super) const LOCAL_DEADLINE: Duration = Duration::from_secs(60);

/// How long listing a repository's refs may take.
pub(super) const LIST_DEADLINE: Duration = Duration::from_secs(60);

/// How long fetching may take: the first fetch of a large repository over a slow line.
pub(super) const FETCH_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// What git may print on its error output before the rest is dropped.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// Variables of the master's own environment that git and ssh need.
const INHERITED: &[&str] = &[
    "PATH",
    "HOME",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];

/// Settings for every git: no hooks, no housekeeping behind our back, no endless stalls.
const SETTINGS: &[(&str, &str)] = &[
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.askPass", ""),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("http.lowSpeedLimit", "100"),
    ("http.lowSpeedTime", "30"),
    ("i18n.logOutputEncoding", "UTF-8"),
    ("log.showSignature", "false"),
    // A repository whose objects are broken must not break ours.
    ("transfer.fsckObjects", "false"),
];

/// The environment of a git, with what it may use to prove who it is.
#[derive(Clone, Default)]
pub(super) struct GitEnvironment {
    /// Variables beside those that every git gets.
    pub variables: Vec<(&'static str, OsString)>,
    /// Settings beside those that every git gets. They go by environment, not by arguments: those
    /// can be read by everyone on the machine.
    pub settings: Vec<(String, String)>,
}

impl std::fmt::Debug for GitEnvironment {
    /// Leaves the values out: a token is among them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GitEnvironment({} + {})", self.variables.len(), self.settings.len())
    }
}

/// What bounds one git.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// After this, it and all that it started is killed.
    pub deadline: Duration,
    /// What it may print.
    pub output_bytes_max: usize,
}

/// Why a git has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GitFailure {
    /// It could not be started.
    NotStarted(String),
    /// It took too long.
    TimedOut(Duration),
    /// It printed more than it may.
    TooMuchOutput(usize),
    /// It said no; in its own words.
    Failed(String),
}

impl GitFailure {
    /// Why, for people, without a capital and a dot.
    pub(super) fn sentence(&self) -> String {
        match self {
            GitFailure::NotStarted(error) => {
                format!("git could not be started ({error}); install git on the master's machine")
            }
            GitFailure::TimedOut(deadline) => format!("no answer in {} s", deadline.as_secs()),
            GitFailure::TooMuchOutput(bytes) => format!("the answer has more than {bytes} bytes"),
            GitFailure::Failed(message) => git_message::for_people(message),
        }
    }

    /// Whether git's own words contain one of these.
    pub(super) fn says(&self, words: &[&str]) -> bool {
        match self {
            GitFailure::Failed(message) => words.iter().any(|word| message.contains(word)),
            GitFailure::NotStarted(_) | GitFailure::TimedOut(_) | GitFailure::TooMuchOutput(_) => {
                false
            }
        }
    }
}

/// Runs a git to its end, and returns what it printed.
pub(super) async fn run(
    environment: &GitEnvironment,
    folder: &Path,
    arguments: &[&str],
    limits: Limits,
) -> Result<Vec<u8>, GitFailure> {
    let child = command(environment, folder, arguments)
        .spawn()
        .map_err(|error| GitFailure::NotStarted(error.to_string()))?;
    let mut group = Group { child };
    match tokio::time::timeout(limits.deadline, finish(&mut group.child, limits)).await {
        Ok(result) => result,
        Err(_elapsed) => Err(GitFailure::TimedOut(limits.deadline)),
    }
    // Dropping the group ends what still runs of it.
}

fn command(environment: &GitEnvironment, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.env_clear();
    for name in INHERITED {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
        .env("LC_ALL", "C.UTF-8")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_ATTR_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("SSH_ASKPASS_REQUIRE", "never")
        .env("GIT_ALLOW_PROTOCOL", "file:https:http:ssh")
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_OPTIONAL_LOCKS", "0");
    let settings = SETTINGS.iter().map(|(key, value)| (*key, *value));
    let more = environment.settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let mut count = 0;
    for (key, value) in settings.chain(more) {
        command.env(format!("GIT_CONFIG_KEY_{count}"), key);
        command.env(format!("GIT_CONFIG_VALUE_{count}"), value);
        count += 1;
    }
    command.env("GIT_CONFIG_COUNT", count.to_string());
    for (name, value) in &environment.variables {
        command.env(name, value);
    }
    command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    command
}

async fn finish(child: &mut Child, limits: Limits) -> Result<Vec<u8>, GitFailure> {
    let stdout = child.stdout.take().expect("stdout is piped: set above");
    let stderr = child.stderr.take().expect("stderr is piped: set above");
    let most = limits.output_bytes_max;
    let (output, message) = tokio::join!(read_up_to(stdout, most), read_and_drop(stderr));
    let Some(output) = output else {
        return Err(GitFailure::TooMuchOutput(most));
    };
    let status = child.wait().await.map_err(|error| GitFailure::NotStarted(error.to_string()))?;
    if status.success() {
        return Ok(output);
    }
    let message = String::from_utf8_lossy(&message).into_owned();
    let message =
        if message.trim().is_empty() { format!("git ended with {status}") } else { message };
    Err(GitFailure::Failed(message))
}

/// All of a stream; nothing, if it is longer than `most`.
async fn read_up_to(stream: impl AsyncRead + Unpin, most: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    // A broken pipe is the end of the stream; the exit status says what it means.
    let _end = stream.take(limit).read_to_end(&mut bytes).await;
    (bytes.len() <= most).then_some(bytes)
}

/// The beginning of a stream; the rest is read, or its writer would wait for ever.
async fn read_and_drop(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n_bytes @ 1..) = stream.read(&mut buffer).await {
        let room = MESSAGE_BYTES_MAX.saturating_sub(kept.len()).min(n_bytes);
        kept.extend_from_slice(&buffer[..room]);
    }
    kept
}

/// A git and all that it started (ssh, remote-https, index-pack). Dropped before its end, all of
/// them end.
struct Group {
    child: Child,
}

impl Drop for Group {
    fn drop(&mut self) {
        // `id` is gone once the child was waited for; its number may belong to another by then.
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(group) = pid.and_then(rustix::process::Pid::from_raw) {
            // It may just have ended by itself.
            let _gone = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::clock;

    fn limits(deadline_ms: u64, output_bytes_max: usize) -> Limits {
        Limits { deadline: Duration::from_millis(deadline_ms), output_bytes_max }
    }

    async fn run_script(
        folder: &Path,
        script: &str,
        limits: Limits,
    ) -> Result<Vec<u8>, GitFailure> {
        let alias = format!("alias.play=!{script}");
        run(&GitEnvironment::default(), folder, &["-c", &alias, "play"], limits).await
    }

    #[tokio::test]
    async fn a_git_that_hangs_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let script = "sleep 1000 & echo $! > pid; wait";
        let failure = run_script(folder.path(), script, limits(1500, 100)).await.unwrap_err();
        assert_eq!(failure.sentence(), "no answer in 1 s");
        let pid = std::fs::read_to_string(folder.path().join("pid")).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        let started = clock::monotonic();
        let is_there = || {
            // A zombie waits for whoever inherited it, and does nothing any more.
            std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "))
        };
        while is_there() {
            assert!(clock::monotonic() - started < Duration::from_secs(10), "{stat} is there");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn endless_output_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let failure = run_script(folder.path(), "yes", limits(20_000, 1000)).await.unwrap_err();
        assert_eq!(failure, GitFailure::TooMuchOutput(1000));
        let script = "yes >&2 | head -c 10000000; exit 3";
        let failure = run_script(folder.path(), script, limits(500, 1000)).await.unwrap_err();
        assert_eq!(failure, GitFailure::TimedOut(Duration::from_millis(500)));
    }

    #[tokio::test]
    async fn the_master_own_environment_stays_out_of_git() {
        let folder = tempfile::tempdir().unwrap();
        let printed = run_script(folder.path(), "env", limits(20_000, 100_000)).await.unwrap();
        let printed = String::from_utf8_lossy(&printed).into_owned();
        assert!(printed.contains("GIT_ALLOW_PROTOCOL=file:https:http:ssh"), "{printed}");
        assert!(printed.contains("GIT_TERMINAL_PROMPT=0"));
        assert!(!printed.contains("CARGO"), "{printed}");
    }
}
