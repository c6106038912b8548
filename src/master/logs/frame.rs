//! Decompresses a chunk's frame into a buffer that it cannot outgrow.

use zstd::bulk::Decompressor;
use zstd::zstd_safe;

use crate::model::attempt::LOG_CHUNK_BYTES_MAX;
use crate::model::attempt::LOG_CHUNK_RAW_BYTES_MAX;

/// A decompressor and its buffer, to be used again and again.
pub(super) struct Unpacker {
    zstd: Decompressor<'static>,
    raw: Vec<u8>,
}

impl Unpacker {
    /// A new one; its buffer grows up to [`LOG_CHUNK_RAW_BYTES_MAX`].
    pub(super) fn new() -> std::io::Result<Unpacker> {
        Ok(Unpacker { zstd: Decompressor::new()?, raw: Vec::new() })
    }

    /// The raw bytes of `frame`, which must be one whole frame of exactly `raw_len` of them.
    ///
    /// # Errors
    /// What is wrong with it, to follow "it ".
    pub(super) fn unpack(&mut self, frame: &[u8], raw_len: u32) -> Result<&[u8], String> {
        let raw_len = usize::try_from(raw_len).unwrap_or(usize::MAX);
        if raw_len == 0 || raw_len > LOG_CHUNK_RAW_BYTES_MAX {
            return Err(format!(
                "claims {raw_len} raw bytes; 1 to {LOG_CHUNK_RAW_BYTES_MAX} are allowed"
            ));
        }
        if frame.len() > LOG_CHUNK_BYTES_MAX {
            let len = frame.len();
            return Err(format!("has {len} compressed bytes; {LOG_CHUNK_BYTES_MAX} are allowed"));
        }
        // A second frame could be one of our headers, put there to confuse who reads the file.
        if zstd_safe::find_frame_compressed_size(frame) != Ok(frame.len()) {
            return Err("is not one whole zstd frame".into());
        }
        // The buffer's length is what bounds a bomb: decompressing stops with an error at its end.
        self.raw.resize(raw_len, 0);
        match self.zstd.decompress_to_buffer(frame, &mut self.raw[..]) {
            Ok(len) if len == raw_len => Ok(&self.raw),
            Ok(len) => Err(format!("claims {raw_len} raw bytes and holds {len}")),
            Err(error) => Err(format!("does not decompress to {raw_len} bytes: {error}")),
        }
    }
}

/// How many line feeds there are.
pub(super) fn count_lines(raw: &[u8]) -> u32 {
    // Summed in bytes per block of 255, which the compiler turns into vector instructions.
    raw.chunks(255)
        .map(|block| u32::from(block.iter().map(|byte| u8::from(*byte == b'\n')).sum::<u8>()))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(raw: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(raw, 1).unwrap()
    }

    #[test]
    fn a_bomb_a_lie_and_a_second_frame_are_refused() {
        let mut unpacker = Unpacker::new().unwrap();
        let bomb = packed(&vec![0; 64 * 1024 * 1024]);
        assert!(bomb.len() < LOG_CHUNK_BYTES_MAX, "{}", bomb.len());
        let mut check = |frame: &[u8], raw_len: u32, why: &str| {
            let error = unpacker.unpack(frame, raw_len).unwrap_err();
            assert!(error.contains(why), "{error}");
        };
        check(&bomb, 64 * 1024 * 1024, "are allowed");
        check(&bomb, 1024, "does not decompress");
        check(&packed(b"abc"), 4, "holds 3");
        check(&packed(b"abc"), 2, "does not decompress");
        check(&packed(b""), 0, "are allowed");
        check(&[packed(b"ab"), packed(b"c")].concat(), 3, "not one whole");
        check(b"nonsense", 8, "not one whole");
        check(&[], 1, "not one whole");
        check(&vec![0; LOG_CHUNK_BYTES_MAX + 1], 1, "compressed bytes");
        assert_eq!(unpacker.unpack(&packed(b"abc"), 3), Ok(&b"abc"[..]));
    }

    #[test]
    fn lines_are_counted_across_every_block() {
        let text = b"one line\n".repeat(1000);
        assert_eq!(count_lines(&text), 1000);
        assert_eq!(count_lines(&vec![b'\n'; 70_000]), 70_000);
        assert_eq!(count_lines(b""), 0);
    }
}
