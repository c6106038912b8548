//! Where a request came from: the listener puts a [`Peer`] into each request's extensions.

use std::net::SocketAddr;

/// The other end of a request's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A process of this machine, over TCP. It may be anybody's.
    Loopback(SocketAddr),
    /// Another machine, or this one under an address that others can have too.
    Remote(SocketAddr),
    /// The master's own user or root, through the Unix socket in `data_dir`.
    Owner,
}

impl Peer {
    /// What a TCP connection's address says.
    pub fn of(address: SocketAddr) -> Peer {
        if address.ip().to_canonical().is_loopback() {
            Peer::Loopback(address)
        } else {
            Peer::Remote(address)
        }
    }
}

/// How a request came: also among its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear: loopback and the Unix socket alone.
    Http,
    /// Over TLS.
    Https,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_loopback_in_both_families_and_in_one_dressed_as_the_other() {
        for loopback in ["127.0.0.1:80", "127.8.8.8:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            let address = loopback.parse().unwrap();
            assert_eq!(Peer::of(address), Peer::Loopback(address));
        }
        for remote in ["10.0.0.1:80", "0.0.0.0:80", "[::ffff:10.0.0.1]:80", "[2001:db8::1]:80"] {
            let address = remote.parse().unwrap();
            assert_eq!(Peer::of(address), Peer::Remote(address));
        }
    }
}
