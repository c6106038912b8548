//! Logs on the worker's side: the real windows say what may be sent and from where.

use busybee::model::attempt::LogChunk;
use busybee::model::attempt::LogOwner;
use busybee::model::ids::WorkerName;
use busybee::wire::log_window::WINDOW_BYTES_MAX;
use busybee::wire::message::FromAgent;

use crate::hosts::Host;
use crate::world::World;

/// What each chunk takes of the window: four are under way at once.
const CHUNK_TAKES: usize = WINDOW_BYTES_MAX / 4;

impl World {
    /// Sends what the windows allow.
    pub(crate) fn ship(&mut self, name: &WorkerName) {
        while let Some(chunk) = self.next_chunk(name) {
            self.agent_says(name, FromAgent::LogChunk(chunk));
        }
    }

    fn next_chunk(&mut self, name: &WorkerName) -> Option<LogChunk> {
        let length = 1 + self.random(300) as usize;
        let now = self.now;
        let host = self.hosts.get_mut(name)?;
        let Host { process, dirs, .. } = host;
        let process = process.as_mut().filter(|process| process.ships)?;
        process.shipped.iter_mut().find_map(|(owner, window)| {
            let LogOwner::Step { attempt, step } = owner else { return None };
            let log = &dirs.get(attempt)?.steps.get(step)?.log;
            let offset = window.next()?;
            let rest = log.get(offset as usize..).filter(|rest| !rest.is_empty())?;
            let frame = rest[..rest.len().min(length)].to_vec();
            window.sent(frame.len() as u64, CHUNK_TAKES);
            let raw_len = u32::try_from(frame.len()).expect("a chunk is short");
            Some(LogChunk { owner: *owner, offset, raw_len, first_at: now, last_at: now, frame })
        })
    }

    /// An ack reaches the agent.
    pub(crate) fn log_acked(
        &mut self,
        name: &WorkerName,
        owner: LogOwner,
        durable: u64,
        rewind_to: Option<u64>,
    ) {
        let LogOwner::Step { attempt, step } = owner else { return };
        let Some(host) = self.hosts.get_mut(name) else { return };
        let files = host.dirs.get(&attempt).and_then(|dir| dir.steps.get(&step));
        let written = files.map_or(0, |files| files.log.len() as u64);
        let Some(process) = &mut host.process else { return };
        if let Some(window) = process.shipped.get_mut(&owner) {
            window.acked(durable, rewind_to, written);
        }
        self.ship(name);
    }
}
