//! The one port, and the Unix socket in `data_dir`: accepts, tells agents from pages, hands over.
//!
//! Whoever has not finished TLS is nobody yet: such connections are counted, have a deadline, and
//! the oldest of too many gives way, so that half-open connections never keep a page waiting.
//! What pages answer is the router's; what agents say is `agents`'.

mod half_open;
mod pages;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use rustls::ServerConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::master::agents::Admission;
use crate::master::agents::Agents;
use crate::master::caller::Peer;
use crate::master::caller::Scheme;
use crate::master::listener::half_open::HalfOpen;
use crate::master::listener::pages::Pages;
use crate::runtime::tcp;
use crate::runtime::tls;
use crate::runtime::tls::ServedCertificate;

/// How long a connection may take until it is past TLS, or has said that it speaks plain HTTP.
const OPENING_DEADLINE: Duration = Duration::from_secs(10);

/// How long to wait before accepting again after the system had nothing to give (no descriptors,
/// no memory): trying at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long open requests may take to end when the master stops; event streams never do.
const DRAIN_DEADLINE: Duration = Duration::from_secs(3);

/// The first byte of a TLS connection; no HTTP method begins with it.
const TLS_HANDSHAKE_BYTE: u8 = 0x16;

/// What another machine is told that speaks plain HTTP.
const SPEAK_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\n\
connection: close\r\n\r\nThis port speaks HTTPS: use https:// in the address.\n";

/// Sockets that are bound and listen.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
    unix: Option<UnixListener>,
}

/// What is served on them.
pub struct Served {
    /// The certificate of the port.
    pub certificate: Arc<ServedCertificate>,
    /// Pages, API and downloads. Each request carries a [`Peer`] and a [`Scheme`].
    pub router: Router,
    /// The agent channel.
    pub agents: Agents,
}

/// Why one cannot listen somewhere, and what to do about it.
fn why_not(error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => "another program has this port: end it, or change `listen`",
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address: write one of its own into `listen`, or 0.0.0.0 for all"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 are root's: take a higher one, or give the master CAP_NET_BIND_SERVICE"
        }
        _ => "change `listen` in the master's file",
    };
    format!("{error}; {advice}")
}

impl Listener {
    /// Binds the port (0: any free one) and, where a path is given, the owner's Unix socket.
    ///
    /// # Errors
    /// When an address is taken or may not be used.
    pub async fn bind(listen: SocketAddr, socket: Option<&Path>) -> anyhow::Result<Listener> {
        raise_open_files();
        let tcp = TcpListener::bind(listen)
            .await
            .map_err(|error| anyhow::anyhow!("listen on {listen}: {}", why_not(&error)))?;
        let address = tcp.local_addr().context("ask for the port's address")?;
        let unix = match socket {
            Some(path) => Some(bind_owner_socket(path)?),
            None => None,
        };
        Ok(Listener { tcp, address, unix })
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` turns true, then lets open requests end, for a moment.
    pub async fn serve(self, served: Served, mut stop: watch::Receiver<bool>) {
        let port = Arc::new(Port {
            for_agents: tls::agent_server_config(served.certificate.clone()),
            for_http: tls::http_server_config(served.certificate),
            pages: Pages::new(served.router),
            agents: served.agents,
            half_open: HalfOpen::default(),
        });
        tokio::select! {
            () = accept_tcp(&self.tcp, &port) => {}
            () = accept_unix(self.unix.as_ref(), &port) => {}
            // An error means that whoever could say stop is gone.
            _stopped = stop.wait_for(|stop| *stop) => {}
        }
        drop(self);
        port.agents.close_all("the master is stopping; call again");
        port.pages.drain(DRAIN_DEADLINE).await;
    }
}

/// What every connection needs.
struct Port {
    for_agents: Arc<ServerConfig>,
    for_http: Arc<ServerConfig>,
    pages: Pages,
    agents: Agents,
    half_open: HalfOpen,
}

/// What a connection turned out to be.
enum Opened {
    Agent(Box<TlsStream<TcpStream>>, [u8; 32], Admission),
    Secure(Box<TlsStream<TcpStream>>),
    Plain(TcpStream),
}

async fn accept_tcp(listener: &TcpListener, port: &Arc<Port>) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                tokio::spawn(connection(port.clone(), stream, address));
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                port.half_open.evict_oldest();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(port: Arc<Port>, stream: TcpStream, address: SocketAddr) {
    if tcp::tune(&stream).is_err() {
        return; // It has ended already.
    }
    let place = port.half_open.enter();
    let opened = tokio::select! {
        opened = tokio::time::timeout(OPENING_DEADLINE, open(&port, stream, address)) => opened,
        () = place.evicted() => return,
    };
    drop(place);
    let opened = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => {
            tracing::debug!("connection from {address} came to nothing: {error:#}");
            return;
        }
        Err(_) => return, // Too late: closed without a word.
    };
    let peer = Peer::of(address);
    match opened {
        Opened::Agent(stream, exporter, admission) => {
            port.agents.serve(admission, stream, exporter, address).await;
        }
        Opened::Secure(stream) => {
            let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            port.pages.serve(stream, h2, peer, Scheme::Https).await;
        }
        Opened::Plain(stream) => port.pages.serve(stream, false, peer, Scheme::Http).await,
    }
}

async fn open(port: &Port, mut stream: TcpStream, address: SocketAddr) -> anyhow::Result<Opened> {
    let mut first = [0; 1];
    anyhow::ensure!(stream.peek(&mut first).await? == 1, "it ended before it began");
    if first[0] != TLS_HANDSHAKE_BYTE {
        return match Peer::of(address) {
            // No certificate warning at a first look; nobody else can listen in.
            Peer::Loopback(_) => Ok(Opened::Plain(stream)),
            Peer::Remote(_) | Peer::Owner => {
                stream.write_all(SPEAK_TLS).await?;
                stream.shutdown().await?;
                Err(anyhow::anyhow!("it does not speak TLS"))
            }
        };
    }
    let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
    let mut offered = start.client_hello().alpn().into_iter().flatten();
    if offered.any(|protocol| protocol == tls::ALPN_AGENT) {
        drop(offered);
        // Before the costly part of TLS, so that agents in a crowd leave the processor to pages.
        let admission = port.agents.admit(address.ip()).await;
        let stream = start.into_stream(port.for_agents.clone()).await?;
        let exporter = tls::exporter(stream.get_ref().1)?;
        return Ok(Opened::Agent(Box::new(stream), exporter, admission));
    }
    drop(offered);
    Ok(Opened::Secure(Box::new(start.into_stream(port.for_http.clone()).await?)))
}

async fn accept_unix(listener: Option<&UnixListener>, port: &Arc<Port>) {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok((stream, _unnamed)) if is_owner(&stream) => {
                let port = port.clone();
                tokio::spawn(async move {
                    port.pages.serve(stream, false, Peer::Owner, Scheme::Http).await;
                });
            }
            Ok((stream, _unnamed)) => drop(stream),
            Err(error) => {
                tracing::warn!("cannot accept a connection on the Unix socket: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether the other end of a Unix socket is our own user, or root.
fn is_owner(stream: &UnixStream) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == ours || peer.uid() == 0)
}

fn bind_owner_socket(path: &Path) -> anyhow::Result<UnixListener> {
    let what = || format!("listen on the Unix socket {}", path.display());
    // Bound aside and renamed: it is never there with other rights, and an old one gives way.
    let aside = path.with_extension("new");
    match std::fs::remove_file(&aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(what);
        }
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&aside).with_context(what)?;
    std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(0o600)).with_context(what)?;
    std::fs::rename(&aside, path).with_context(what)?;
    Ok(listener)
}

/// Lets this process have as many connections as the system allows: the usual 1,024 are fewer than
/// a large fleet has agents.
fn raise_open_files() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit) {
            tracing::warn!("cannot raise the limit of open files: {error}");
        }
    }
}
