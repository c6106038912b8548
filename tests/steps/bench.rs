//! A workbench for one attempt: a real supervisor on a real directory, without master or network.

use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use busybee::agent::attempt_dir::AttemptDir;
use busybee::agent::supervisor::StepsRunAs;
use busybee::model::attempt::AttemptOutcome;
use busybee::model::attempt::AttemptRef;
use busybee::model::attempt::AttemptSpec;
use busybee::model::attempt::CheckoutSpec;
use busybee::model::ids::AttemptId;
use busybee::model::ids::Fence;
use busybee::model::step::RunsAfter;
use busybee::model::step::Shell;
use busybee::model::step::StepOutcome;
use busybee::model::step::StepSpec;
use busybee::runtime::clock;
use busybee::wire::message::FromAgent;
use busybee::wire::message::StepResult;

/// No attempt on the bench takes longer, on a loaded computer either.
const PATIENCE: Duration = Duration::from_secs(120);

/// One attempt on its way.
pub(crate) struct Bench {
    pub(crate) home: tempfile::TempDir,
    pub(crate) spec: AttemptSpec,
    /// Whose rights the steps have.
    pub(crate) runs_as: StepsRunAs,
    /// What the supervisor is started with, in a network of its own for example.
    pub(crate) within: Vec<String>,
    supervisor: Option<Child>,
    started: Duration,
}

/// What came of it.
pub(crate) struct Done {
    pub(crate) outcome: AttemptOutcome,
    pub(crate) took: Duration,
    steps: Vec<Option<StepResult>>,
    logs: Vec<Vec<u8>>,
}

/// A step with defaults.
pub(crate) fn step(run: &str) -> StepSpec {
    StepSpec {
        name: "step".into(),
        run: run.into(),
        shell: Shell::Sh,
        env: Vec::new(),
        timeout: None,
        when: RunsAfter::SUCCESS,
    }
}

impl Bench {
    /// An attempt with these steps and no checkout.
    pub(crate) fn with(steps: Vec<StepSpec>) -> Bench {
        let spec = AttemptSpec {
            id: AttemptRef { attempt: AttemptId(1), fence: Fence(1) },
            project: "hello".into(),
            job: "test".into(),
            env: vec![("CI".into(), "true".into())],
            secrets: Vec::new(),
            checkout: None,
            keep_workspace: false,
            steps,
            timeout: Duration::from_secs(100),
            lease: Duration::from_secs(100),
        };
        let home = tempfile::tempdir().expect("a temporary directory");
        let (runs_as, within) = (StepsRunAs::Agent, Vec::new());
        Bench { home, spec, runs_as, within, supervisor: None, started: Duration::ZERO }
    }

    /// The same for one step.
    pub(crate) fn run(script: &str) -> Done {
        Bench::with(vec![step(script)]).into_done()
    }

    /// With a checkout, in the home of an earlier attempt (a warm workspace) or a fresh one.
    pub(crate) fn checkout(mut self, checkout: CheckoutSpec, number: u64) -> Bench {
        self.spec.checkout = Some(checkout);
        self.spec.id.attempt = AttemptId(number);
        self
    }

    pub(crate) fn dir(&self) -> AttemptDir {
        AttemptDir::of(self.home.path(), self.spec.id)
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.home.path().join("workspaces/p-hello")
    }

    /// Starts the supervisor, as the agent does.
    pub(crate) fn start(&mut self) {
        let dir = self.dir();
        dir.create(&self.spec).expect("the attempt is written down");
        dir.set_lease(clock::monotonic() + self.spec.lease).expect("the lease is written");
        self.started = clock::monotonic();
        let mut words = self.within.clone();
        words.push(env!("CARGO_BIN_EXE_busybee-agent").to_owned());
        let supervisor = Command::new(&words[0])
            .args(&words[1..])
            .arg("step-supervisor")
            .arg(dir.path())
            .args(self.runs_as.arguments())
            .stdin(Stdio::null())
            .spawn()
            .expect("the supervisor starts");
        self.supervisor = Some(supervisor);
    }

    /// Waits until the step's log holds this.
    pub(crate) fn wait_for_log(&self, step: u32, text: &str) {
        let path = self.dir().log(step);
        eventually(&format!("the log holds {text:?}"), || {
            std::fs::read(&path).is_ok_and(|log| String::from_utf8_lossy(&log).contains(text))
        });
    }

    /// Starts it if need be, waits for its end, and reads what it left.
    pub(crate) fn into_done(mut self) -> Done {
        self.finish()
    }

    /// The same, keeping the home for another attempt.
    pub(crate) fn finish(&mut self) -> Done {
        if self.supervisor.is_none() {
            self.start();
        }
        let mut supervisor = self.supervisor.take().expect("it was started");
        eventually("the supervisor ends", || matches!(supervisor.try_wait(), Ok(Some(_))));
        let took = clock::monotonic() - self.started;
        let dir = self.dir();
        let Some(FromAgent::AttemptResult { outcome, .. }) = dir.result() else {
            panic!("the supervisor left no result");
        };
        let count = u32::try_from(self.spec.steps.len()).expect("a few steps");
        let result = |step| match dir.step_result(step) {
            Some(FromAgent::StepResult(result)) => Some(result),
            Some(_) | None => None,
        };
        let steps: Vec<Option<StepResult>> = (0..=count).map(result).collect();
        let logs = (0..=count).map(|step| std::fs::read(dir.log(step)).unwrap_or_default());
        let done = Done { outcome, took, steps, logs: logs.collect() };
        done.check_hashes();
        done
    }
}

impl Done {
    /// How a step ended.
    pub(crate) fn step(&self, step: usize) -> &StepOutcome {
        &self.steps[step].as_ref().expect("the step has a result").outcome
    }

    /// How long a step took, without what comes before and after it.
    pub(crate) fn step_took(&self, step: usize) -> Duration {
        let result = self.steps[step].as_ref().expect("the step has a result");
        Duration::from_millis(result.duration_ms)
    }

    /// What a step printed.
    pub(crate) fn log(&self, step: usize) -> String {
        String::from_utf8_lossy(&self.logs[step]).into_owned()
    }

    /// The same as bytes.
    pub(crate) fn bytes(&self, step: usize) -> &[u8] {
        &self.logs[step]
    }

    fn check_hashes(&self) {
        for (result, log) in self.steps.iter().zip(&self.logs) {
            let Some(result) = result else { continue };
            let digest = ring::digest::digest(&ring::digest::SHA256, log);
            assert_eq!(result.log_bytes, log.len() as u64, "the result tells the log's length");
            assert_eq!(result.log_sha256, digest.as_ref(), "and its hash");
        }
    }
}

/// Waits for a condition with a deadline.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = clock::monotonic() + PATIENCE;
    while !holds() {
        assert!(clock::monotonic() < deadline, "waited in vain: {what}");
        let time = rustix::event::Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
        let _interrupted = rustix::event::poll(&mut [], Some(&time));
    }
}

/// Whether a process lives (a zombie does not).
pub(crate) fn lives(pid: &str) -> bool {
    // Without a number `/proc//stat` would be read, which is always there.
    let Ok(pid) = pid.trim().parse::<u32>() else { return false };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}
