//! A relay inside of TLS: a real agent on one side, the real master's end of the channel on the
//! other, and a pair of scissors that knows what passes, message by message.
//!
//! Nobody outside could do this: greetings are bound to the TLS session. Here the exporter of the
//! agent's own session is handed to the master's end, as its listener does.

use busybee::wire::convert;
use busybee::wire::frame::Frames;
use busybee::wire::message::FromAgent;
use busybee::wire::message::FromMaster;
use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;

use crate::fake_master::Call;
use crate::house::Caller;
use crate::house::DEADLINE;

/// What passes.
#[derive(Debug)]
pub(crate) enum Message {
    /// From the agent to the master.
    Up(FromAgent),
    /// From the master to the agent.
    Down(FromMaster),
}

/// Where a message is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// It was said, and nothing of it arrives.
    Before,
    /// Its first half arrives.
    Inside,
    /// It arrives, and nothing after it, in either direction.
    After,
}

/// Relays one connection until one end hangs up or the scissors say where to cut it.
pub(crate) async fn relay(
    call: Call,
    caller: Caller,
    scissors: &(impl Fn(&Message) -> Option<When> + Sync),
) {
    let (mut agent_reader, mut agent_writer) = tokio::io::split(call.stream);
    let (master_reader, mut master_writer) = tokio::io::split(caller.stream);
    let up = |body: &[u8]| Message::Up(convert::read_from_agent(body).expect("it is our agent"));
    let down =
        |body: &[u8]| Message::Down(convert::read_from_master(body).expect("it is our master"));
    tokio::select! {
        () = pass(&mut agent_reader, &mut master_writer, up, scissors) => {}
        () = pass(master_reader, &mut agent_writer, down, scissors) => {}
    }
    // What was passed before the cut arrives: an orderly end of TCP behind it, but none of TLS.
    let mut stream = agent_reader.unsplit(agent_writer);
    let (tcp, _) = stream.get_mut();
    let _gone = tcp.shutdown().await;
    let mut unheard = [0; 4096];
    let until_it_hangs_up = async { while let Ok(1..) = tcp.read(&mut unheard).await {} };
    let _stays = tokio::time::timeout(DEADLINE, until_it_hangs_up).await;
}

/// Passes whole messages from one end to the other, until one hangs up or there is a cut.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    read: impl Fn(&[u8]) -> Message,
    scissors: &impl Fn(&Message) -> Option<When>,
) {
    let mut frames = Frames::before_welcome();
    frames.welcome();
    loop {
        let body = match frames.take().expect("both ends keep to the frames") {
            Some(body) => body,
            None if from.read_buf(frames.room()).await.unwrap_or(0) > 0 => continue,
            None => return,
        };
        let frame = framed(&body);
        let when = scissors(&read(&body));
        let passed = match when {
            Some(When::Before) => &[],
            Some(When::Inside) => &frame[..frame.len() / 2],
            Some(When::After) | None => &frame[..],
        };
        let is_passed = to.write_all(passed).await.is_ok() && to.flush().await.is_ok();
        if when.is_some() || !is_passed {
            return;
        }
    }
}

/// A body with its length in front, as it came.
fn framed(body: &Bytes) -> BytesMut {
    let mut frame = BytesMut::with_capacity(4 + body.len());
    frame.put_u32(u32::try_from(body.len()).expect("a frame is at most 1 MiB"));
    frame.put_slice(body);
    frame
}
