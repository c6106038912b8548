//! The supervisor's main: an attempt from its spec to its result.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use crate::agent::attempt_dir::AttemptDir;
use crate::agent::domain::job_run::JobRun;
use crate::agent::domain::job_run::Next;
use crate::agent::domain::redactor::Redactor;
use crate::agent::domain::step_user::StepUser;
use crate::agent::files;
use crate::agent::orphans;
use crate::agent::privileges;
use crate::agent::supervisor::checkout;
use crate::agent::supervisor::command;
use crate::agent::supervisor::command::Bounds;
use crate::agent::supervisor::command::Ending;
use crate::agent::supervisor::spool::SPOOL_BYTES_MAX;
use crate::agent::supervisor::spool::Spool;
use crate::agent::supervisor::stage::Stage;
use crate::agent::supervisor::sweep;
use crate::agent::supervisor::waiting::Waiting;
use crate::model::attempt::AttemptOutcome;
use crate::model::attempt::AttemptSpec;
use crate::model::attempt::GitCredential;
use crate::model::attempt::SecretVariable;
use crate::model::step::Shell;
use crate::model::step::StepOutcome;
use crate::model::step::StepSpec;
use crate::runtime::clock;
use crate::wire::message::FromAgent;
use crate::wire::message::StepResult;

/// What every command of an attempt shares.
pub(super) struct Attempt {
    pub(super) dir: AttemptDir,
    pub(super) spec: AttemptSpec,
    pub(super) waiting: Waiting,
    pub(super) stage: Stage,
    /// Variables of every command.
    pub(super) env: Vec<(String, String)>,
    /// Hides secrets in what they print; each step begins with a copy.
    redactor: Redactor,
    /// When all of it must be over; monotonic.
    ends: Duration,
}

impl Attempt {
    /// What bounds a command of this attempt.
    pub(super) fn bounds(&self, timeout: Option<Duration>, heeds_cancel: bool) -> Bounds<'_> {
        Bounds {
            dir: &self.dir,
            waiting: &self.waiting,
            step_ends: timeout.map(|timeout| clock::monotonic() + timeout),
            attempt_ends: self.ends,
            heeds_cancel,
        }
    }
}

/// Whose rights the commands of an attempt have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepsRunAs {
    /// The agent's own.
    Agent,
    /// Those of a user of this name; this process is root.
    User {
        name: String,
        /// The machine is ours as a whole: between jobs, everything of this user is ended and removed.
        is_swept: bool,
    },
}

impl StepsRunAs {
    /// What the agent says to the supervisor that it starts.
    pub fn arguments(&self) -> Vec<&str> {
        match self {
            StepsRunAs::Agent => Vec::new(),
            StepsRunAs::User { name, is_swept: false } => vec!["--user", name],
            StepsRunAs::User { name, is_swept: true } => vec!["--user", name, "--sweep"],
        }
    }

    /// The same, read again.
    pub fn from_arguments(arguments: &[&str]) -> Option<StepsRunAs> {
        let user = |name: &str, is_swept| StepsRunAs::User { name: name.to_owned(), is_swept };
        match arguments {
            [] => Some(StepsRunAs::Agent),
            ["--user", name] => Some(user(name, false)),
            ["--user", name, "--sweep"] => Some(user(name, true)),
            _ => None,
        }
    }

    fn user(&self) -> anyhow::Result<Option<StepUser>> {
        match self {
            StepsRunAs::Agent => Ok(None),
            StepsRunAs::User { name, .. } => {
                let user = privileges::find(name)?;
                privileges::drop_groups()?;
                Ok(Some(user))
            }
        }
    }
}

/// Carries out the attempt whose directory this is. Returns once its result is written.
///
/// # Errors
/// When not even a result could be written; the agent then finds the lock free and says so itself.
pub fn run(path: &Path, runs_as: &StepsRunAs) -> anyhow::Result<()> {
    let dir = AttemptDir::at(path.to_owned());
    let _alive = dir.lock()?.context("another supervisor has this attempt")?;
    become_owner()?;
    orphans::note_session(&dir).context("note the supervisor's session")?;
    let spec = dir.spec()?.context("the attempt has no spec")?;
    let waiting = Waiting::new(&dir.wake_fifo())?;
    let user = runs_as.user()?;
    let swept = match runs_as {
        StepsRunAs::User { is_swept: true, .. } => user.clone(),
        StepsRunAs::User { .. } | StepsRunAs::Agent => None,
    };
    let stage = Stage::new(&dir, spec.project.as_str(), user);
    let env = environment(&spec, dir.home(), &stage);
    let ends = clock::monotonic() + spec.timeout;
    let redactor = redactor(&spec);
    let mut attempt = Attempt { dir, spec, waiting, stage, env, redactor, ends };
    // A supervisor that was killed has ended nothing; so each begins with what it will end with.
    let ready = clear(&attempt, swept.as_ref()).and_then(|()| has_secrets(&attempt.spec));
    let outcome = match ready {
        Ok(()) => carry_out(&mut attempt)?,
        Err(why) => AttemptOutcome::Infra(why),
    };
    // Nothing of this attempt may meet the next one.
    command::end_all(&attempt.waiting);
    if let (Err(why), Some(_)) = (clear(&attempt, swept.as_ref()), &swept) {
        attempt.dir.set_unclean(&why).context("note that the machine is unclean")?;
    }
    let result = FromAgent::AttemptResult { attempt: attempt.spec.id, outcome };
    attempt.dir.write_result(result)?;
    crate::agent::attempt_dir::wake(&attempt.dir.agent_fifo());
    Ok(())
}

/// Whether the master gave every secret that the job lists.
fn has_secrets(spec: &AttemptSpec) -> Result<(), String> {
    match spec.secrets.iter().find_map(|secret| Some((&secret.name, secret.value.as_ref().err()?)))
    {
        Some((name, why)) => Err(format!("the secret {name} is missing: {why}")),
        None => Ok(()),
    }
}

/// Ends and removes what an attempt leaves outside of its workspace.
fn clear(attempt: &Attempt, swept: Option<&StepUser>) -> Result<(), String> {
    if let Some(user) = swept {
        sweep::sweep(user, &attempt.waiting)?;
    }
    attempt.stage.clear().map_err(|why| format!("files of a job could not be removed: {why}"))
}

/// Every descendant that loses its parent becomes a child of this process; the kernel may choose
/// steps before the agent when memory is short.
fn become_owner() -> anyhow::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context("become the subreaper of the steps")?;
    let _needs_root_to_lower = std::fs::write("/proc/self/oom_score_adj", "0");
    Ok(())
}

/// What a step finds in its environment before the job's own variables.
fn environment(spec: &AttemptSpec, home: &Path, stage: &Stage) -> Vec<(String, String)> {
    const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let own = |name: &str| std::env::var(name).ok();
    let user_home = own("HOME").unwrap_or_else(|| home.display().to_string());
    let mut env = vec![
        ("PATH".to_owned(), own("PATH").unwrap_or_else(|| PATH.to_owned())),
        ("HOME".to_owned(), user_home),
        ("TMPDIR".to_owned(), stage.tmp.display().to_string()),
        ("LANG".to_owned(), own("LANG").unwrap_or_else(|| "C.UTF-8".to_owned())),
        ("TERM".to_owned(), "dumb".to_owned()),
    ];
    for name in ["USER", "LOGNAME", "SHELL"] {
        env.extend(own(name).map(|value| (name.to_owned(), value)));
    }
    // Later ones win, where a command is started.
    env.extend(stage.environment());
    env.extend(spec.env.iter().cloned());
    env
}

/// The secrets of an attempt, as variables.
fn secrets(spec: &AttemptSpec) -> impl Iterator<Item = (&str, &str)> {
    fn given(secret: &SecretVariable) -> Option<(&str, &str)> {
        Some((&secret.name, secret.value.as_ref().ok()?.reveal()))
    }
    spec.secrets.iter().filter_map(given)
}

/// What no log of the attempt may show: its secrets, and what git proves itself with.
fn redactor(spec: &AttemptSpec) -> Redactor {
    let credential = match spec.checkout.as_ref().map(|checkout| &checkout.credential) {
        Some(GitCredential::Token(token)) => {
            // A token file may name its user as well, who is no secret.
            let token = token.reveal().as_str();
            Some(token.split_once(':').map_or(token, |(_, token)| token))
        }
        Some(GitCredential::SshKey { key, .. }) => Some(key.reveal().as_str()),
        Some(GitCredential::None) | None => None,
    };
    Redactor::new(secrets(spec).map(|(_, value)| value).chain(credential))
}

fn carry_out(attempt: &mut Attempt) -> anyhow::Result<AttemptOutcome> {
    let whens = attempt.spec.steps.iter().map(|step| step.when).collect();
    let mut run = JobRun::new(attempt.spec.checkout.is_some(), whens);
    if let Err(why) = prepare(attempt) {
        return Ok(AttemptOutcome::Infra(format!("cannot prepare the job's folders: {why}")));
    }
    let mut is_cancelled = false;
    loop {
        if !is_cancelled && attempt.dir.is_cancelled() {
            is_cancelled = true;
            run.cancel();
        }
        match run.next_step() {
            Next::Done(outcome) => return Ok(outcome),
            Next::Skip(step) => skip(attempt, step)?,
            Next::Run(step) => {
                let (outcome, ending) = step_from_start_to_end(attempt, step, is_cancelled)?;
                match ending {
                    Some(Ending::Attempt | Ending::Lease) => run.stop(&outcome),
                    Some(Ending::Step | Ending::Cancel | Ending::Disk) | None => {
                        run.finished(&outcome);
                    }
                }
                is_cancelled |= outcome == StepOutcome::Cancelled;
            }
        }
    }
}

fn prepare(attempt: &Attempt) -> std::io::Result<()> {
    attempt.stage.prepare()?;
    match attempt.spec.checkout {
        Some(_) => Ok(()),
        None => attempt.stage.act(|| files::make_private_dir(&attempt.stage.workspace)),
    }
}

fn skip(attempt: &Attempt, step: u32) -> anyhow::Result<()> {
    let result = StepResult {
        attempt: attempt.spec.id,
        step,
        outcome: StepOutcome::Skipped,
        started_at: clock::now(),
        duration_ms: 0,
        log_bytes: 0,
        log_sha256: ring::digest::digest(&ring::digest::SHA256, b"").as_ref().to_vec(),
    };
    attempt.dir.write_step_result(step, FromAgent::StepResult(result))?;
    crate::agent::attempt_dir::wake(&attempt.dir.agent_fifo());
    Ok(())
}

fn step_from_start_to_end(
    attempt: &Attempt,
    step: u32,
    is_cancelled: bool,
) -> anyhow::Result<(StepOutcome, Option<Ending>)> {
    let id = attempt.spec.id;
    let (started_at, from) = (clock::now(), clock::monotonic());
    let fifo = attempt.dir.agent_fifo();
    let path = attempt.dir.log(step);
    let mut spool = Spool::create(&path, fifo.clone(), SPOOL_BYTES_MAX, attempt.redactor.clone())
        .context("create a step's spool")?;
    attempt.dir.write_started(step, FromAgent::StepStarted { attempt: id, step, started_at })?;
    crate::agent::attempt_dir::wake(&fifo);
    let (outcome, ending) = match step.checked_sub(1) {
        None => checkout::run(attempt, &mut spool),
        Some(index) => match attempt.spec.steps.get(index as usize) {
            Some(spec) => run_step(attempt, step, spec, is_cancelled, &mut spool),
            None => (StepOutcome::Infra("there is no such step".into()), None),
        },
    };
    let (log_bytes, log_sha256) = spool.finish();
    let duration = clock::monotonic().saturating_sub(from);
    let result = StepResult {
        attempt: id,
        step,
        outcome: outcome.clone(),
        started_at,
        duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        log_bytes,
        log_sha256,
    };
    attempt.dir.write_step_result(step, FromAgent::StepResult(result))?;
    crate::agent::attempt_dir::wake(&fifo);
    Ok((outcome, ending))
}

fn run_step(
    attempt: &Attempt,
    step: u32,
    spec: &StepSpec,
    is_cancelled: bool,
    spool: &mut Spool,
) -> (StepOutcome, Option<Ending>) {
    // Outside the checkout, and not on the command line, where everybody could read it.
    let script = match attempt.stage.write_private(&format!("{step}.sh"), spec.run.as_bytes()) {
        Ok(script) => script,
        Err(why) => {
            return (StepOutcome::Infra(format!("cannot write the step's script: {why}")), None);
        }
    };
    let mut command = match spec.shell {
        Shell::Sh => {
            let mut command = Command::new("sh");
            command.arg("-e").arg(&script);
            command
        }
        Shell::Bash => {
            let mut command = Command::new("bash");
            command.args(["-e", "-o", "pipefail"]).arg(&script);
            command
        }
    };
    let mut env = attempt.env.clone();
    env.extend(spec.env.iter().cloned());
    env.extend(secrets(&attempt.spec).map(|(name, value)| (name.to_owned(), value.to_owned())));
    let bounds = attempt.bounds(spec.timeout, !is_cancelled);
    attempt.stage.adopt(&mut command);
    command::run(command, &attempt.stage.workspace, &env, &bounds, spool)
}
