//! Ships one spool to the master: reads what is new, compresses it into chunks, and goes on from
//! where the master says. Never blocks the build: what cannot be sent stays in the spool.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::model::attempt::LOG_CHUNK_BYTES_MAX;
use crate::model::attempt::LOG_CHUNK_RAW_BYTES_MAX;
use crate::model::attempt::LogChunk;
use crate::model::attempt::LogOwner;
use crate::runtime::clock;
use crate::wire::log_window::LogWindow;

/// After a chunk, more is gathered for this long; what comes after a pause goes at once.
const GATHER: Duration = Duration::from_millis(20);

/// Raw bytes that go without gathering more.
const ENOUGH_BYTES: u64 = 64 * 1024;

/// What always fits into a chunk, however badly it compresses (zstd adds some bytes per 128 KiB).
const SURE_RAW_BYTES: usize = LOG_CHUNK_BYTES_MAX - 1024;

/// The level that is as small as 3 on build output and 1.6 times as fast.
const ZSTD_LEVEL: i32 = 1;

/// Spool space is given back in pieces of this size.
const PUNCH_BYTES: u64 = 8 * 1024 * 1024;

/// What the master says about a log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack {
    pub(crate) durable: u64,
    pub(crate) rewind_to: Option<u64>,
}

/// A spool on its way to the master.
pub(crate) struct LogShipper {
    pub(crate) owner: LogOwner,
    pub(crate) spool: PathBuf,
    /// How long the spool is, as far as it may be read.
    pub(crate) length: watch::Receiver<u64>,
    pub(crate) acks: mpsc::Receiver<Ack>,
    /// Where chunks go in the present session; nothing while there is none.
    pub(crate) session: watch::Receiver<Option<mpsc::Sender<LogChunk>>>,
}

/// What a shipper knows between two chunks.
struct State {
    window: LogWindow,
    file: Option<File>,
    /// Raw bytes to try next: as many as fitted last time, and a little more.
    try_bytes: usize,
    punched: u64,
}

impl LogShipper {
    /// Runs until whoever made it drops its ends.
    pub(crate) async fn run(mut self) {
        let mut state =
            State { window: LogWindow::new(0), file: None, try_bytes: SURE_RAW_BYTES, punched: 0 };
        loop {
            self.send_what_is_allowed(&mut state).await;
            let changed = tokio::select! {
                ack = self.acks.recv() => match ack {
                    Some(ack) => {
                        self.note(&mut state, ack);
                        true
                    }
                    None => false,
                },
                session = self.session.changed() => {
                    state.window.restart();
                    session.is_ok()
                }
                length = self.length.changed() => length.is_ok(),
            };
            if !changed {
                return;
            }
        }
    }

    fn note(&self, state: &mut State, ack: Ack) {
        let written = *self.length.borrow();
        state.window.acked(ack.durable, ack.rewind_to, written);
        let below = state.window.durable() / PUNCH_BYTES * PUNCH_BYTES;
        if below > state.punched
            && let Some(file) = &state.file
        {
            let flags =
                rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
            // Where the file system cannot, the space comes back when the attempt is forgotten.
            let _unsupported = rustix::fs::fallocate(file, flags, 0, below);
            state.punched = below;
        }
    }

    /// Sends until nothing is left, the window is full, or there is no session.
    async fn send_what_is_allowed(&mut self, state: &mut State) {
        loop {
            let Some(sender) = self.session.borrow().clone() else { return };
            let Some(from) = state.window.next() else { return };
            let written = *self.length.borrow_and_update();
            if written <= from {
                return;
            }
            let Some(chunk) = self.chunk(state, from, written) else { return };
            let (raw_len, frame_bytes) = (u64::from(chunk.raw_len), chunk.frame.len());
            if sender.send(chunk).await.is_err() {
                return; // The session has ended; a new one starts from the durable offset.
            }
            state.window.sent(raw_len, frame_bytes);
            let left = (*self.length.borrow()).saturating_sub(from + raw_len);
            if left < ENOUGH_BYTES {
                // A short gathering pause, cut short by nothing: 20 ms is what a viewer may wait.
                tokio::time::sleep(GATHER).await;
            }
            while let Ok(ack) = self.acks.try_recv() {
                self.note(state, ack);
            }
        }
    }

    /// Reads and compresses as much as fits into one chunk.
    fn chunk(&self, state: &mut State, from: u64, written: u64) -> Option<LogChunk> {
        if state.file.is_none() {
            let open = std::fs::OpenOptions::new().read(true).write(true).open(&self.spool);
            state.file = open.ok();
        }
        let file = state.file.as_ref()?;
        let available = usize::try_from(written - from).unwrap_or(usize::MAX);
        let mut raw = vec![0; available.min(state.try_bytes)];
        file.read_exact_at(&mut raw, from).ok()?;
        let mut frame = zstd::bulk::compress(&raw, ZSTD_LEVEL).ok()?;
        if frame.len() > LOG_CHUNK_BYTES_MAX {
            raw.truncate(SURE_RAW_BYTES);
            frame = zstd::bulk::compress(&raw, ZSTD_LEVEL).ok()?;
        }
        // As much as would have filled nine tenths of a chunk at this ratio.
        let ratio = raw.len() as f64 / frame.len().max(1) as f64;
        let fitting = (ratio * LOG_CHUNK_BYTES_MAX as f64 * 0.9) as usize;
        state.try_bytes = fitting.clamp(SURE_RAW_BYTES, LOG_CHUNK_RAW_BYTES_MAX);
        let now = clock::now();
        Some(LogChunk {
            owner: self.owner,
            offset: from,
            raw_len: u32::try_from(raw.len()).ok()?,
            first_at: now,
            last_at: now,
            frame,
        })
    }
}
