//! Walks over the chunks of a log's file, a block at a time.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::master::logs::chunk_header;
use crate::master::logs::chunk_header::ChunkHeader;
use crate::master::logs::chunk_header::HEADER_BYTES;
use crate::master::logs::chunk_header::STORED_BYTES_MAX;

/// Read at once: an index gap and a chunk, so that most look-ups are one read.
const BLOCK_BYTES: usize = 2 * STORED_BYTES_MAX;

/// A walk from one place in the file to another.
pub(super) struct Walk<'a> {
    file: &'a File,
    /// Of the next chunk.
    at: u64,
    end: u64,
    block: Vec<u8>,
    block_at: u64,
}

/// A chunk as it lies in the file.
pub(super) struct StoredChunk<'a> {
    /// Its header.
    pub(super) header: ChunkHeader,
    /// Where the header starts.
    pub(super) file_offset: u64,
    stored: &'a [u8],
}

impl StoredChunk<'_> {
    /// The agent's zstd frame.
    pub(super) fn frame(&self) -> &[u8] {
        &self.stored[HEADER_BYTES..]
    }

    /// Whether all of it is as it was written.
    pub(super) fn is_sound(&self) -> bool {
        chunk_header::is_sound(self.stored)
    }
}

impl<'a> Walk<'a> {
    /// Starts at the header at `from`; nothing from `end` on is looked at.
    pub(super) fn new(file: &'a File, from: u64, end: u64) -> Walk<'a> {
        Walk { file, at: from, end, block: Vec::new(), block_at: from }
    }

    /// The next chunk; nothing at the end, and where what follows is not a whole chunk.
    /// [`Walk::at`] tells the two apart.
    pub(super) fn next(&mut self) -> std::io::Result<Option<StoredChunk<'_>>> {
        if !self.fill(HEADER_BYTES)? {
            return Ok(None);
        }
        let Some(header) = ChunkHeader::parse(self.ahead()) else { return Ok(None) };
        let len = header.stored_len();
        if !self.fill(len)? {
            return Ok(None);
        }
        let file_offset = self.at;
        self.at += u64::try_from(len).unwrap_or(u64::MAX);
        let from = usize::try_from(file_offset - self.block_at).unwrap_or(usize::MAX);
        Ok(Some(StoredChunk { header, file_offset, stored: &self.block[from..from + len] }))
    }

    /// Where the next chunk would start.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The bytes from `at` on that are in memory.
    fn ahead(&self) -> &[u8] {
        let from = usize::try_from(self.at - self.block_at).unwrap_or(usize::MAX);
        self.block.get(from..).unwrap_or_default()
    }

    /// Sees to it that `len` bytes from `at` on are in memory. Whether there are so many.
    fn fill(&mut self, len: usize) -> std::io::Result<bool> {
        if self.ahead().len() >= len {
            return Ok(true);
        }
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        if left < len {
            return Ok(false);
        }
        self.block.resize(left.min(BLOCK_BYTES), 0);
        self.block_at = self.at;
        let mut filled = 0;
        while filled < self.block.len() {
            let place = self.at + u64::try_from(filled).unwrap_or(u64::MAX);
            match self.file.read_at(&mut self.block[filled..], place) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.block.truncate(filled);
        Ok(filled >= len)
    }
}
