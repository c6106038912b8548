//! Frames: a length and that many bytes. No sockets: who has bytes gives them, who wants frames
//! takes them.
//!
//! A stream that broke a rule is over: there is no way to find the next frame in it.

use bytes::Buf;
use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;

/// The length in front of each frame: a u32, big-endian.
const HEADER_BYTES: usize = 4;

/// A frame's body before authentication, in bytes: a greeting takes a few hundred.
pub const GREETING_BYTES_MAX: usize = 4 * 1024;

/// A frame's body after authentication, in bytes: an attempt with all its scripts fits.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// Room made for bytes that come next, at least and at most: small, because ten thousand idle
/// connections each keep it; never what a length merely claims.
const READ_BYTES: std::ops::RangeInclusive<usize> = 4 * 1024..=64 * 1024;

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than what may be sent now.
    #[error("a message of {bytes} bytes, where at most {bytes_max} are allowed")]
    TooLong {
        /// How long it is, or says it is.
        bytes: usize,
        /// How long it may be.
        bytes_max: usize,
    },
    /// A frame without a body.
    #[error("an empty message")]
    Empty,
}

/// Bytes on their way to become frames.
#[derive(Debug)]
pub struct Frames {
    buffer: BytesMut,
    bytes_max: usize,
}

impl Frames {
    /// Frames of a new connection: nothing longer than a greeting.
    pub fn before_welcome() -> Frames {
        Frames { buffer: BytesMut::new(), bytes_max: GREETING_BYTES_MAX }
    }

    /// From here on, frames may have their full length.
    pub fn welcome(&mut self) {
        self.bytes_max = FRAME_BYTES_MAX;
    }

    /// Where the next bytes go: append them, then ask [`Frames::take`].
    pub fn room(&mut self) -> &mut BytesMut {
        let missing = match self.claimed() {
            Some(bytes) => (HEADER_BYTES + bytes).saturating_sub(self.buffer.len()),
            None => 0,
        };
        self.buffer.reserve(missing.clamp(*READ_BYTES.start(), *READ_BYTES.end()));
        &mut self.buffer
    }

    /// The next whole frame's body, if it is here.
    ///
    /// # Errors
    /// When the other end broke a rule: close the connection.
    pub fn take(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(bytes) = self.claimed() else { return Ok(None) };
        check_length(bytes, self.bytes_max)?;
        if self.buffer.len() < HEADER_BYTES + bytes {
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        Ok(Some(self.buffer.split_to(bytes).freeze()))
    }

    /// Whether a frame has begun and is not whole.
    pub fn in_the_middle(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The length that the header says, once it is here.
    fn claimed(&self) -> Option<usize> {
        let header = self.buffer.first_chunk::<HEADER_BYTES>()?;
        Some(u32::from_be_bytes(*header) as usize)
    }
}

/// Appends a frame whose body `write` makes, in one go and without a copy.
///
/// # Errors
/// When the body is longer than any frame may be; nothing is appended then.
pub fn append(
    out: &mut BytesMut,
    bytes: usize,
    write: impl FnOnce(&mut BytesMut),
) -> Result<(), FrameError> {
    check_length(bytes, FRAME_BYTES_MAX)?;
    out.reserve(HEADER_BYTES + bytes);
    out.put_u32(u32::try_from(bytes).expect("FRAME_BYTES_MAX fits"));
    write(out);
    Ok(())
}

fn check_length(bytes: usize, bytes_max: usize) -> Result<(), FrameError> {
    match bytes {
        0 => Err(FrameError::Empty),
        bytes if bytes > bytes_max => Err(FrameError::TooLong { bytes, bytes_max }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        append(&mut out, body.len(), |out| out.put_slice(body)).unwrap();
        out.to_vec()
    }

    #[test]
    fn frames_come_out_whole_however_the_bytes_were_cut() {
        let stream = [frame(b"one"), frame(&[7; 5000]), frame(b"x")].concat();
        for piece in 1..=stream.len().min(4100) {
            let mut frames = Frames::before_welcome();
            frames.welcome();
            let mut bodies = Vec::new();
            for bytes in stream.chunks(piece) {
                frames.room().extend_from_slice(bytes);
                while let Some(body) = frames.take().unwrap() {
                    bodies.push(body);
                }
            }
            assert_eq!(bodies, [&b"one"[..], &[7; 5000], b"x"]);
            assert!(!frames.in_the_middle());
        }
    }

    #[test]
    fn a_greeting_may_have_4_kib_and_what_follows_1_mib() {
        let mut frames = Frames::before_welcome();
        frames.room().extend_from_slice(&4097u32.to_be_bytes());
        assert_eq!(frames.take(), Err(FrameError::TooLong { bytes: 4097, bytes_max: 4096 }));
        frames.welcome();
        assert_eq!(frames.take(), Ok(None));

        let mut frames = Frames::before_welcome();
        frames.welcome();
        frames.room().extend_from_slice(&(1024 * 1024 + 1u32).to_be_bytes());
        assert!(matches!(frames.take(), Err(FrameError::TooLong { .. })));
        let mut out = BytesMut::new();
        assert!(append(&mut out, FRAME_BYTES_MAX + 1, |_| unreachable!()).is_err());
        assert!(out.is_empty());
    }

    #[test]
    fn an_empty_frame_is_refused() {
        let mut frames = Frames::before_welcome();
        frames.room().extend_from_slice(&[0; 4]);
        assert_eq!(frames.take(), Err(FrameError::Empty));
    }

    #[test]
    fn a_claimed_length_reserves_nothing() {
        let mut frames = Frames::before_welcome();
        frames.welcome();
        frames.room().extend_from_slice(&(1024 * 1024u32).to_be_bytes());
        assert_eq!(frames.take(), Ok(None));
        assert!(frames.room().capacity() <= 2 * *READ_BYTES.end());
    }
}
