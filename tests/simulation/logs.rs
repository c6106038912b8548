//! The master's log files, faked: written at once, durable a little later, cut back to that by a crash
//! or by a disk that fails. What is accepted is decided by the real rules.

use std::collections::BTreeMap;

use busybee::master::agents::rules::intake;
use busybee::master::agents::rules::intake::Verdict;
use busybee::master::agents::rules::report::Report;
use busybee::model::attempt::LogChunk;
use busybee::model::attempt::LogOwner;
use busybee::model::ids::ConnectionId;
use busybee::wire::message::FromMaster;

use crate::master::MasterStep;
use crate::planted::Planted;
use crate::world::World;

/// The master's logs.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    files: BTreeMap<LogOwner, LogFile>,
}

#[derive(Debug, Default)]
struct LogFile {
    bytes: Vec<u8>,
    durable: usize,
    /// The most that was ever acked.
    acked: usize,
    /// Its step was recorded with the whole log.
    is_whole: bool,
}

impl Logs {
    /// How much of a log is durable, and how much is written.
    pub(crate) fn lengths(&self, owner: LogOwner) -> (u64, u64) {
        let file = self.files.get(&owner);
        file.map_or((0, 0), |file| (file.durable as u64, file.bytes.len() as u64))
    }
}

impl World {
    /// Writes the chunks that wait on a connection, in order.
    pub(crate) fn take_chunks(&mut self, connection: ConnectionId) {
        loop {
            let Some(ear) = self.master.ears.get_mut(&connection) else { return };
            if ear.intake_pauses {
                return;
            }
            let Some(chunk) = ear.chunks.pop_front() else { return };
            match intake::judge(&mut ear.rights, &chunk) {
                Verdict::Append => self.append(connection, chunk),
                Verdict::Stale { tell } => {
                    if let Some(attempt) = tell {
                        self.say(connection, FromMaster::Forget(attempt));
                    }
                }
                Verdict::Full | Verdict::Cut => panic!("no log of ours is like {chunk:?}"),
            }
        }
    }

    fn append(&mut self, connection: ConnectionId, chunk: LogChunk) {
        let owner = chunk.owner;
        if self.master.disk_is_full || self.fault("log write failed", 8) {
            // Nothing is acked; a second later the agent is asked to send on.
            let Some(ear) = self.master.ears.get_mut(&connection) else { return };
            ear.intake_pauses = true;
            let pause = u64::try_from(intake::DISK_PAUSE.as_millis()).unwrap_or(u64::MAX);
            return self.later(pause, self.master.step(MasterStep::LogRetried(connection, owner)));
        }
        // As after a bug of ours: what follows is misplaced.
        if self.fault("chunk lost", 8) {
            return;
        }
        let Some(ear) = self.master.ears.get_mut(&connection) else { return };
        let file = self.logs.files.entry(owner).or_default();
        let durable = file.durable;
        let is_new = ear.logs.insert(owner);
        let misplaced = ear.misplaced.entry(owner).or_default();
        let stored = chunk.offset == file.bytes.len() as u64;
        let rewind_to = file.bytes.len() as u64;
        let tell = match stored {
            true => {
                misplaced.forget();
                file.bytes.extend_from_slice(&chunk.frame);
                self.laws.log_is_true(owner, &file.bytes);
                false
            }
            false => misplaced.note(chunk.offset, intake::end_of(&chunk)),
        };
        let written = file.bytes.len();
        if is_new && durable > 0 {
            self.ack(connection, owner, durable);
        }
        if tell {
            self.rewind(connection, owner, rewind_to);
        }
        if stored {
            if self.planted == Planted::AckBeforeDurable {
                self.ack(connection, owner, written);
            }
            let takes = 20 + self.random(500);
            self.later(takes, self.master.step(MasterStep::LogSynced(owner)));
        }
    }

    /// What was written before is durable now; or it is cut off, as nobody knows what it holds.
    pub(crate) fn log_synced(&mut self, owner: LogOwner) {
        let fails = self.master.disk_is_full || self.fault("log sync failed", 6);
        let Some(file) = self.logs.files.get_mut(&owner) else { return };
        if fails {
            file.bytes.truncate(file.durable);
            return;
        }
        if std::mem::replace(&mut file.durable, file.bytes.len()) == file.bytes.len() {
            return;
        }
        let durable = file.durable;
        let watch = self.master.ears.iter().filter(|(_, ear)| ear.logs.contains(&owner));
        let watch: Vec<ConnectionId> = watch.map(|(connection, _)| *connection).collect();
        for connection in watch {
            self.ack(connection, owner, durable);
            self.work_reports(connection);
        }
    }

    /// After the disk refused a chunk.
    pub(crate) fn log_retried(&mut self, connection: ConnectionId, owner: LogOwner) {
        let durable = self.logs.lengths(owner).0;
        let Some(ear) = self.master.ears.get_mut(&connection) else { return };
        ear.intake_pauses = false;
        ear.misplaced.entry(owner).or_default().forget();
        self.rewind(connection, owner, durable);
        self.take_chunks(connection);
    }

    fn ack(&mut self, connection: ConnectionId, owner: LogOwner, durable: usize) {
        if let Some(file) = self.logs.files.get_mut(&owner) {
            file.acked = file.acked.max(durable);
        }
        let durable_offset = durable as u64;
        self.say(connection, FromMaster::LogAck { owner, durable_offset, rewind_to: None });
    }

    fn rewind(&mut self, connection: ConnectionId, owner: LogOwner, to: u64) {
        let rewind_to = Some(to);
        self.say(connection, FromMaster::LogAck { owner, durable_offset: 0, rewind_to });
    }

    /// The master's process ends: what is not durable may be gone, or a part of it.
    pub(crate) fn logs_crash(&mut self) {
        let mut files = std::mem::take(&mut self.logs.files);
        for (owner, file) in &mut files {
            let unsafe_bytes = file.bytes.len() - file.durable;
            let kept = self.random(unsafe_bytes as u64 + 1) as usize;
            file.bytes.truncate(file.durable + kept);
            // What is found at the start is made durable before anything is said of it.
            file.durable = file.bytes.len();
            let (acked, durable) = (file.acked, file.durable);
            assert!(acked <= durable, "{owner:?}: {acked} bytes were acked, {durable} are left");
        }
        self.logs.files = files;
    }

    /// A step is recorded with its log, or without its end.
    pub(crate) fn log_is_said_to_be(&mut self, report: &Report, incomplete: bool) {
        let Report::Step(result) = report else { return };
        if incomplete {
            *self.counts.entry("log incomplete").or_default() += 1;
            return;
        }
        let owner = LogOwner::Step { attempt: result.attempt, step: result.step };
        self.logs.files.entry(owner).or_default().is_whole = true;
    }

    /// Each log is what its step printed, and whole unless it was said not to be.
    pub(crate) fn laws_of_logs(&self) {
        for (owner, file) in &self.logs.files {
            self.laws.log_is_true(*owner, &file.bytes);
            let printed = self.laws.length_printed(*owner);
            let length = file.bytes.len();
            assert!(
                !file.is_whole || length == printed,
                "{owner:?} was whole: {length} of {printed} bytes"
            );
        }
    }
}
