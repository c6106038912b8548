//! The supervisor's main: an attempt from its spec to its result.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use crate::agent::attempt_dir::AttemptDir;
use crate::agent::domain::job_run::JobRun;
use crate::agent::domain::job_run::Next;
use crate::agent::files;
use crate::agent::supervisor::checkout;
use crate::agent::supervisor::command;
use crate::agent::supervisor::command::Bounds;
use crate::agent::supervisor::command::Ending;
use crate::agent::supervisor::spool::SPOOL_BYTES_MAX;
use crate::agent::supervisor::spool::Spool;
use crate::agent::supervisor::waiting::Waiting;
use crate::model::attempt::AttemptOutcome;
use crate::model::attempt::AttemptSpec;
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
    /// Where steps run.
    pub(super) workspace: PathBuf,
    /// Variables of every command.
    pub(super) env: Vec<(String, String)>,
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

/// Carries out the attempt whose directory this is. Returns once its result is written.
///
/// # Errors
/// When not even a result could be written; the agent then finds the lock free and says so itself.
pub fn run(path: &Path) -> anyhow::Result<()> {
    let dir = AttemptDir::at(path.to_owned());
    let _alive = dir.lock()?.context("another supervisor has this attempt")?;
    become_owner()?;
    let spec = dir.spec()?.context("the attempt has no spec")?;
    let waiting = Waiting::new(&dir.wake_fifo())?;
    let home = dir.home().to_owned();
    let workspace = home.join("workspaces").join(folder_name(spec.project.as_str()));
    let tmp = dir.path().join("tmp");
    files::make_private_dir(&tmp).context("make the attempt's TMPDIR")?;
    let env = environment(&spec, &home, &tmp);
    let ends = clock::monotonic() + spec.timeout;
    let mut attempt = Attempt { dir, spec, waiting, workspace, env, ends };
    let outcome = carry_out(&mut attempt)?;
    // Nothing of this attempt may meet the next one.
    command::end_all(&attempt.waiting);
    let result = FromAgent::AttemptResult { attempt: attempt.spec.id, outcome };
    attempt.dir.write_result(result)?;
    crate::agent::attempt_dir::wake(&attempt.dir.agent_fifo());
    Ok(())
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
fn environment(spec: &AttemptSpec, home: &Path, tmp: &Path) -> Vec<(String, String)> {
    const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let own = |name: &str| std::env::var(name).ok();
    let user_home = own("HOME").unwrap_or_else(|| home.display().to_string());
    let mut env = vec![
        ("PATH".to_owned(), own("PATH").unwrap_or_else(|| PATH.to_owned())),
        ("HOME".to_owned(), user_home),
        ("TMPDIR".to_owned(), tmp.display().to_string()),
        ("LANG".to_owned(), own("LANG").unwrap_or_else(|| "C.UTF-8".to_owned())),
        ("TERM".to_owned(), "dumb".to_owned()),
    ];
    for name in ["USER", "LOGNAME", "SHELL"] {
        env.extend(own(name).map(|value| (name.to_owned(), value)));
    }
    env.extend(spec.env.iter().cloned());
    env
}

/// A project's name as a folder's: names are the admin's, and may hold a slash.
fn folder_name(project: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let plain: String = project.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    format!("p-{plain}")
}

fn carry_out(attempt: &mut Attempt) -> anyhow::Result<AttemptOutcome> {
    let whens = attempt.spec.steps.iter().map(|step| step.when).collect();
    let mut run = JobRun::new(attempt.spec.checkout.is_some(), whens);
    if attempt.spec.checkout.is_none() {
        files::make_private_dir(&attempt.workspace).context("make the workspace")?;
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
    let mut spool = Spool::create(&attempt.dir.log(step), fifo.clone(), SPOOL_BYTES_MAX)
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
    let script = attempt.dir.path().join(format!("{step}.sh"));
    if let Err(why) = files::write_whole(&script, spec.run.as_bytes()) {
        return (StepOutcome::Infra(format!("cannot write the step's script: {why}")), None);
    }
    let command = match spec.shell {
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
    let bounds = attempt.bounds(spec.timeout, !is_cancelled);
    command::run(command, &attempt.workspace, &env, &bounds, spool)
}
