//! Floor 1: the agent protocol. Bytes to messages and the machines of a session; no sockets.

pub mod message;
