//! A house with a fleet, and rounds in it: in each, a build whose steps print what is known
//! beforehand, faults while it runs, and the laws that hold however it went.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use busybee::runtime::clock;
use serde_json::Value;

use crate::dice::Dice;
use crate::fault;
use crate::fault::Kills;
use crate::house::House;
use crate::house::Plan;
use crate::house::pause;
use crate::printed;
use crate::printed::Printed;
use crate::wire::Tally;

/// What a build may take once the weather is good: a connection that only one end knows to be over is
/// noticed after 75 s, and a machine that never came is replaced after its time.
const PATIENCE: Duration = Duration::from_secs(300);

/// How long a fleet may take until it has gone.
const LEAVE_PATIENCE: Duration = Duration::from_secs(60);

/// Builds of this share of rounds are watched by somebody.
const FOLLOWED_PERCENT: u64 = 25;

/// A job is given out again twice after infrastructure failures.
const ATTEMPTS_MAX: u64 = 3;

const JOBS: [&str; 3] = ["a", "b", "c"];
const STEPS: [&str; 2] = ["first", "second"];

/// What the bootstrap script prints.
const BOOT_LINES: u32 = 400;

/// What kind of fleet it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Workers stay for some jobs.
    Warm,
    /// Each job has a machine of its own, with a bootstrap script: launches, downloads, first
    /// greetings and boot logs are in the middle of it all.
    Fresh,
    /// As warm; but steps and their supervisors are killed too, so that jobs need not pass.
    Harsh,
}

/// What was done and seen in some rounds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) rounds: u64,
    pub(crate) faults: u64,
    pub(crate) logs: u64,
    pub(crate) bytes: u64,
    pub(crate) wire: Tally,
    pub(crate) kills: Kills,
}

impl Done {
    pub(crate) fn add(&mut self, other: Done) {
        self.rounds += other.rounds;
        self.faults += other.faults;
        self.logs += other.logs;
        self.bytes += other.bytes;
        self.wire.calls += other.wire.calls;
        self.wire.cuts += other.wire.cuts;
        self.wire.bytes += other.wire.bytes;
        self.kills.masters += other.kills.masters;
        self.kills.supervisors += other.kills.supervisors;
        self.kills.steps += other.kills.steps;
        self.kills.agents += other.kills.agents;
    }
}

pub(crate) struct Fleet {
    house: House,
    kind: Kind,
    scripts: tempfile::TempDir,
    seed: u64,
    trace: Trace,
    done: Done,
    /// What was once told of builds that are over: it must not change.
    told: BTreeMap<u64, Value>,
}

/// What has happened, for whoever has to find out why a law did not hold.
struct Trace {
    title: String,
    began: Duration,
    lines: Vec<String>,
}

impl Trace {
    fn say(&mut self, line: String) {
        let at = (clock::monotonic() - self.began).as_millis();
        self.lines.push(format!("{at:>7} ms  {line}"));
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var_os("TRACE").is_some() {
            eprintln!("--- {}\n{}", self.title, self.lines.join("\n"));
        }
    }
}

fn pipeline(scripts: &std::path::Path) -> String {
    let mut text = "version: 1\ntriggers: { manual: { inputs: { round: { default: \"0\" } } } }\n\
         env: { ROUND: \"${{ event.inputs.round }}\" }\njobs:\n"
        .to_owned();
    for job in JOBS {
        // One of them clones the repository first.
        let checkout = if job == "a" { "" } else { "    checkout: false\n" };
        text.push_str(&format!("  {job}:\n{checkout}    steps:\n"));
        for step in STEPS {
            let script = format!("{}/$ROUND/{job}/{step}/step.sh", scripts.display());
            text.push_str(&format!("      - {{ name: {step}, run: 'sh \"{script}\"' }}\n"));
        }
    }
    text
}

impl Fleet {
    pub(crate) fn open(kind: Kind, seed: u64) -> Fleet {
        let scripts = tempfile::Builder::new().prefix("chaos-").tempdir().expect("a directory");
        std::fs::create_dir(scripts.path().join("boot")).expect("make a directory");
        let boot = "i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo \"boot line $i of 400\"; \
             [ $((i % 100)) != 0 ] || sleep 0.1; done\n";
        std::fs::write(scripts.path().join("boot/chaos.sh"), boot).expect("write a script");
        let pool = match kind {
            Kind::Warm | Kind::Harsh => {
                "max_instances = 3\njobs_per_instance = 8\nidle_timeout = \"20s\""
            }
            Kind::Fresh => {
                "max_instances = 4\njobs_per_instance = 1\nidle_timeout = \"20s\"\n\
                 bootstrap = \"chaos.sh\""
            }
        };
        let bootstrap = format!("bootstrap_dir = \"{}\"", scripts.path().join("boot").display());
        let pipeline = pipeline(scripts.path());
        let house = House::open_with(&Plan { pipeline: &pipeline, pool }, &bootstrap);
        let title = format!("SEED={seed} ({kind:?} fleet)");
        let trace = Trace { title, began: clock::monotonic(), lines: Vec::new() };
        Fleet { house, kind, scripts, seed, trace, done: Done::default(), told: BTreeMap::new() }
    }

    /// One build in bad weather.
    pub(crate) fn round(&mut self, number: u64) {
        let mut dice =
            Dice::new(self.seed.wrapping_add(number.wrapping_mul(0x5851_f42d_4c95_7f2d)));
        self.trace.say(format!("round {number}"));
        let printed = self.write_scripts(number, &mut dice.fork(1));
        let started =
            self.house.json(&["build", "start", "hello", "--input", &format!("round={number}")]);
        let build = started["number"].as_u64().expect("a build has a number");
        let is_followed = dice.percent(FOLLOWED_PERCENT) && self.kind != Kind::Harsh;
        let mut follower = is_followed.then(|| self.follow(build));

        self.faults(&mut dice.fork(2));
        self.house.wire.calm();
        self.house.wire.end_stalls(dice.percent(50));
        self.trace.say("good weather".to_owned());

        let found = self.wait_for(build);
        self.trace.say("the build is over".to_owned());
        match self.kind {
            Kind::Warm | Kind::Fresh => self.check_build(build, &found),
            Kind::Harsh => self.check_harsh_build(build, &found),
        }
        for (job, step, text) in &printed {
            match status_of(&found, job, step).as_deref() {
                Some("passed") => self.check_log(build, job, step, text),
                Some(_) => self.check_broken_log(build, job, step, text),
                None => {} // The one before it broke.
            }
        }
        if self.kind == Kind::Fresh {
            self.check_boot_logs(&found);
        }
        if let Some(follower) = &mut follower {
            follower.check(self, &printed);
        }
        self.told.insert(build, found);
        self.done.rounds += 1;
    }

    fn write_scripts(
        &self,
        round: u64,
        dice: &mut Dice,
    ) -> Vec<(&'static str, &'static str, Vec<u8>)> {
        let mut all = Vec::new();
        for job in JOBS {
            for step in STEPS {
                let printed = Printed::new(&format!("{round}/{job}/{step}"), dice);
                let folder = [&round.to_string(), job, step].iter().collect::<PathBuf>();
                printed.write_script(&self.scripts.path().join(folder));
                all.push((job, step, printed.bytes()));
            }
        }
        all
    }

    fn faults(&mut self, dice: &mut Dice) {
        let began = clock::monotonic();
        // While steps run, or while their workers come.
        let within_ms = if self.kind == Kind::Fresh { 6000 } else { 3500 };
        for (at, fault) in fault::draw(dice, within_ms, self.kind == Kind::Harsh) {
            pause(Duration::from_millis(at).saturating_sub(clock::monotonic() - began));
            self.trace.say(format!("{fault:?}"));
            fault.happen(&mut self.house, &mut self.done.kills);
            self.done.faults += 1;
        }
    }

    fn wait_for(&self, build: u64) -> Value {
        let name = format!("hello/{build}");
        let mut found = Value::Null;
        self.house.within(PATIENCE, &format!("build {name} ends"), |house| {
            let output = house.busybee(&["build", "show", &name, "--json"]);
            found = serde_json::from_slice(&output.stdout).unwrap_or_default();
            !found["finished_at"].is_null()
        });
        found
    }

    /// It passed, and nothing was done twice.
    fn check_build(&self, number: u64, build: &Value) {
        let story = || format!("build hello/{number}: {build:#}\n{}", self.house.story());
        assert_eq!(build["status"], "passed", "{}", story());
        for job in build["jobs"].as_array().expect("a build has jobs") {
            assert_eq!(job["status"], "passed", "{}", story());
            assert_eq!(job["attempts"], 1, "{}", story());
            let steps = job["steps"].as_array().expect("a job has steps");
            let own = steps.iter().filter(|step| step["step"] != 0);
            assert_eq!(own.count(), STEPS.len(), "{}", story());
            for step in steps {
                assert_eq!(step["status"], "passed", "{}", story());
                assert_eq!(step["log_incomplete"], false, "{}", story());
            }
        }
    }

    /// Whatever was killed, it is over, and was not tried for ever.
    fn check_harsh_build(&self, number: u64, build: &Value) {
        for job in build["jobs"].as_array().expect("a build has jobs") {
            let story = || format!("hello/{number}: {build:#}\n{}", self.house.story());
            let status = job["status"].as_str().expect("a job has a status");
            assert!(["passed", "failed", "infra"].contains(&status), "{}", story());
            let attempts = job["attempts"].as_u64().expect("a number");
            assert!((1..=ATTEMPTS_MAX).contains(&attempts), "{}", story());
        }
    }

    /// A step that was killed: its log is the beginning of what it would have printed, and then at
    /// most some words of ours.
    fn check_broken_log(&mut self, build: u64, job: &str, step: &str, printed: &[u8]) {
        let name = format!("hello/{build}");
        let log = self.house.log(&[&name, "--job", job, "--step", step]);
        let log = without_words_of_the_shell(log, printed);
        let same = same_bytes(&log, printed);
        let rest = String::from_utf8_lossy(&log[same..]).into_owned();
        let ours = ["killed by signal", "ending what the step left behind", "Killed"];
        let is_ours = |line: &str| ours.iter().any(|words| line.contains(words));
        let strange = rest.lines().find(|line| !line.is_empty() && !is_ours(line));
        if let Some(line) = strange {
            let how = printed::difference(printed, &log).unwrap_or_default();
            panic!("the log of {name} {job}/{step} goes on with {line:?}: {how}");
        }
        self.done.logs += 1;
        self.done.bytes += log.len() as u64;
    }

    fn check_log(&mut self, build: u64, job: &str, step: &str, printed: &[u8]) {
        let name = format!("hello/{build}");
        let log = self.house.log(&[&name, "--job", job, "--step", step]);
        if let Some(how) = printed::difference(printed, &log) {
            panic!("the log of {name} {job}/{step}: {how}\n{}", self.house.story());
        }
        self.done.logs += 1;
        self.done.bytes += log.len() as u64;
    }

    /// What the bootstrap script printed is in the boot log, once and in order.
    fn check_boot_logs(&mut self, build: &Value) {
        let printed: String =
            (1..=BOOT_LINES).map(|line| format!("boot line {line} of {BOOT_LINES}\n")).collect();
        for job in build["jobs"].as_array().expect("a build has jobs") {
            let worker = job["worker"].as_str().expect("a job that passed had a worker");
            let shown = self.house.busybee(&["worker", "show", worker]).stdout;
            let shown = String::from_utf8_lossy(&shown).into_owned();
            let from = shown.find("boot line ").unwrap_or(shown.len());
            if let Some(how) = printed::difference(printed.as_bytes(), &shown.as_bytes()[from..]) {
                panic!("the boot log of {worker}: {how}\n{}", self.house.story());
            }
            self.done.logs += 1;
            self.done.bytes += printed.len() as u64;
        }
    }

    /// Somebody watches a step from the first to its last line.
    fn follow(&self, build: u64) -> Follower {
        let path = self.scripts.path().join(format!("followed-{build}"));
        let file = std::fs::File::create(&path).expect("make a file");
        let child = std::process::Command::new(crate::house::BUSYBEE)
            .args(["build", "logs", &format!("hello/{build}"), "--job", "b", "--step", "first"])
            .args(["--follow", "--config"])
            .arg(self.house.path("busybee.toml"))
            .stdin(std::process::Stdio::null())
            .stdout(file)
            .stderr(std::fs::File::create(path.with_extension("err")).expect("make a file"))
            .spawn()
            .expect("busybee starts");
        Follower { child, path }
    }

    /// All is over: nothing of the fleet may be left, and nothing told may have changed.
    pub(crate) fn close(mut self) -> Done {
        for (number, told) in &self.told {
            let now = self.house.json(&["build", "show", &format!("hello/{number}")]);
            assert_eq!(now["jobs"], told["jobs"], "build hello/{number} changed when it was over");
        }
        self.house.within(LEAVE_PATIENCE, "the fleet is gone", |house| {
            let instances = house.json(&["instance", "list", "--all"]);
            let instances = instances["instances"].as_array().cloned().unwrap_or_default();
            instances
                .iter()
                .all(|one| matches!(one["status"].as_str(), Some("terminated" | "failed")))
        });
        for word in ["local-machine", "busybee-agent", "step.sh"] {
            let left = self.house.processes(word);
            assert!(left.is_empty(), "{word} is left: {left:?}\n{}", self.house.story());
        }
        self.done.wire = self.house.wire.tally();
        self.done
    }
}

/// How a step of a build's newest attempt stands; nothing: it has not begun.
fn status_of(build: &Value, job: &str, step: &str) -> Option<String> {
    let jobs = build["jobs"].as_array()?;
    let steps = jobs.iter().find(|known| known["name"] == job)?["steps"].as_array()?;
    let status = &steps.iter().find(|known| known["name"] == step)?["status"];
    status.as_str().filter(|status| *status != "skipped").map(str::to_owned)
}

/// A log without what a shell says of a killed child while another command of the step prints. The
/// words' first letters may be those that were to come anyway.
fn without_words_of_the_shell(mut log: Vec<u8>, printed: &[u8]) -> Vec<u8> {
    const WORDS: &[u8] = b"Killed\n";
    loop {
        let same = same_bytes(&log, printed);
        let mut places = same.saturating_sub(WORDS.len() - 1)..=same;
        let Some(at) = places.find(|at| log[*at..].starts_with(WORDS)) else {
            return log;
        };
        log.drain(at..at + WORDS.len());
    }
}

/// How many bytes two logs have in common from their beginning.
fn same_bytes(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}

/// A `busybee build logs --follow`.
struct Follower {
    child: std::process::Child,
    path: PathBuf,
}

impl Follower {
    fn check(&mut self, fleet: &Fleet, printed: &[(&str, &str, Vec<u8>)]) {
        let mut ended = None;
        fleet.house.within(PATIENCE, "who follows is told the end", |_| {
            ended = self.child.try_wait().expect("it is our child");
            ended.is_some()
        });
        let said = std::fs::read_to_string(self.path.with_extension("err")).unwrap_or_default();
        let seen = std::fs::read(&self.path).expect("it was written");
        let (_, _, text) = printed
            .iter()
            .find(|(job, step, _)| *job == "b" && *step == "first")
            .expect("it was printed");
        if let Some(how) = printed::difference(text, &seen) {
            panic!("what {:?} was shown: {how}\n{said}\n{}", self.path, fleet.house.story());
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
