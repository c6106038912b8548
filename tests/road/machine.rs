//! A bare machine as far as the scripts can tell: one shell, one tool to fetch with, a scratch
//! directory, and nothing else of the machine that the tests run on.

use busybee::runtime::clock::monotonic;
use busybee::runtime::signals::DefaultSignals;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;

/// Nothing in these tests takes so long; what does, hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// When somebody who was told to end is told again; far above what a loaded machine needs.
const TELL_AGAIN: Duration = Duration::from_secs(10);
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(10);

/// The commands that the scripts may count on besides the shell.
const BASICS: &[&str] = &[
    "cat",
    "chmod",
    "date",
    "env",
    "grep",
    "id",
    "install",
    "mkdir",
    "mkfifo",
    "mktemp",
    "mv",
    "rm",
    "sed",
    "sha256sum",
    "sleep",
    "tee",
    "tr",
    "uname",
    "wc",
];

/// The shells that images have as `sh`.
pub(crate) const SHELLS: &[&str] = &["dash", "bash", "busybox"];
/// The tools of which one is enough.
pub(crate) const TOOLS: &[&str] = &["curl", "wget", "python3"];

/// Where a program of this machine is. A test without one of its programs says SKIPPED and passes,
/// unless BUSYBEE_REQUIRE_TOOLS=1 asks for a failure.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        // A version manager's stand-ins are scripts that need much more than themselves.
        .filter(|dir| !dir.ends_with("shims"))
        .map(|dir| dir.join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        let required = std::env::var("BUSYBEE_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
        assert!(!required, "{name} is missing, and BUSYBEE_REQUIRE_TOOLS=1 is set");
        println!("SKIPPED: {name} is not installed");
    }
    found
}

/// A machine; its files are gone when it is dropped.
pub(crate) struct Machine {
    scratch: TempDir,
    /// Which shell is its `sh`.
    pub(crate) shell: &'static str,
    /// What it can fetch with; empty: nothing.
    pub(crate) tool: &'static str,
}

impl Machine {
    /// `None` where the shell or the tool is not installed here.
    pub(crate) fn new(shell: &'static str, tool: &'static str) -> Option<Machine> {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let machine = Machine { scratch, shell, tool };
        for dir in ["bin", "home", "tmp", "work"] {
            fs::create_dir(machine.path(dir)).expect("a fresh directory");
        }
        for name in BASICS {
            let own = (shell == "busybox").then(|| applet(name)).flatten();
            machine.link(name, &own.or_else(|| program(name))?);
        }
        machine.link("sh", &program(shell)?);
        if !tool.is_empty() {
            machine.link(tool, &program(tool)?);
        }
        Some(machine)
    }

    /// Every shell with every tool that this machine has.
    pub(crate) fn every() -> impl Iterator<Item = Machine> {
        let pairs = SHELLS.iter().flat_map(|shell| TOOLS.iter().map(move |tool| (*shell, *tool)));
        pairs.filter_map(|(shell, tool)| Machine::new(shell, tool))
    }

    /// The same, all at once, for tests that wait for something.
    pub(crate) fn every_at_once(test: impl Fn(Machine) + Sync) {
        std::thread::scope(|scope| {
            for machine in Machine::every() {
                scope.spawn(|| test(machine));
            }
        });
    }

    /// Every shell, with one tool.
    pub(crate) fn every_shell() -> impl Iterator<Item = Machine> {
        SHELLS.iter().filter_map(|shell| Machine::new(shell, "curl"))
    }

    /// A path under the scratch directory.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.scratch.path().join(relative)
    }

    /// A command on its PATH.
    pub(crate) fn link(&self, name: &str, target: &Path) {
        symlink(target, self.path("bin").join(name)).expect("a fresh link");
    }

    /// A command of the test's own, in place of the machine's.
    pub(crate) fn command_script(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        // First: to write through the link would change the command of the machine we run on.
        drop(fs::remove_file(&path));
        self.write(&path, text);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(path, mode).expect("our own file");
    }

    /// Writes a file.
    pub(crate) fn write(&self, path: &Path, text: &str) -> PathBuf {
        fs::write(path, text).expect("the scratch directory can be written");
        path.to_owned()
    }

    /// The names in one of its directories, sorted.
    pub(crate) fn list(&self, relative: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(relative)).expect("a directory of the scratch");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// `sh FILE` on this machine, with a clean environment.
    pub(crate) fn sh(&self, file: &Path) -> Run {
        let mut command = Command::new(self.path("bin/sh"));
        command.arg(file).current_dir(self.path("work"));
        command.env_clear().env("PATH", self.path("bin")).env("HOME", self.path("home"));
        command.env("TMPDIR", self.path("tmp"));
        // A group of its own, as the provisioner makes one; and files for what it says, because a
        // process left behind would keep a pipe open.
        command.process_group(0).stdin(Stdio::null());
        // As a boot gives them, also where the tests run under nohup.
        command.default_signals();
        let host = format!("{} with {}", self.shell, self.tool);
        Run { command, host, out: self.path("stdout"), err: self.path("stderr") }
    }

    /// The processes that have this machine's scratch directory in their environment.
    pub(crate) fn processes(&self) -> Vec<String> {
        let marker = self.scratch.path().to_string_lossy().into_owned();
        let running = fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| {
            let environ = fs::read(entry.path().join("environ")).ok()?;
            let words = fs::read(entry.path().join("cmdline")).ok()?;
            let ours = String::from_utf8_lossy(&environ).contains(&marker);
            ours.then(|| String::from_utf8_lossy(&words).replace('\0', " "))
        });
        running.collect()
    }
}

fn applet(name: &str) -> Option<PathBuf> {
    let busybox = program("busybox")?;
    let output = Command::new(&busybox).arg("--list").output().ok()?;
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    list.lines().any(|line| line == name).then_some(busybox)
}

/// One run of a script.
pub(crate) struct Run {
    command: Command,
    /// Which shell and tool it runs with, for whoever reads of a failure.
    host: String,
    out: PathBuf,
    err: PathBuf,
}

impl Run {
    /// One more argument.
    pub(crate) fn arg(mut self, arg: &str) -> Run {
        self.command.arg(arg);
        self
    }

    /// One more variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Run {
        self.command.env(name, value);
        self
    }

    /// Starts it and does not wait.
    pub(crate) fn start(mut self) -> Running {
        let file = |path: &Path| fs::File::create(path).expect("a file in the scratch directory");
        self.command.stdout(file(&self.out)).stderr(file(&self.err));
        let child = self.command.spawn().expect("the shell starts");
        Running { child, has_ended: false, host: self.host, out: self.out, err: self.err }
    }

    /// Starts it and waits for its end.
    pub(crate) fn finish(self) -> Finished {
        self.start().finish()
    }
}

/// A script at work; its whole group is ended when it is dropped before its end.
pub(crate) struct Running {
    child: Child,
    has_ended: bool,
    host: String,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    /// Sends a signal to this process alone.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    /// Tells it to end and waits for that. A `wait` of bash misses a signal that comes in the instant
    /// before it blocks, and hears it with the next (7 of 100,000 that were aimed at that instant; none
    /// of dash and busybox): so bash is told again, and the others must do with once.
    pub(crate) fn end_by(mut self, signal: rustix::process::Signal) -> Finished {
        self.signal(signal);
        let mut told_at = monotonic();
        let is_bash = self.host.starts_with("bash");
        wait_until(&format!("{} to end by {signal:?}", self.description()), || {
            if is_bash && monotonic() - told_at > TELL_AGAIN {
                self.signal(signal);
                told_at = monotonic();
            }
            self.child.try_wait().expect("our own child").is_some()
        });
        self.finish()
    }

    /// What runs, for whoever reads of a failure.
    fn description(&self) -> String {
        let words = fs::read(format!("/proc/{}/cmdline", self.child.id())).unwrap_or_default();
        format!("{} ({})", String::from_utf8_lossy(&words).replace('\0', " ").trim(), self.host)
    }

    /// What it said on stderr so far.
    pub(crate) fn said(&self) -> String {
        read(&self.err)
    }

    /// Ends the whole group, as the provisioner does.
    pub(crate) fn kill_group(self) {}

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Finished {
        let mut status = None;
        wait_until(&format!("the end of {}", self.description()), || {
            status = self.child.try_wait().expect("our own child");
            status.is_some()
        });
        // What it left behind is not ended for it: tests look for that.
        self.has_ended = true;
        let status = status.expect("just waited for");
        let code = status.code().unwrap_or_else(|| 128 + status.signal().expect("one of both"));
        Finished { code, out: read(&self.out), err: read(&self.err) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        if let Some(group) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            // Gone already is what it should be.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        drop(self.child.wait());
    }
}

/// How a script ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Exit status, or 128 and the signal.
    pub(crate) code: i32,
    /// stdout.
    pub(crate) out: String,
    /// stderr.
    pub(crate) err: String,
}

impl Finished {
    /// Fails unless it ended so and said this on stderr.
    pub(crate) fn expect(&self, machine: &Machine, code: i32, words: &[&str]) {
        let here = format!("{} with {}: {self:#?}", machine.shell, machine.tool);
        assert_eq!(self.code, code, "{here}");
        for word in words {
            assert!(self.err.contains(word), "no {word:?} said by {here}");
        }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Looks again and again until it holds; fails when that takes too long.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let looks = PATIENCE.as_millis() / LOOK.as_millis();
    for _ in 0..looks {
        if holds() {
            return;
        }
        std::thread::park_timeout(LOOK);
    }
    panic!("waited {} s for {what}", PATIENCE.as_secs());
}

/// SHA-256 in hex.
pub(crate) fn sha256(text: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
