//! What a step prints, on its way to a file: without its secrets, hashed, and bounded.

use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;

use ring::digest;

use crate::agent::attempt_dir;
use crate::agent::attempt_dir::AttemptDir;
use crate::agent::domain::redactor::Redactor;

/// A step's log, at most: a runaway step must not fill the worker's disk. The head is kept, and the
/// last [`TAIL_BYTES`].
pub(super) const SPOOL_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// What is kept of the end when the middle is left out.
const TAIL_BYTES: usize = 64 * 1024;

/// A step's spool, open for writing.
pub(super) struct Spool {
    file: File,
    redactor: Redactor,
    /// What the redactor has let through, kept so that not every write needs a new buffer.
    shown: Vec<u8>,
    dir: AttemptDir,
    hash: digest::Context,
    written: u64,
    limit: u64,
    /// What came behind the limit: its end, and how much there was.
    tail: Vec<u8>,
    left_out: u64,
    /// The disk did not take something: from here on the log is lost, and the step is ended.
    failed: Option<std::io::Error>,
}

impl Spool {
    /// Opens a fresh spool for the log of a step.
    pub(super) fn create(
        dir: &AttemptDir,
        step: u32,
        limit: u64,
        redactor: Redactor,
    ) -> std::io::Result<Spool> {
        let open = || {
            let mut options = OpenOptions::new();
            options.create(true).truncate(true).write(true).mode(0o600).open(dir.log(step))
        };
        let file = open().or_else(|_| {
            dir.give_up_reserve();
            open()
        })?;
        let hash = digest::Context::new(&digest::SHA256);
        let (shown, tail, failed) = (Vec::new(), Vec::new(), None);
        Ok(Spool {
            file,
            redactor,
            shown,
            dir: dir.clone(),
            hash,
            written: 0,
            limit,
            tail,
            left_out: 0,
            failed,
        })
    }

    /// Takes what a step printed.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        let mut shown = std::mem::take(&mut self.shown);
        self.redactor.pass(bytes, &mut shown);
        self.keep(&shown);
        shown.clear();
        self.shown = shown;
    }

    /// Keeps what may be shown.
    fn keep(&mut self, bytes: &[u8]) {
        let room = usize::try_from(self.limit.saturating_sub(self.written)).unwrap_or(usize::MAX);
        let (head, rest) = bytes.split_at(bytes.len().min(room));
        self.put(head);
        if !rest.is_empty() {
            self.left_out += rest.len() as u64;
            self.tail.extend_from_slice(rest);
            // Cut now and then, not at each write: moving 64 KiB for every line would be slow.
            if self.tail.len() > 4 * TAIL_BYTES {
                self.tail.drain(..self.tail.len() - TAIL_BYTES);
            }
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        if bytes.is_empty() || self.failed.is_some() {
            return;
        }
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.hash.update(bytes);
                self.written += bytes.len() as u64;
                attempt_dir::wake(&self.dir.agent_fifo());
            }
            Err(why) => self.break_off(why),
        }
    }

    /// The disk took less than all of something: the log ends in front of it, and says so.
    fn break_off(&mut self, why: std::io::Error) {
        // Some of it may be in the file: what is not counted is cut.
        let _best_effort = self.file.set_len(self.written);
        self.dir.give_up_reserve();
        let marker =
            format!("\nbusybee: the log ends here: the worker's disk takes no more: {why}\n");
        match self.file.write_all_at(marker.as_bytes(), self.written) {
            Ok(()) => {
                self.hash.update(marker.as_bytes());
                self.written += marker.len() as u64;
            }
            Err(_) => {
                let _best_effort = self.file.set_len(self.written);
            }
        }
        self.failed = Some(why);
    }

    /// Adds a line of our own, on a line of its own.
    pub(super) fn say(&mut self, line: &str) {
        self.write(format!("\nbusybee: {line}\n").as_bytes());
    }

    /// Why the disk took no more.
    pub(super) fn failure(&self) -> Option<&std::io::Error> {
        self.failed.as_ref()
    }

    /// Ends the spool: how long it is, and its SHA-256.
    pub(super) fn finish(mut self) -> (u64, Vec<u8>) {
        let mut shown = Vec::new();
        self.redactor.finish(&mut shown);
        self.keep(&shown);
        if self.left_out > 0 {
            let keep = self.tail.len().saturating_sub(TAIL_BYTES);
            let tail = self.tail.split_off(keep);
            let left_out = self.left_out - tail.len() as u64;
            if left_out > 0 {
                let limit = self.limit;
                let marker = format!(
                    "\nbusybee: {left_out} bytes are left out here: a step's log holds at most \
                     {limit} bytes and its end\n"
                );
                self.put(marker.as_bytes());
            }
            self.put(&tail);
        }
        let hash = self.hash.clone().finish().as_ref().to_vec();
        (self.written, hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_beyond_its_limit_keeps_head_marker_and_end() {
        let dir = tempfile::tempdir().unwrap();
        let attempt = AttemptDir::at(dir.path().to_owned());
        let path = attempt.log(1);
        let mut spool = Spool::create(&attempt, 1, 1000, Redactor::new([])).unwrap();
        for number in 0..100_000_u32 {
            spool.write(format!("line {number}\n").as_bytes());
        }
        let (len, hash) = spool.finish();
        let log = std::fs::read(&path).unwrap();
        assert_eq!(log.len() as u64, len);
        assert_eq!(digest::digest(&digest::SHA256, &log).as_ref(), hash);
        let text = String::from_utf8_lossy(&log);
        assert!(text.starts_with("line 0\n") && text.ends_with("line 99999\n"));
        assert!(text.contains("bytes are left out here"));
        assert!(log.len() < 1000 + TAIL_BYTES + 200);
    }
}
