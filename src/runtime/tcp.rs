//! What every long-lived connection asks of TCP.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::time::Duration;

use rustix::net::sockopt;

/// How long sent bytes may stay unacknowledged before the kernel gives the connection up: a peer
/// whose machine is gone is noticed soon after the first thing said to it.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// When to ask a quiet peer's kernel whether it is still there, and how often from then on.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Bytes that the kernel takes beyond what is on its way, about: two chunks of a log. It would take
/// megabytes, which on a slow network is many seconds that nothing said later can overtake.
const UNSENT_BYTES_MAX: libc::c_int = 128 * 1024;

/// Sends small messages at once, and notices a peer that is gone.
///
/// # Errors
/// When the connection has ended already.
pub fn tune(socket: impl AsFd) -> std::io::Result<()> {
    let socket = socket.as_fd();
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
    let timeout_ms = u32::try_from(USER_TIMEOUT.as_millis()).expect("half a minute fits");
    sockopt::set_tcp_user_timeout(socket, timeout_ms)?;
    Ok(())
}

/// Lets what cannot be sent yet wait with us, where it can still be overtaken, not in the kernel.
///
/// # Errors
/// When the connection has ended already.
pub fn keep_little_unsent(socket: impl AsFd) -> std::io::Result<()> {
    let socket = socket.as_fd();
    let bytes = UNSENT_BYTES_MAX;
    let length = libc::socklen_t::try_from(size_of_val(&bytes)).expect("four bytes are few");
    // SAFETY: the descriptor is borrowed for the call, and the kernel copies `length` bytes.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const bytes).cast(),
            length,
        )
    };
    if set == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
