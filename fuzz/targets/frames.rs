//! Bytes of a connection, cut anywhere, become frames.
//!
//! However the bytes were cut, the same bodies come out, up to the same error; nothing longer than
//! is allowed does; the buffer grows with what came and not with what a header claims; and the
//! bodies, framed again, are the bytes that were eaten.

#![no_main]

use busybee::wire::frame;
use busybee::wire::frame::FRAME_BYTES_MAX;
use busybee::wire::frame::FrameError;
use busybee::wire::frame::Frames;
use busybee::wire::frame::GREETING_BYTES_MAX;
use bytes::BufMut;
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

/// Room that a reader may keep beside what came.
const ROOM_BYTES_MAX: usize = 128 * 1024;

// The last byte says how the rest is cut, so that recorded frames are good inputs as they are.
fuzz_target!(|data: &[u8]| {
    let Some((&knob, stream)) = data.split_last() else { return };
    let welcomed = knob & 1 == 1;
    let whole = read(stream, stream.len().max(1), welcomed);
    let pieces = read(stream, usize::from(knob / 2).max(1), welcomed);
    assert_eq!(whole, pieces);

    let (bodies, _end) = whole;
    let bytes_max = if welcomed { FRAME_BYTES_MAX } else { GREETING_BYTES_MAX };
    let mut again = BytesMut::new();
    for body in &bodies {
        assert!((1..=bytes_max).contains(&body.len()));
        frame::append(&mut again, body.len(), |out| out.put_slice(body)).expect("it was a frame");
    }
    assert!(stream.starts_with(&again));
});

fn read(stream: &[u8], piece: usize, welcomed: bool) -> (Vec<Vec<u8>>, Result<bool, FrameError>) {
    let mut frames = Frames::before_welcome();
    if welcomed {
        frames.welcome();
    }
    let mut bodies = Vec::new();
    for bytes in stream.chunks(piece) {
        frames.room().extend_from_slice(bytes);
        loop {
            match frames.take() {
                Ok(Some(body)) => bodies.push(body.to_vec()),
                Ok(None) => break,
                Err(error) => return (bodies, Err(error)),
            }
        }
        assert!(frames.room().capacity() <= 2 * stream.len() + ROOM_BYTES_MAX);
    }
    (bodies, Ok(frames.in_the_middle()))
}
