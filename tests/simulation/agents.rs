//! The agents' processes: the real decisions and the real end of the connection, between files and a
//! network that are not real.

use std::collections::BTreeMap;
use std::time::Duration;

use busybee::agent::domain::agent::Agent;
use busybee::agent::domain::agent::Event;
use busybee::agent::domain::held::Sight;
use busybee::agent::domain::held::StepSight;
use busybee::model::attempt::AttemptRef;
use busybee::model::attempt::LogOwner;
use busybee::model::ids::WorkerName;
use busybee::model::time::Timestamp;
use busybee::wire::agent_end::AgentEnd;
use busybee::wire::agent_end::GOOD_SESSION;
use busybee::wire::agent_end::Heard;
use busybee::wire::agent_end::REDIAL;
use busybee::wire::log_window::LogWindow;
use busybee::wire::message::GoodbyeCode;

use crate::hosts::Host;
use crate::hosts::HostStep;
use crate::links::LinkId;
use crate::links::Piece;
use crate::links::Side;
use crate::world::Happening;
use crate::world::World;

/// The agent looks at a running attempt's files at least this often.
const LOOK_EVERY_MS: u64 = 1_000;

/// A process of an agent.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) domain: Agent,
    pub(crate) call: Option<Call>,
    tries: u32,
    wake_at: Option<Timestamp>,
    is_look_planned: bool,
    pub(crate) shipped: BTreeMap<LogOwner, LogWindow>,
    pub(crate) ships: bool,
}

/// A connection, as the agent has it.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) link: LinkId,
    pub(crate) end: AgentEnd,
    pub(crate) is_up: bool,
    began_at: Duration,
}

impl World {
    /// A host with a process, and what its clock shows.
    pub(crate) fn process(&mut self, name: &WorkerName) -> Option<(Duration, &mut Process)> {
        let now = self.now;
        let host = self.hosts.get_mut(name)?;
        let monotonic = host.monotonic(now);
        Some((monotonic, host.process.as_mut()?))
    }

    pub(crate) fn process_starts(&mut self, name: &WorkerName) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(name) else { return };
        if host.process.is_some() {
            return;
        }
        host.epoch += 1;
        let is_local = host.pool.as_str() == "big";
        let domain = Agent::new(host.monotonic(now), &host.found(), is_local);
        host.process = Some(Process {
            domain,
            call: None,
            tries: 0,
            wake_at: None,
            is_look_planned: false,
            shipped: BTreeMap::new(),
            ships: false,
        });
        let epoch = host.epoch;
        self.note(|| format!("-- the agent of {name} starts, epoch {epoch}"));
        self.calls(name);
        self.plan_to_wake(name);
    }

    /// The process dies; the kernel hangs up for it, unless the whole machine is gone.
    pub(crate) fn process_dies(&mut self, name: &WorkerName, kernel_hangs_up: bool) {
        let Some(host) = self.hosts.get_mut(name) else { return };
        let Some(process) = host.process.take() else { return };
        if let Some(call) = process.call {
            self.links.disown(call.link);
            if kernel_hangs_up {
                self.hang_up(call.link, Side::Master);
            }
        }
    }

    pub(crate) fn thief_calls(&mut self, name: &WorkerName) {
        if self.master.it.is_none() {
            return;
        }
        let link = self.accept(None);
        let exporter = self.links.get(link).expect("it was just opened").exporter;
        let Some(host) = self.hosts.get(name) else { return };
        let bytes = crate::greetings::of_thief(host, name, &exporter);
        self.transmit(link, Side::Master, &bytes);
    }

    pub(crate) fn agent_receives(&mut self, link: LinkId, piece: Piece) {
        let Some(name) = self.links.get(link).and_then(|link| link.worker.clone()) else { return };
        let Some((_, process)) = self.process(&name) else { return };
        let Some(call) = process.call.as_mut().filter(|call| call.link == link) else { return };
        match piece {
            Piece::End => return self.is_down(&name, false),
            Piece::Bytes(bytes) => call.end.room().extend_from_slice(&bytes),
        }
        loop {
            let Some((now, process)) = self.process(&name) else { return };
            let Some(call) = process.call.as_mut().filter(|call| call.link == link) else { return };
            let heard = call.end.next(now);
            match heard.unwrap_or_else(|broken| panic!("our master broke a rule: {broken}")) {
                None => break,
                Some(Heard::Welcome(welcome)) => {
                    call.is_up = true;
                    let by_key = self.resumes_by_key;
                    let host = self.hosts.get_mut(&name).expect("it has a process");
                    host.pinned = by_key.then(|| welcome.master_key.clone());
                    let bootstrapped = host.is_bootstrapped;
                    self.decides(&name, Event::Up { welcome, bootstrapped });
                }
                Some(Heard::Message(message)) => self.decides(&name, Event::Message(message)),
                Some(Heard::Goodbye { code: GoodbyeCode::Retry, .. }) => {
                    return self.is_down(&name, true);
                }
                Some(Heard::Goodbye { code: GoodbyeCode::Refused, .. }) => {
                    self.hang_up(link, Side::Master);
                    if let Some((_, process)) = self.process(&name) {
                        process.call = None;
                    }
                    return self.decides(&name, Event::Refused);
                }
            }
        }
        self.plan_to_wake(&name);
    }

    /// This end gives a connection up, so that the other one hears of it if it can; and calls again.
    pub(crate) fn hangs_up(&mut self, name: &WorkerName, is_heard: bool) {
        self.is_down(name, is_heard);
    }

    fn is_down(&mut self, name: &WorkerName, hang_up: bool) {
        let random = self.random(u64::MAX);
        let Some((now, process)) = self.process(name) else { return };
        let Some(call) = process.call.take() else { return };
        process.ships = false;
        if now.saturating_sub(call.began_at) >= GOOD_SESSION {
            process.tries = 0;
        }
        let wait = REDIAL.delay(process.tries, random);
        process.tries = process.tries.saturating_add(1);
        if hang_up {
            self.hang_up(call.link, Side::Master);
        }
        self.links.disown(call.link);
        self.calls_later(name, wait);
        self.decides(name, Event::Down);
        self.plan_to_wake(name);
    }

    fn calls_later(&mut self, name: &WorkerName, wait: Duration) {
        let Some(host) = self.hosts.get(name) else { return };
        let calls = HostStep::Calls(host.epoch);
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.later(wait_ms, Happening::Host(name.clone(), calls));
    }

    pub(crate) fn calls(&mut self, name: &WorkerName) {
        let now = self.now;
        let random = self.random(u64::MAX);
        let Some(host) = self.hosts.get_mut(name) else { return };
        let is_offline = host.offline_until > now;
        let Some(process) = host.process.as_mut().filter(|it| it.call.is_none()) else { return };
        if process.domain.is_ending() {
            return;
        }
        if is_offline || self.master.it.is_none() {
            let wait = REDIAL.delay(process.tries, random);
            process.tries = process.tries.saturating_add(1);
            return self.calls_later(name, wait);
        }
        let link = self.accept(Some(name.clone()));
        let exporter = self.links.get(link).expect("it was just opened").exporter;
        let Some(host) = self.hosts.get_mut(name) else { return };
        let began_at = host.monotonic(now);
        let busy = host.process.as_ref().is_some_and(|it| it.domain.attempts().is_busy());
        let (end, bytes) = crate::greetings::of_agent(host, name, began_at, &exporter, busy);
        if let Some(process) = &mut host.process {
            process.call = Some(Call { link, end, is_up: false, began_at });
        }
        self.transmit(link, Side::Master, &bytes);
        self.plan_to_wake(name);
    }

    /// Wakes the process when its decisions or its end of the connection want it.
    pub(crate) fn plan_to_wake(&mut self, name: &WorkerName) {
        let Some(host) = self.hosts.get_mut(name) else { return };
        let Some(process) = &host.process else { return };
        let deadline = process.call.as_ref().map(|call| call.end.deadline().0);
        let due = [process.domain.next_timeout(), deadline].into_iter().flatten().min();
        let Some(due) = due else { return };
        let (at, epoch) = (host.when(due).max(self.now), host.epoch);
        let process = host.process.as_mut().expect("it was just there");
        if process.wake_at.is_none_or(|planned| planned > at) {
            process.wake_at = Some(at);
            self.at(at, Happening::Host(name.clone(), HostStep::Wakes(epoch)));
        }
    }

    pub(crate) fn wakes(&mut self, name: &WorkerName) {
        let Some((now, process)) = self.process(name) else { return };
        process.wake_at = None;
        let is_late = |call: &Call| call.end.deadline().0 <= now;
        if process.call.as_ref().is_some_and(is_late) {
            *self.counts.entry("agent gives up a connection").or_default() += 1;
            self.is_down(name, true);
        }
        self.decides(name, Event::Tick);
        self.plan_to_wake(name);
    }

    pub(crate) fn plan_to_look(&mut self, name: &WorkerName) {
        let longest = if self.random(10) == 0 { LOOK_EVERY_MS } else { 20 };
        let delay = 1 + self.random(longest);
        let Some(host) = self.hosts.get_mut(name) else { return };
        let epoch = host.epoch;
        let Some(process) = &mut host.process else { return };
        if !std::mem::replace(&mut process.is_look_planned, true) {
            self.later(delay, Happening::Host(name.clone(), HostStep::Looks(epoch)));
        }
    }

    /// Looks at the attempts' files.
    pub(crate) fn looks(&mut self, name: &WorkerName) {
        let Some((_, process)) = self.process(name) else { return };
        process.is_look_planned = false;
        for (attempt, steps) in process.domain.attempts().to_look_at() {
            let Some(host) = self.hosts.get(name) else { return };
            let Some(sight) = sight_of(host, attempt, &steps) else { continue };
            self.decides(name, Event::Looked(attempt, sight));
        }
        self.ship(name);
        let Some((_, process)) = self.process(name) else { return };
        if process.domain.attempts().is_busy() || process.domain.is_ending() {
            process.is_look_planned = true;
            let every = LOOK_EVERY_MS * 5;
            let Some(host) = self.hosts.get(name) else { return };
            let looks = HostStep::Looks(host.epoch);
            self.later(every, Happening::Host(name.clone(), looks));
        }
    }
}

fn sight_of(host: &Host, attempt: AttemptRef, steps: &[u32]) -> Option<Sight> {
    let dir = host.dirs.get(&attempt)?;
    let steps = steps.iter().filter_map(|step| {
        let files = dir.steps.get(step)?;
        let (started, result) = (files.started.clone(), files.result.clone());
        Some(StepSight { step: *step, started, result })
    });
    Some(Sight {
        supervised: host.supervisors.contains_key(&attempt),
        steps: steps.collect(),
        result: dir.result.clone(),
        unclean: dir.unclean.clone(),
    })
}
