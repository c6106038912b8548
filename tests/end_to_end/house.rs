//! A house to test in: a real master as a process of its own, a real git repository, real agents
//! started over the real road, and a wire between them that can be cut.

use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;

use crate::wire::Wire;

/// Nothing in these tests takes longer on a loaded computer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// How often a condition is looked at while waiting for it.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// The programs under test. `busybee` must find the agent beside itself.
pub(crate) const BUSYBEE: &str = env!("CARGO_BIN_EXE_busybee");
const _AGENT: &str = env!("CARGO_BIN_EXE_busybee-agent");

/// A master with one project `hello` and one local pool. Ends everything it started when dropped.
pub(crate) struct House {
    dir: tempfile::TempDir,
    master: Option<Child>,
    pub(crate) wire: Wire,
}

/// What differs from house to house.
pub(crate) struct Plan<'a> {
    /// `.busybee.yaml` of the first commit.
    pub(crate) pipeline: &'a str,
    /// Further keys of the pool, as lines of TOML.
    pub(crate) pool: &'a str,
}

/// What stands in the project's one secret.
pub(crate) const SECRET: &str = "hunter2-hunter2";

impl House {
    /// Builds the house and starts its master; the baseline of `hello` has been taken.
    pub(crate) fn open(plan: &Plan) -> House {
        House::open_with(plan, "")
    }

    /// The same with further keys of `[master]`, as lines of TOML.
    pub(crate) fn open_with(plan: &Plan, master_keys: &str) -> House {
        let dir =
            tempfile::Builder::new().prefix("house-").tempdir().expect("a temporary directory");
        let master_port = free_port();
        let wire = Wire::to(master_port);
        let mut house = House { dir, master: None, wire };
        house.make_repository(plan.pipeline);
        let config = format!(
            r#"[master]
url = "https://127.0.0.1:{wire_port}"
listen = "127.0.0.1:{master_port}"
data_dir = "{data}"
{master_keys}

[[pool]]
name = "local"
labels = ["linux"]
provisioner = "local"
unsafe_local = true
{pool}

[[project]]
name = "hello"
repo = "{repo}"
branches = ["*"]
poll = "1s"
secret_files = {{ DEPLOY_TOKEN = "deploy-token" }}
"#,
            wire_port = house.wire.port(),
            data = house.data_dir().display(),
            pool = plan.pool,
            repo = house.path("hello.git").display(),
        );
        std::fs::write(house.path("busybee.toml"), config).expect("write busybee.toml");
        std::fs::write(house.path("deploy-token"), format!("{SECRET}\n")).expect("write a secret");
        house.start_master();
        house
    }

    /// A path in the house's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The master's `data_dir`.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.path("data")
    }

    fn make_repository(&self, pipeline: &str) {
        self.git(Path::new("."), &["init", "-q", "--bare", "-b", "main", "hello.git"]);
        self.git(Path::new("."), &["init", "-q", "-b", "main", "work"]);
        self.git(Path::new("work"), &["remote", "add", "origin", "../hello.git"]);
        self.push(&[(".busybee.yaml", pipeline)], "the first commit");
    }

    /// Commits these files on the current branch and pushes it. Returns the commit.
    pub(crate) fn push(&self, files: &[(&str, &str)], subject: &str) -> String {
        for (name, text) in files {
            std::fs::write(self.path("work").join(name), text)
                .expect("write a file of the work tree");
        }
        self.git(Path::new("work"), &["add", "-A"]);
        self.git(Path::new("work"), &["commit", "-q", "--allow-empty", "-m", subject]);
        self.git(Path::new("work"), &["push", "-q", "origin", "HEAD"]);
        self.git(Path::new("work"), &["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// Runs git in a directory of the house.
    pub(crate) fn git(&self, dir: &Path, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"])
            .args(["-c", "commit.gpgsign=false"])
            .args(arguments)
            .current_dir(self.dir.path().join(dir))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .expect("git starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {said}");
        String::from_utf8(output.stdout).expect("git prints text")
    }

    /// Starts the master and waits until it answers.
    pub(crate) fn start_master(&mut self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("master.log"))
            .expect("open the master's log");
        let master = Command::new(BUSYBEE)
            .args(["serve", "--config"])
            .arg(self.path("busybee.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the master's log"))
            .stderr(log)
            .spawn()
            .expect("the master starts");
        self.master = Some(master);
        self.eventually("the master answers", |house| {
            let answers = house.busybee(&["build", "list", "--json"]).status.success();
            // The first poll takes the baseline: pushes after it start builds.
            answers && house.has_baseline()
        });
    }

    fn has_baseline(&self) -> bool {
        self.said_by_master().contains("watching hello")
    }

    /// What the master has logged.
    pub(crate) fn said_by_master(&self) -> String {
        std::fs::read_to_string(self.path("master.log")).unwrap_or_default()
    }

    /// Ends the master as a power cut would.
    pub(crate) fn kill_master(&mut self) {
        let mut master = self.master.take().expect("the master runs");
        master.kill().expect("it is ours to kill");
        master.wait().expect("it ends");
    }

    /// Runs a client command with this house's master.
    pub(crate) fn busybee(&self, arguments: &[&str]) -> Output {
        Command::new(BUSYBEE)
            .args(arguments)
            .arg("--config")
            .arg(self.path("busybee.toml"))
            .stdin(Stdio::null())
            .output()
            .expect("busybee starts")
    }

    /// Runs a client command that must work, and reads its JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.busybee(&[arguments, &["--json"]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "busybee {arguments:?}: {said}\n{}", self.story());
        serde_json::from_slice(&output.stdout).expect("--json prints JSON")
    }

    /// Waits until build `hello/number` is over, and gives its JSON.
    pub(crate) fn finished(&self, number: u64) -> serde_json::Value {
        let name = format!("hello/{number}");
        let mut build = serde_json::Value::Null;
        self.eventually(&format!("build {name} ends"), |house| {
            let output = house.busybee(&["build", "show", &name, "--json"]);
            build = serde_json::from_slice(&output.stdout).unwrap_or_default();
            !build["finished_at"].is_null()
        });
        build
    }

    /// The raw log of a build.
    pub(crate) fn log(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.busybee(&[&["build", "logs"], arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "busybee build logs {arguments:?}: {said}");
        output.stdout
    }

    /// Waits for a condition; tells the whole story if it does not come.
    pub(crate) fn eventually(&self, what: &str, holds: impl FnMut(&House) -> bool) {
        self.within(PATIENCE, what, holds);
    }

    /// The same with another patience.
    pub(crate) fn within(
        &self,
        patience: Duration,
        what: &str,
        mut holds: impl FnMut(&House) -> bool,
    ) {
        let looks = patience.as_millis() / LOOK_EVERY.as_millis();
        for _ in 0..looks {
            if holds(self) {
                return;
            }
            // Wakes early when the master ends; otherwise a bounded pause between two looks.
            pause(LOOK_EVERY);
        }
        panic!("waited {} s in vain: {what}\n{}", patience.as_secs(), self.story());
    }

    /// The logs of everybody, for a test that failed.
    pub(crate) fn story(&self) -> String {
        let mut story = format!("--- master.log\n{}", self.said_by_master());
        for file in files_below(&self.data_dir(), "console.log") {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            story.push_str(&format!("\n--- {}\n{text}", file.display()));
        }
        story
    }

    /// The ids of this house's processes whose command line holds `word`.
    pub(crate) fn processes(&self, word: &str) -> Vec<i32> {
        let house = self.dir.path().display().to_string();
        let entries = std::fs::read_dir("/proc").expect("/proc is there").flatten();
        entries
            .filter_map(|entry| {
                let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
                let mut line = Vec::new();
                let mut file = std::fs::File::open(entry.path().join("cmdline")).ok()?;
                file.read_to_end(&mut line).ok()?;
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                let cwd = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
                let ours = line.contains(&house) || cwd.starts_with(&house);
                (ours && line.contains(word)).then_some(pid)
            })
            .collect()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(mut master) = self.master.take() {
            let _gone = master.kill();
            let _gone = master.wait();
        }
        // The machines first: they end everything below them.
        for word in ["local-machine", ""] {
            for pid in self.processes(word) {
                if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                    let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
                }
            }
        }
        for _ in 0..200 {
            if self.processes("").is_empty() {
                return;
            }
            pause(LOOK_EVERY);
        }
        for pid in self.processes("").into_iter().filter_map(rustix::process::Pid::from_raw) {
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// A bounded pause between two looks at something that cannot wake us.
pub(crate) fn pause(time: Duration) {
    let time = rustix::event::Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    };
    let _interrupted = rustix::event::poll(&mut [], Some(&time));
}

/// A port that was free a moment ago. The master must find the same one after a restart.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("it has an address").port()
}

fn files_below(dir: &Path, name: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() && !path.is_symlink() {
            found.extend(files_below(&path, name));
        } else if path.file_name().is_some_and(|file| file == name) {
            found.push(path);
        }
    }
    found
}
