//! What the agents' decisions lead to: words on the connection, files, supervisors, an end.

use std::collections::VecDeque;

use bytes::BytesMut;

use busybee::agent::domain::agent::Action;
use busybee::agent::domain::agent::End;
use busybee::agent::domain::agent::Event;
use busybee::model::attempt::LogOwner;
use busybee::model::ids::WorkerName;
use busybee::model::step::StepOutcome;
use busybee::wire::convert;
use busybee::wire::log_window::LogWindow;
use busybee::wire::message::FromAgent;
use busybee::wire::message::Heartbeat;

use crate::hosts::HostStep;
use crate::links::Side;
use crate::world::Happening;
use crate::world::World;

impl World {
    /// Lets the real agent decide, and does what it says.
    pub(crate) fn decides(&mut self, name: &WorkerName, event: Event) {
        let Some((now, process)) = self.process(name) else { return };
        let mut actions: VecDeque<Action> = process.domain.handle(now, event).into();
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Send(message) => self.agent_says(name, message),
                Action::Heartbeat(number) => {
                    let heartbeat = Heartbeat { number, ..Heartbeat::default() };
                    self.agent_says(name, FromAgent::Heartbeat(heartbeat));
                    self.host_happens(name);
                }
                Action::ShipLogs => {
                    let Some((_, process)) = self.process(name) else { return };
                    process.ships = true;
                    process.shipped.values_mut().for_each(LogWindow::restart);
                    self.ship(name);
                }
                Action::Ship(owner) => {
                    let Some((_, process)) = self.process(name) else { return };
                    process.shipped.entry(owner).or_insert_with(|| LogWindow::new(0));
                }
                Action::Ack { owner, durable, rewind_to } => {
                    self.log_acked(name, owner, durable, rewind_to);
                }
                Action::Look => self.plan_to_look(name),
                Action::Start { spec, lease_until, cancelled } => {
                    let started = self.supervisor_starts(name, &spec, lease_until, cancelled);
                    let steps = u32::try_from(spec.steps.len()).expect("few steps") + 1;
                    let Some((now, process)) = self.process(name) else { return };
                    let event = Event::Started(spec.id, steps, started);
                    actions.extend(process.domain.handle(now, event));
                }
                Action::Bootstrap(_) => self.bootstraps(name),
                Action::Busy(busy) => {
                    let Some((now, process)) = self.process(name) else { return };
                    if let Some(call) = &mut process.call {
                        call.end.set_busy(now, busy);
                    }
                }
                Action::End(end, _) => return self.agent_ends(name, end),
                Action::Live(_) => {}
                Action::Cancel(_) | Action::Remove(_) | Action::Keep(..) | Action::Renew(..) => {
                    self.agent_writes(name, action);
                }
            }
        }
    }

    /// What goes into the files of an attempt.
    fn agent_writes(&mut self, name: &WorkerName, action: Action) {
        let ignored = matches!(action, Action::Cancel(_)) && self.fault("cancel ignored", 50);
        let Some(host) = self.hosts.get_mut(name) else { return };
        let disk_is_full = host.disk_is_full;
        match action {
            Action::Cancel(attempt) if !ignored => {
                if let Some(dir) = host.dirs.get_mut(&attempt).filter(|_| !disk_is_full) {
                    dir.cancelled = true;
                }
                self.supervises(name, attempt);
            }
            Action::Remove(attempt) => {
                host.dirs.remove(&attempt);
                if let Some(process) = &mut host.process {
                    let is_others = |owner: &LogOwner| !matches!(owner, LogOwner::Step { attempt: of, .. } if *of == attempt);
                    process.shipped.retain(|owner, _| is_others(owner));
                }
            }
            Action::Keep(attempt, result) => {
                if let FromAgent::AttemptResult { outcome, .. } = &result {
                    self.laws.attempt_ended(name, attempt, outcome);
                }
                if let Some(dir) = host.dirs.get_mut(&attempt).filter(|_| !disk_is_full) {
                    dir.result = Some(result);
                }
            }
            Action::Renew(attempt, until) => {
                if let Some(dir) = host.dirs.get_mut(&attempt).filter(|_| !disk_is_full) {
                    dir.lease = until;
                }
            }
            _ => {}
        }
    }

    pub(crate) fn agent_says(&mut self, name: &WorkerName, message: FromAgent) {
        let Some((_, process)) = self.process(name) else { return };
        let Some(call) = process.call.as_ref().filter(|call| call.is_up) else { return };
        let link = call.link;
        if !matches!(message, FromAgent::LogChunk(_) | FromAgent::Heartbeat(_)) {
            self.note(|| format!("    {name} says {message:?}"));
        }
        let mut bytes = BytesMut::new();
        convert::append_from_agent(message, &mut bytes).expect("it fits into a frame");
        self.transmit(link, Side::Master, &bytes);
    }

    fn agent_ends(&mut self, name: &WorkerName, end: End) {
        if end == End::Told && self.fault("shutdown ignored", 60) {
            // It hangs: nothing of it answers any more, and only its machine's end will help.
            let Some((_, process)) = self.process(name) else { return };
            let Some(call) = process.call.take() else { return };
            self.links.disown(call.link);
            return;
        }
        self.note(|| format!("-- the agent of {name} ends: {end:?}"));
        self.process_dies(name, true);
        self.host_is_off(name);
    }

    fn bootstraps(&mut self, name: &WorkerName) {
        let takes = 3000 + self.random(60_000);
        if self.fault("bootstrap hangs", 40) {
            return;
        }
        let fails = self.fault("bootstrap fails", 80);
        let Some(host) = self.hosts.get(name) else { return };
        let ends = HostStep::BootstrapEnds(host.epoch, StepOutcome::Exited(i32::from(fails)));
        self.later(takes, Happening::Host(name.clone(), ends));
    }

    pub(crate) fn bootstrap_ends(&mut self, name: &WorkerName, outcome: StepOutcome) {
        let Some(host) = self.hosts.get_mut(name) else { return };
        host.is_bootstrapped = outcome.passed();
        let tail = "no such package".to_owned();
        let result = FromAgent::BootstrapResult { outcome, log_bytes: 0, tail };
        self.decides(name, Event::Bootstrapped(result));
    }
}
