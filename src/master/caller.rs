//! Who is at the other end of an HTTP connection: put into each request by whoever accepted it.

use std::net::SocketAddr;

/// Where a connection came from. A request's extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// This machine, over a loopback address.
    Loopback(SocketAddr),
    /// Anywhere else.
    Remote(SocketAddr),
    /// The Unix socket in `data_dir`: the master's own user, or root.
    Owner,
}
