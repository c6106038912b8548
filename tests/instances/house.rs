//! A master on this computer, whose workers are instances of the rig, and a repository that they reach.

use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::gate::Gate;
use crate::git_server::GitServer;
use crate::rig::Rig;

/// How often a condition is looked at while waiting for it.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How many times longer than on a quiet computer anything may take: others run, and other tests beside these.
const PATIENCE: u32 = 3;

const BUSYBEE: &str = env!("CARGO_BIN_EXE_busybee");
const _AGENT: &str = env!("CARGO_BIN_EXE_busybee-agent");

/// What differs from house to house.
pub(crate) struct Plan<'a> {
    /// `.busybee.yaml` of the first commit.
    pub(crate) pipeline: &'a str,
    /// Keys of the pool, as lines of TOML.
    pub(crate) pool: &'a str,
    /// Bootstrap scripts of its own, by name.
    pub(crate) scripts: &'a [(&'a str, &'a str)],
    /// Of which image its instances are, by the rig's name.
    pub(crate) image: &'a str,
    /// Keys of `[pool.ec2]`, as lines of TOML.
    pub(crate) ec2: &'a str,
    /// Agents other than the one that the tests are built with.
    pub(crate) agents: Option<&'a Path>,
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Plan { pipeline: "", pool: "", scripts: &[], image: "bookworm", ec2: "", agents: None }
    }
}

/// A master with the project `hello` and the pool `cloud`. Ends everything it started when dropped.
pub(crate) struct House {
    dir: tempfile::TempDir,
    master: Option<Child>,
    pub(crate) gate: Gate,
    _git: GitServer,
    pub(crate) rig: Option<Rig>,
}

impl House {
    /// Builds the house and starts its master; the baseline of `hello` has been taken.
    pub(crate) fn open(plan: &Plan) -> House {
        let dir = tempfile::Builder::new().prefix("house-").tempdir().expect("a directory");
        let git = GitServer::start(dir.path());
        let rig = Rig::up(&[git.port()], plan.image);
        let gate = Gate::before(rig.fact("endpoint"));
        let mut house = House { dir, master: None, gate, _git: git, rig: Some(rig) };
        house.make_repository(plan.pipeline);
        house.write_settings(plan);
        house.start_master();
        house
    }

    pub(crate) fn rig(&self) -> &Rig {
        self.rig.as_ref().expect("the rig is up")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write_settings(&self, plan: &Plan) {
        let scripts = self.path("bootstrap");
        let bootstrap_dir = match plan.scripts {
            [] => String::new(),
            _ => format!("bootstrap_dir = \"{}\"", scripts.display()),
        };
        for (name, text) in plan.scripts {
            std::fs::create_dir_all(&scripts).expect("a directory");
            std::fs::write(scripts.join(name), text).expect("write a script");
        }
        let (host, port) = (self.rig().fact("host"), free_port());
        let name = match plan.image {
            "bullseye" => "debian-11-amd64".to_owned(),
            "trixie" => "debian-13-amd64".to_owned(),
            "noble" => "ubuntu-24.04-amd64".to_owned(),
            other => format!(
                "debian-12-{}amd64",
                other.strip_prefix("bookworm-").map_or(String::new(), |v| format!("{v}-"))
            ),
        };
        let agent_dir = match plan.agents {
            Some(folder) => format!("agent_dir = \"{}\"", folder.display()),
            None => String::new(),
        };
        let text = format!(
            r#"[master]
url = "https://{host}:{port}"
listen = "{host}:{port}"
data_dir = "{data}"
id = "test"
{bootstrap_dir}
{agent_dir}

[[pool]]
name = "cloud"
labels = ["cloud"]
provisioner = "ec2"
{pool}

[pool.ec2]
region = "us-east-1"
endpoint = "{endpoint}"
ami = {{ owners = ["self"], name = "{name}" }}
{types}
{ec2}

[[project]]
name = "hello"
repo = "http://{gateway}:{git}/hello.git"
poll = "1s"
"#,
            data = self.path("data").display(),
            pool = plan.pool,
            types = match plan.ec2.contains("instance_types") {
                true => "",
                false => "instance_types = [\"t3.medium\"]",
            },
            ec2 = crate::told::with_belongings(self.rig(), plan.ec2),
            endpoint = self.gate.address(),
            gateway = self.rig().fact("gateway"),
            git = self._git.port(),
        );
        std::fs::write(self.path("busybee.toml"), text).expect("write busybee.toml");
    }

    fn make_repository(&self, pipeline: &str) {
        self.git(Path::new("."), &["init", "-q", "--bare", "-b", "main", "hello.git"]);
        self.git(Path::new("."), &["init", "-q", "-b", "main", "work"]);
        self.git(Path::new("work"), &["remote", "add", "origin", "../hello.git"]);
        self.push(&[(".busybee.yaml", pipeline)], "the first commit");
    }

    /// Commits these files and pushes them.
    pub(crate) fn push(&self, files: &[(&str, &str)], subject: &str) {
        for (name, text) in files {
            std::fs::write(self.path("work").join(name), text).expect("write a file");
        }
        self.git(Path::new("work"), &["add", "-A"]);
        self.git(Path::new("work"), &["commit", "-q", "--allow-empty", "-m", subject]);
        self.git(Path::new("work"), &["push", "-q", "origin", "HEAD"]);
    }

    /// The newest commit.
    pub(crate) fn head(&self) -> String {
        self.git(Path::new("work"), &["rev-parse", "HEAD"]).trim().to_owned()
    }

    fn git(&self, dir: &Path, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"])
            .args(arguments)
            .current_dir(self.dir.path().join(dir))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .expect("git starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
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
            .env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            .spawn()
            .expect("the master starts");
        self.master = Some(master);
        self.eventually(30, "the master answers", |house| {
            let answers = house.busybee(&["build", "list", "--json"]).status.success();
            answers && house.said_by_master().contains("watching hello")
        });
    }

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
            .env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .stdin(Stdio::null())
            .output()
            .expect("busybee starts")
    }

    /// Runs a client command that must work, and reads its JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let output = self.busybee(&[arguments, &["--json"]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "busybee {arguments:?}: {said}\n{}", self.story());
        serde_json::from_slice(&output.stdout).expect("--json prints JSON")
    }

    /// Every row of the ledger, newest first.
    pub(crate) fn ledger(&self) -> Vec<Value> {
        let list = self.json(&["instance", "list", "--all"]);
        list["instances"].as_array().expect("a list").clone()
    }

    /// Waits until build `hello/number` is over, and gives its JSON.
    pub(crate) fn finished(&self, number: u64, seconds: u64) -> Value {
        let name = format!("hello/{number}");
        let mut build = Value::Null;
        self.eventually(seconds, &format!("build {name} ends"), |house| {
            let output = house.busybee(&["build", "show", &name, "--json"]);
            build = serde_json::from_slice(&output.stdout).unwrap_or_default();
            !build["finished_at"].is_null()
        });
        build
    }

    /// The boot log of the worker that had a build's first job.
    pub(crate) fn boot_log_of_first(&self, build: &Value) -> String {
        self.boot_log(build["jobs"][0]["worker"].as_str().expect("somebody built it"))
    }

    /// What a worker's page shows of its boot.
    pub(crate) fn boot_log(&self, worker: &str) -> String {
        let boot = self.busybee(&["worker", "show", worker]);
        String::from_utf8_lossy(&boot.stdout).into_owned()
    }

    /// The reason of a build's first job.
    pub(crate) fn reason(&self, number: u64) -> String {
        let output = self.busybee(&["build", "show", &format!("hello/{number}"), "--json"]);
        let build: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        build["jobs"][0]["reason"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until EC2 has taken the first launch.
    pub(crate) fn launch_is_accepted(&self) {
        self.eventually(30, "the launch is accepted", |house| {
            house.ledger().first().is_some_and(|row| !row["cloud_id"].is_null())
        });
    }

    /// Waits until nothing is alive, neither for the API nor in the ledger.
    pub(crate) fn everything_has_ended(&self, seconds: u64) {
        self.eventually(seconds, "every instance has ended", |house| {
            let is_over = |row: &Value| row["status"] == "terminated" || row["status"] == "failed";
            house.ledger().iter().all(is_over) && house.rig().alive().is_empty()
        });
    }

    /// Waits for a condition, which comes within these seconds on a quiet computer; tells the whole story if it
    /// does not come.
    pub(crate) fn eventually(
        &self,
        seconds: u64,
        what: &str,
        mut holds: impl FnMut(&House) -> bool,
    ) {
        let until = busybee::runtime::clock::monotonic() + PATIENCE * Duration::from_secs(seconds);
        while busybee::runtime::clock::monotonic() < until {
            if holds(self) {
                return;
            }
            pause(LOOK_EVERY);
        }
        panic!("waited {PATIENCE} times {seconds} s in vain: {what}\n{}", self.story());
    }

    /// What everybody has said, for a test that failed.
    pub(crate) fn story(&self) -> String {
        let mut story = format!("--- master.log\n{}", self.said_by_master());
        let Some(rig) = &self.rig else { return story };
        for instance in rig.instances() {
            let id = instance["id"].as_str().unwrap_or_default();
            let logs = rig.logs(id);
            let from = logs.len().saturating_sub(6000);
            let tail = logs.get(from..).unwrap_or(&logs);
            story.push_str(&format!("\n--- {id} ({})\n{tail}", instance["state"]));
        }
        story
    }

    /// Closes the house: nothing of it may be left.
    pub(crate) fn close(mut self) {
        if let Some(mut master) = self.master.take() {
            let _gone = master.kill();
            let _gone = master.wait();
        }
        self.rig.take().expect("the rig is up").down();
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(mut master) = self.master.take() {
            let _gone = master.kill();
            let _gone = master.wait();
        }
    }
}

/// A bounded pause between two looks at something that cannot wake us.
fn pause(time: Duration) {
    let time = rustix::event::Timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() };
    let _interrupted = rustix::event::poll(&mut [], Some(&time));
}

/// A port that was free a moment ago. The master must find the same one after a restart.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("it has an address").port()
}
