//! Floor 1: the agent protocol. Bytes to messages and the machines of a session; no sockets, no
//! clock. Both ends use all of it. Read `message`, then `frame`, `handshake` and `session`, then
//! `agent_end` and `master_end`: the two ends of a connection.

pub mod agent_end;
pub mod convert;
pub mod frame;
#[rustfmt::skip]
mod generated;
pub mod handshake;
pub mod log_window;
pub mod master_end;
pub mod message;
pub mod session;
pub mod version;
