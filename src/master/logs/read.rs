//! Reads parts of a log: by raw offset or by line, decompressing no more than is asked for.
//!
//! A reader looks at the log's state for a moment and then reads the file by itself, so that a
//! slow viewer holds nobody up. Everything here blocks.

use crate::master::logs::error::LogError;
use crate::master::logs::frame::Unpacker;
use crate::master::logs::log::Log;
use crate::master::logs::log::View;
use crate::master::logs::walk::StoredChunk;
use crate::master::logs::walk::Walk;
use crate::model::time::Timestamp;

/// Raw bytes that one read returns, at most. A line can be a gigabyte long.
pub const READ_BYTES_MAX: usize = 1024 * 1024;

/// A part of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogPart {
    /// Where in the raw log its first byte stands.
    pub offset: u64,
    /// The bytes: any bytes, cut anywhere.
    pub bytes: Vec<u8>,
    /// When they were read by the worker, chunk by chunk.
    pub times: Vec<ChunkTime>,
    /// How long the log was when it was looked at.
    pub log_len: u64,
}

impl LogPart {
    /// Where to go on reading.
    pub fn end(&self) -> u64 {
        self.offset + u64::try_from(self.bytes.len()).unwrap_or(u64::MAX)
    }
}

/// When the bytes of a chunk were read by the worker, by its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkTime {
    /// Where in the raw log the chunk starts, which may be before the part does.
    pub offset: u64,
    /// When its first byte was.
    pub first_at: Timestamp,
    /// When its last byte was.
    pub last_at: Timestamp,
}

/// How long a log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSize {
    /// In raw bytes.
    pub bytes: u64,
    /// In lines, a last one without its line feed included.
    pub lines: u64,
}

impl Log {
    /// How long the log is, as far as viewers may see it.
    pub(super) fn size(&self) -> Result<LogSize, LogError> {
        let end = self.view(|index| index.last())?.end;
        let open_line = end.raw_len > 0 && !end.ends_line;
        Ok(LogSize { bytes: end.raw_len, lines: end.lines + u64::from(open_line) })
    }

    /// Up to `bytes_max` bytes from `offset` on; none at the end and beyond.
    pub(super) fn read_at(&self, offset: u64, bytes_max: usize) -> Result<LogPart, LogError> {
        self.read_until(offset, bytes_max, u64::MAX)
    }

    /// Up to `lines_max` lines and `bytes_max` bytes from the start of line `first` on (from 0).
    pub(super) fn read_lines(
        &self,
        first: u64,
        lines_max: u64,
        bytes_max: usize,
    ) -> Result<LogPart, LogError> {
        let offset = self.start_of_line(first)?;
        self.read_until(offset, bytes_max, lines_max)
    }

    /// Where line `line` (from 0) starts; the log's end if it has not so many.
    fn start_of_line(&self, line: u64) -> Result<u64, LogError> {
        if line == 0 {
            return Ok(0);
        }
        let view = self.view(|index| index.before_line_feed(line))?;
        let Some(file) = &view.file else { return Ok(0) };
        let mut walk = Walk::new(file, view.start.file_offset, view.end.file_len);
        let mut unpacker = self.unpacker()?;
        while let Some(chunk) = self.step(&mut walk, &view)? {
            let header = chunk.header;
            if header.lines_end() < line {
                continue;
            }
            let raw = self.unpack(&chunk, &mut unpacker)?;
            let within = usize::try_from(line - header.lines_before).unwrap_or(usize::MAX);
            let start = end_of_line(raw, within).unwrap_or(raw.len());
            return Ok(header.raw_offset + u64::try_from(start).unwrap_or(u64::MAX));
        }
        Ok(view.end.raw_len)
    }

    fn read_until(
        &self,
        offset: u64,
        bytes_max: usize,
        lines_max: u64,
    ) -> Result<LogPart, LogError> {
        let bytes_max = bytes_max.min(READ_BYTES_MAX);
        let mut lines_left = usize::try_from(lines_max).unwrap_or(usize::MAX);
        let view = self.view(|index| index.before_offset(offset))?;
        let log_len = view.end.raw_len;
        let mut part = LogPart { offset: offset.min(log_len), log_len, ..LogPart::default() };
        let Some(file) = &view.file else { return Ok(part) };
        let mut walk = Walk::new(file, view.start.file_offset, view.end.file_len);
        let mut unpacker = self.unpacker()?;
        while part.bytes.len() < bytes_max && lines_left > 0 && part.end() < log_len {
            let Some(chunk) = self.step(&mut walk, &view)? else { break };
            let header = chunk.header;
            if header.raw_end() <= offset {
                continue;
            }
            let raw = self.unpack(&chunk, &mut unpacker)?;
            let skipped = part.end().saturating_sub(header.raw_offset);
            let wanted = raw.get(usize::try_from(skipped).unwrap_or(usize::MAX)..);
            let wanted = wanted.unwrap_or_default();
            let wanted = &wanted[..wanted.len().min(bytes_max - part.bytes.len())];
            let wanted = &wanted[..end_of_line(wanted, lines_left).unwrap_or(wanted.len())];
            lines_left -= wanted.iter().filter(|byte| **byte == b'\n').count();
            part.bytes.extend(wanted);
            let (first_at, last_at) = (header.first_at, header.last_at);
            part.times.push(ChunkTime { offset: header.raw_offset, first_at, last_at });
        }
        Ok(part)
    }

    /// The next chunk; nothing at the view's end, and an error where there should be one.
    fn step<'w>(
        &self,
        walk: &'w mut Walk<'_>,
        view: &View,
    ) -> Result<Option<StoredChunk<'w>>, LogError> {
        let at = walk.at();
        let next = walk.next().map_err(|error| LogError::disk("read", self.path(), &error))?;
        if next.is_none() && at < view.end.file_len {
            return Err(self.damaged(at));
        }
        Ok(next)
    }

    fn unpack<'u>(
        &self,
        chunk: &StoredChunk<'_>,
        unpacker: &'u mut Unpacker,
    ) -> Result<&'u [u8], LogError> {
        if !chunk.is_sound() {
            return Err(self.damaged(chunk.file_offset));
        }
        unpacker
            .unpack(chunk.frame(), chunk.header.raw_len)
            .map_err(|_| self.damaged(chunk.file_offset))
    }

    fn unpacker(&self) -> Result<Unpacker, LogError> {
        Unpacker::new().map_err(|error| LogError::disk("decompress", self.path(), &error))
    }

    fn damaged(&self, at: u64) -> LogError {
        let path = self.path().display();
        LogError::Disk(format!("{path} is damaged at byte {at}; check the disk it lies on"))
    }
}

/// Where the line feed number `count` (from 1) ends.
fn end_of_line(raw: &[u8], count: usize) -> Option<usize> {
    raw.iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .nth(count.checked_sub(1)?)
        .map(|(at, _)| at + 1)
}
