//! The index beside a log: where to start reading for a raw offset or a line.
//!
//! It is sparse: one entry for about every 64 KiB of the log's file, so a log smaller than that
//! has none, and the index of the longest log allowed still fits into memory. It follows from the
//! log alone. Entries are written only once what they point at is durable, each with a check, so
//! after a loss of power the longest sound beginning is good and the rest is made anew.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use crate::master::logs::chunk_header;
use crate::master::logs::chunk_header::CHECK_BYTES;
use crate::master::logs::chunk_header::ChunkHeader;
use crate::master::logs::chunk_header::Fields;

/// A new entry once the file has grown by this much: what a reader reads in vain, at most.
pub(super) const INDEX_EVERY_BYTES: u64 = 64 * 1024;

/// An entry as stored: three u64 and the check.
const ENTRY_BYTES: usize = 3 * 8 + CHECK_BYTES;

/// A place where a chunk starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// Of the chunk's first raw byte.
    pub(super) raw_offset: u64,
    /// How many line feeds come before it.
    pub(super) lines_before: u64,
    /// Of its header in the file.
    pub(super) file_offset: u64,
}

/// The entries of one log, in order. The log's start is not among them: it needs none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    entries: Vec<Entry>,
}

impl Index {
    /// Where the index of the log at `log` lies.
    pub(super) fn path_of(log: &Path) -> PathBuf {
        log.with_extension("idx")
    }

    /// The sound beginning of the index of a log that is `log_len` bytes long.
    pub(super) fn read(log: &Path, log_len: u64) -> std::io::Result<Index> {
        let bytes = match std::fs::read(Index::path_of(log)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut index = Index::default();
        for stored in bytes.chunks_exact(ENTRY_BYTES) {
            match Entry::parse(stored) {
                Some(entry) if entry.file_offset < log_len && index.is_due(entry.file_offset) => {
                    index.entries.push(entry);
                }
                _ => break,
            }
        }
        Ok(index)
    }

    /// The entries `from..to` as stored.
    pub(super) fn stored(&self, from: usize, to: usize) -> Vec<u8> {
        let wanted = self.entries.iter().take(to).skip(from);
        wanted.flat_map(|entry| entry.stored()).collect()
    }

    /// Puts stored entries behind the first `before` ones of the index file, and ends it there.
    pub(super) fn write(log: &Path, before: usize, stored: &[u8]) -> std::io::Result<()> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(Index::path_of(log))?;
        let at = u64::try_from(before * ENTRY_BYTES).unwrap_or(u64::MAX);
        file.set_len(at)?;
        file.write_all_at(stored, at)
    }

    /// How long its file is.
    pub(super) fn stored_len(&self) -> u64 {
        u64::try_from(self.entries.len() * ENTRY_BYTES).unwrap_or(u64::MAX)
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes note of a chunk; whether that made an entry.
    pub(super) fn note(&mut self, chunk: &ChunkHeader, file_offset: u64) {
        if self.is_due(file_offset) {
            let ChunkHeader { raw_offset, lines_before, .. } = *chunk;
            self.entries.push(Entry { raw_offset, lines_before, file_offset });
        }
    }

    /// How many entries point below `file_len`.
    pub(super) fn count_below(&self, file_len: u64) -> usize {
        self.entries.partition_point(|entry| entry.file_offset < file_len)
    }

    /// Forgets all entries but the first `count`.
    pub(super) fn truncate(&mut self, count: usize) {
        self.entries.truncate(count);
    }

    /// The last place that is known.
    pub(super) fn last(&self) -> Entry {
        self.entries.last().copied().unwrap_or_default()
    }

    /// Where to start reading to come to a raw offset.
    pub(super) fn before_offset(&self, raw_offset: u64) -> Entry {
        self.before(|entry| entry.raw_offset <= raw_offset)
    }

    /// Where to start reading to come to the line feed number `line_feed`, counted from 1.
    pub(super) fn before_line_feed(&self, line_feed: u64) -> Entry {
        self.before(|entry| entry.lines_before < line_feed)
    }

    fn before(&self, is_before: impl Fn(&Entry) -> bool) -> Entry {
        match self.entries.partition_point(is_before) {
            0 => Entry::default(),
            count => self.entries[count - 1],
        }
    }

    /// The rule by which the index follows from the log.
    fn is_due(&self, file_offset: u64) -> bool {
        file_offset >= self.last().file_offset.saturating_add(INDEX_EVERY_BYTES)
    }
}

impl Entry {
    fn stored(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..8].copy_from_slice(&self.raw_offset.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.lines_before.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.file_offset.to_le_bytes());
        let check = chunk_header::check(&bytes[..24], &[]);
        bytes[24..].copy_from_slice(&check);
        bytes
    }

    fn parse(stored: &[u8]) -> Option<Entry> {
        let mut fields = Fields(stored);
        let (raw_offset, lines_before) = (fields.u64()?, fields.u64()?);
        let entry = Entry { raw_offset, lines_before, file_offset: fields.u64()? };
        (entry.stored() == stored).then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Timestamp;

    fn chunk(raw_offset: u64) -> ChunkHeader {
        ChunkHeader {
            raw_offset,
            lines_before: raw_offset / 10,
            first_at: Timestamp(0),
            last_at: Timestamp(0),
            raw_len: 10,
            frame_len: 10,
            lines: 1,
            ends_line: true,
        }
    }

    fn of(count: u64) -> Index {
        let mut index = Index::default();
        for number in 0..count * 4 {
            index.note(&chunk(number * 10), number * INDEX_EVERY_BYTES / 4);
        }
        index
    }

    #[test]
    fn an_index_reads_back_up_to_its_first_broken_entry() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("1-0.zst");
        let whole = of(6);
        assert_eq!(whole.entries.len(), 5);
        Index::write(&log, 0, &whole.stored(0, 5)).unwrap();
        assert_eq!(Index::read(&log, u64::MAX).unwrap(), whole);
        let upto = |count: usize| Index { entries: whole.entries[..count].to_vec() };
        // A log that is shorter than its index says.
        assert_eq!(Index::read(&log, whole.entries[3].file_offset).unwrap(), upto(3));
        // A hole, as a loss of power leaves them, and a torn end.
        let path = Index::path_of(&log);
        let bytes = std::fs::read(&path).unwrap();
        let mut holed = bytes.clone();
        holed[2 * ENTRY_BYTES..3 * ENTRY_BYTES].fill(0);
        std::fs::write(&path, holed).unwrap();
        assert_eq!(Index::read(&log, u64::MAX).unwrap(), upto(2));
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(Index::read(&log, u64::MAX).unwrap(), upto(4));
        Index::write(&log, 4, &whole.stored(4, 5)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn the_place_to_start_is_the_last_one_before_what_is_wanted() {
        let index = of(4);
        assert_eq!(index.before_offset(0), Entry::default());
        assert_eq!(index.before_offset(39), Entry::default());
        assert_eq!(index.before_offset(40).raw_offset, 40);
        assert_eq!(index.before_offset(u64::MAX).raw_offset, 120);
        // Line feed 4 is the last byte before offset 40: it lies before the entry there.
        assert_eq!(index.before_line_feed(4), Entry::default());
        assert_eq!(index.before_line_feed(5).raw_offset, 40);
    }
}
