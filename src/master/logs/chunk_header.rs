//! What stands before each chunk in a log's file.
//!
//! A log's file is a row of pairs: a zstd *skippable frame* that holds this header, then the
//! agent's own zstd frame as it came. Decoders skip the first kind, so `zstd -dc FILE` prints the
//! log. Numbers are little-endian, in the order of the fields below; a check of header and frame
//! comes last, so that a torn or rotten chunk is told from a sound one.

use crate::model::attempt::LOG_CHUNK_BYTES_MAX;
use crate::model::attempt::LOG_CHUNK_RAW_BYTES_MAX;
use crate::model::time::Timestamp;

/// One of the sixteen magic numbers that zstd's format leaves to us (RFC 8878, 3.1.2).
const SKIPPABLE_FRAME: u32 = 0x184D_2A5B;

/// Tells our skippable frames from others', and this layout from later ones.
const LAYOUT: &[u8; 4] = b"BBL1";

/// Of the check: the first bytes of a SHA-256. Against accidents, not against people.
pub(super) const CHECK_BYTES: usize = 8;

/// All of it: magic, length, layout, four u64, four u32, check.
pub(super) const HEADER_BYTES: usize = 4 + 4 + 4 + 4 * 8 + 4 * 4 + CHECK_BYTES;

/// A chunk in the file is never longer.
pub(super) const STORED_BYTES_MAX: usize = HEADER_BYTES + LOG_CHUNK_BYTES_MAX;

/// What is known of a chunk without decompressing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkHeader {
    /// Where in the raw log its first byte stands.
    pub(super) raw_offset: u64,
    /// How many line feeds come before it.
    pub(super) lines_before: u64,
    /// When its first byte was read, by the worker's clock.
    pub(super) first_at: Timestamp,
    /// When its last byte was read, by the worker's clock.
    pub(super) last_at: Timestamp,
    /// Its bytes when decompressed.
    pub(super) raw_len: u32,
    /// Its bytes as stored.
    pub(super) frame_len: u32,
    /// How many line feeds it holds.
    pub(super) lines: u32,
    /// Whether its last byte is a line feed.
    pub(super) ends_line: bool,
}

impl ChunkHeader {
    /// Header and frame, as they are written.
    pub(super) fn with_frame(&self, frame: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + frame.len());
        let follows = u32::try_from(HEADER_BYTES - 8).unwrap_or(u32::MAX);
        bytes.extend(SKIPPABLE_FRAME.to_le_bytes());
        bytes.extend(follows.to_le_bytes());
        bytes.extend(LAYOUT);
        let longs = [self.raw_offset, self.lines_before, self.first_at.0, self.last_at.0];
        longs.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
        let shorts = [self.raw_len, self.frame_len, self.lines, u32::from(self.ends_line)];
        shorts.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
        let check = check(&bytes, frame);
        bytes.extend(check);
        bytes.extend(frame);
        bytes
    }

    /// The header at the start of `bytes`; nothing where there is none, or one that says what we
    /// never write. Its check is [`is_sound`]'s.
    pub(super) fn parse(bytes: &[u8]) -> Option<ChunkHeader> {
        let mut fields = Fields(bytes.get(..HEADER_BYTES - CHECK_BYTES)?);
        let magic = fields.u32()?;
        let follows = fields.u32()?;
        let layout = fields.u32()?.to_le_bytes();
        let header = ChunkHeader {
            raw_offset: fields.u64()?,
            lines_before: fields.u64()?,
            first_at: Timestamp(fields.u64()?),
            last_at: Timestamp(fields.u64()?),
            raw_len: fields.u32()?,
            frame_len: fields.u32()?,
            lines: fields.u32()?,
            ends_line: fields.u32()? == 1,
        };
        let ours = magic == SKIPPABLE_FRAME
            && usize::try_from(follows) == Ok(HEADER_BYTES - 8)
            && &layout == LAYOUT
            && usize::try_from(header.raw_len).is_ok_and(|len| len <= LOG_CHUNK_RAW_BYTES_MAX)
            && usize::try_from(header.frame_len).is_ok_and(|len| len <= LOG_CHUNK_BYTES_MAX);
        ours.then_some(header)
    }

    /// How many bytes header and frame take in the file.
    pub(super) fn stored_len(&self) -> usize {
        HEADER_BYTES + usize::try_from(self.frame_len).unwrap_or(usize::MAX - HEADER_BYTES)
    }

    /// Where in the raw log the chunk ends.
    pub(super) fn raw_end(&self) -> u64 {
        self.raw_offset.saturating_add(u64::from(self.raw_len))
    }

    /// How many line feeds there are up to its end.
    pub(super) fn lines_end(&self) -> u64 {
        self.lines_before.saturating_add(u64::from(self.lines))
    }
}

/// Whether header and frame in `stored` are as they were written.
pub(super) fn is_sound(stored: &[u8]) -> bool {
    let Some((header, rest)) = stored.split_at_checked(HEADER_BYTES - CHECK_BYTES) else {
        return false;
    };
    rest.split_at_checked(CHECK_BYTES).is_some_and(|(found, frame)| found == check(header, frame))
}

/// The first bytes of the SHA-256 of both parts.
pub(super) fn check(first: &[u8], second: &[u8]) -> [u8; CHECK_BYTES] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(first);
    context.update(second);
    let digest = context.finish();
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&digest.as_ref()[..CHECK_BYTES]);
    check
}

/// Takes numbers off the front of some bytes.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    pub(super) fn u32(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*first))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> ChunkHeader {
        ChunkHeader {
            raw_offset: 1 << 40,
            lines_before: 77,
            first_at: Timestamp(5),
            last_at: Timestamp(6),
            raw_len: 1000,
            frame_len: 5,
            lines: 3,
            ends_line: true,
        }
    }

    #[test]
    fn a_header_reads_back_and_its_check_covers_every_byte() {
        let mut stored = header().with_frame(b"frame");
        assert_eq!(stored.len(), header().stored_len());
        assert_eq!(ChunkHeader::parse(&stored), Some(header()));
        assert!(is_sound(&stored));
        for at in 0..stored.len() {
            stored[at] ^= 1;
            assert!(!is_sound(&stored), "byte {at}");
            stored[at] ^= 1;
        }
    }

    #[test]
    fn what_is_not_a_header_of_ours_is_none() {
        let stored = header().with_frame(b"frame");
        for len in 0..HEADER_BYTES - CHECK_BYTES {
            assert_eq!(ChunkHeader::parse(&stored[..len]), None, "{len} bytes");
        }
        assert_eq!(ChunkHeader::parse(&[0; HEADER_BYTES]), None);
        let mut long = header();
        long.frame_len = 1 + u32::try_from(LOG_CHUNK_BYTES_MAX).unwrap();
        assert_eq!(ChunkHeader::parse(&long.with_frame(b"frame")), None);
    }
}
