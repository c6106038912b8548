//! The supervisors: the real way through a job's steps, and the real bounds; what steps do is drawn.

use std::time::Duration;

use busybee::agent::domain::bounds::Bounds;
use busybee::agent::domain::bounds::Ending;
use busybee::agent::domain::bounds::Seen;
use busybee::agent::domain::job_run::JobRun;
use busybee::agent::domain::job_run::Next;
use busybee::model::attempt::AttemptOutcome;
use busybee::model::attempt::AttemptRef;
use busybee::model::attempt::AttemptSpec;
use busybee::model::attempt::LogOwner;
use busybee::model::ids::WorkerName;
use busybee::model::step::StepOutcome;
use busybee::model::time::Timestamp;
use busybee::wire::message::FromAgent;
use busybee::wire::message::StepResult;

use crate::hosts::Dir;
use crate::hosts::HostStep;
use crate::planted::Planted;
use crate::world::Happening;
use crate::world::World;

/// Between TERM and KILL.
const TERM_GRACE_MS: u64 = 10_000;

/// A process that owns an attempt.
#[derive(Debug)]
pub(crate) struct Supervisor {
    run: JobRun,
    /// When the whole attempt must be over, by its machine's clock.
    ends: Duration,
    running: Option<Running>,
    /// When it looks next, so that it is planned once.
    wake_at: Option<Timestamp>,
}

/// A step that runs.
#[derive(Debug)]
struct Running {
    step: u32,
    bounds: Bounds,
    began_at: Timestamp,
    ending: Option<Ending>,
}

impl World {
    /// An attempt is written down, and its supervisor starts; or the disk does not take it.
    pub(crate) fn supervisor_starts(
        &mut self,
        name: &WorkerName,
        spec: &AttemptSpec,
        lease: Duration,
        cancelled: bool,
    ) -> Result<(), String> {
        let (attempt, now) = (spec.id, self.now);
        let refused = self.fault("attempt rejected", 8);
        let Some(host) = self.hosts.get_mut(name) else { return Err("it is gone".to_owned()) };
        if refused || host.disk_is_full {
            host.dirs.remove(&attempt);
            return Err("the disk is full".to_owned());
        }
        let dir = Dir {
            spec: spec.clone(),
            lease,
            cancelled,
            steps: Default::default(),
            result: None,
            unclean: None,
        };
        host.dirs.insert(attempt, dir);
        host.projects.insert(spec.project.clone());
        let whens = spec.steps.iter().map(|step| step.when).collect();
        let supervisor = Supervisor {
            run: JobRun::new(spec.checkout.is_some(), whens),
            ends: host.monotonic(now) + spec.timeout,
            running: None,
            wake_at: None,
        };
        host.supervisors.insert(attempt, supervisor);
        self.laws.attempt_starts(&self.settings, &self.disk, &self.hosts, name, attempt);
        self.goes_on(name, attempt);
        Ok(())
    }

    /// To the next step, or to the end.
    fn goes_on(&mut self, name: &WorkerName, attempt: AttemptRef) {
        loop {
            let now = self.now;
            let Some(host) = self.hosts.get_mut(name) else { return };
            let monotonic = host.monotonic(now);
            let (Some(supervisor), Some(dir)) =
                (host.supervisors.get_mut(&attempt), host.dirs.get_mut(&attempt))
            else {
                return;
            };
            if dir.cancelled {
                supervisor.run.cancel_is_there();
            }
            match supervisor.run.next_step() {
                Next::Done(outcome) => return self.supervisor_ends(name, attempt, outcome),
                Next::Skip(step) => {
                    let result = result_of(attempt, step, StepOutcome::Skipped, now, now, 0);
                    dir.steps.entry(step).or_default().result = Some(result);
                }
                Next::Run(step) => {
                    let timeout = step.checked_sub(1).and_then(|index| {
                        dir.spec.steps.get(index as usize).and_then(|spec| spec.timeout)
                    });
                    let bounds = Bounds {
                        step_ends: timeout.map(|timeout| monotonic + timeout),
                        attempt_ends: supervisor.ends,
                        heeds_cancel: supervisor.run.heeds_cancel(),
                    };
                    let running = Running { step, bounds, began_at: now, ending: None };
                    supervisor.running = Some(running);
                    let started = FromAgent::StepStarted { attempt, step, started_at: now };
                    dir.steps.entry(step).or_default().started = Some(started);
                    return self.step_runs(name, attempt, step);
                }
            }
        }
    }

    fn step_runs(&mut self, name: &WorkerName, attempt: AttemptRef, step: u32) {
        let outcome = match self.random(24) {
            0..=19 => StepOutcome::Exited(0),
            20..=21 => StepOutcome::Exited(1),
            22 => StepOutcome::Signalled(9),
            _ if self.faults => StepOutcome::Infra("no such commit".to_owned()),
            _ => StepOutcome::Exited(0),
        };
        let longest = if step == 0 { 10_000 } else { 150_000 };
        if !self.fault("step hangs", 40) {
            let takes = 200 + self.random(longest);
            let ends = HostStep::StepEnds(attempt, step, outcome);
            self.later(takes, Happening::Host(name.clone(), ends));
        }
        self.later(50, Happening::Host(name.clone(), HostStep::Prints(attempt, step)));
        self.plan_to_look(name);
        self.supervises(name, attempt);
    }

    /// Looks whether the step must end, as it does whenever it is woken.
    pub(crate) fn supervises(&mut self, name: &WorkerName, attempt: AttemptRef) {
        let (now, ignores_lease) = (self.now, self.planted == Planted::LeaseIgnored);
        let grace = self.random(TERM_GRACE_MS);
        let Some(host) = self.hosts.get_mut(name) else { return };
        let monotonic = host.monotonic(now);
        let (Some(supervisor), Some(dir)) =
            (host.supervisors.get_mut(&attempt), host.dirs.get(&attempt))
        else {
            return;
        };
        supervisor.wake_at = supervisor.wake_at.filter(|at| *at > now);
        let Some(running) = &mut supervisor.running else { return };
        if running.ending.is_some() {
            return;
        }
        let seen = Seen {
            disk_failed: host.disk_is_full,
            cancelled: dir.cancelled,
            lease: (!ignores_lease).then_some(dir.lease),
        };
        let Some(ending) = running.bounds.must_end(monotonic, seen) else {
            let due = running.bounds.next_timeout(seen);
            let at = host.when(due);
            let supervisor = host.supervisors.get_mut(&attempt).expect("it was just there");
            if supervisor.wake_at.is_none_or(|planned| planned > at) {
                supervisor.wake_at = Some(at);
                self.at(at, Happening::Host(name.clone(), HostStep::Supervises(attempt)));
            }
            return;
        };
        running.ending = Some(ending);
        let step = running.step;
        self.note(|| format!("    {name}: {}", ending.sentence()));
        let ends = HostStep::StepEnds(attempt, step, ending.outcome("no space left"));
        self.later(grace, Happening::Host(name.clone(), ends));
    }

    pub(crate) fn step_ends(
        &mut self,
        name: &WorkerName,
        attempt: AttemptRef,
        step: u32,
        outcome: StepOutcome,
    ) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(name) else { return };
        let disk_is_full = host.disk_is_full;
        let (Some(supervisor), Some(dir)) =
            (host.supervisors.get_mut(&attempt), host.dirs.get_mut(&attempt))
        else {
            return;
        };
        let Some(running) = supervisor.running.take_if(|running| running.step == step) else {
            return;
        };
        if disk_is_full {
            // It cannot even say so, and gives up.
            host.supervisors.remove(&attempt);
            return self.plan_to_look(name);
        }
        // Who is being ended may end by itself just then; what it was told counts.
        let outcome = match running.ending {
            Some(ending) => ending.outcome("no space left"),
            None => outcome,
        };
        supervisor.run.finished(&outcome, running.ending);
        let files = dir.steps.entry(step).or_default();
        let length = files.log.len() as u64;
        files.result = Some(result_of(attempt, step, outcome, running.began_at, now, length));
        self.plan_to_look(name);
        self.goes_on(name, attempt);
    }

    fn supervisor_ends(&mut self, name: &WorkerName, attempt: AttemptRef, outcome: AttemptOutcome) {
        let leaves_something = self.fault("machine unclean", 4);
        let Some(host) = self.hosts.get_mut(name) else { return };
        host.supervisors.remove(&attempt);
        if let Some(dir) = host.dirs.get_mut(&attempt) {
            dir.result = Some(FromAgent::AttemptResult { attempt, outcome: outcome.clone() });
            dir.unclean = leaves_something.then(|| "sleep (4711)".to_owned());
        }
        self.laws.attempt_ended(name, attempt, &outcome);
        self.plan_to_look(name);
    }

    /// They are killed: nothing of them writes a result.
    pub(crate) fn supervisors_die(&mut self, name: &WorkerName) {
        if let Some(host) = self.hosts.get_mut(name) {
            host.supervisors.clear();
        }
    }

    /// A step that prints finds the disk full, and is ended.
    pub(crate) fn disk_fails_steps(&mut self, name: &WorkerName) {
        let Some(host) = self.hosts.get(name) else { return };
        let all: Vec<AttemptRef> = host.supervisors.keys().copied().collect();
        for attempt in all {
            self.supervises(name, attempt);
        }
    }

    /// A step prints something, and will again while it runs.
    pub(crate) fn prints(&mut self, name: &WorkerName, attempt: AttemptRef, step: u32) {
        let length = 1 + self.random(400);
        let first = self.random(256);
        let bytes: Vec<u8> = (0..length).map(|index| (first + index * 7) as u8).collect();
        let again = 2_000 + self.random(40_000);
        let Some(host) = self.hosts.get_mut(name) else { return };
        let supervisor = host.supervisors.get(&attempt);
        let runs = supervisor.and_then(|it| it.running.as_ref()).is_some_and(|it| it.step == step);
        let Some(dir) = host.dirs.get_mut(&attempt).filter(|_| runs) else { return };
        dir.steps.entry(step).or_default().log.extend_from_slice(&bytes);
        self.laws.printed(LogOwner::Step { attempt, step }, &bytes);
        self.later(again, Happening::Host(name.clone(), HostStep::Prints(attempt, step)));
        self.plan_to_look(name);
    }
}

fn result_of(
    attempt: AttemptRef,
    step: u32,
    outcome: StepOutcome,
    began_at: Timestamp,
    now: Timestamp,
    log_bytes: u64,
) -> FromAgent {
    FromAgent::StepResult(StepResult {
        attempt,
        step,
        outcome,
        started_at: began_at,
        duration_ms: now.since(began_at).as_millis() as u64,
        log_bytes,
        log_sha256: vec![0; 32],
    })
}
