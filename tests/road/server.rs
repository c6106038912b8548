//! A small web server over TLS with a certificate authority of its own: the master as the road sees
//! it, and every way in which it can be wrong.

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::DnType;
use rcgen::IsCa;
use rcgen::KeyPair;
use rustls::ServerConfig;
use rustls::ServerConnection;
use rustls::StreamOwned;
use rustls::pki_types::PrivateKeyDer;
use std::collections::HashMap;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// No request of these tests is longer.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// A client that says nothing for so long is given up.
const CLIENT_SILENCE: Duration = Duration::from_secs(20);

/// A certificate authority, and what it signed for loopback.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Each has a name and a key of its own.
    pub(crate) fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are valid names");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a P-256 key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a self-signed CA");
        Authority { issuer }
    }

    /// Its certificate, as it stands in user-data.
    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    fn server_config(&self) -> Arc<ServerConfig> {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("two good names");
        params.distinguished_name.push(DnType::CommonName, "a master");
        let key = KeyPair::generate().expect("a P-256 key");
        let leaf = params.signed_by(&key, &self.issuer).expect("a signed leaf");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS#8");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows the usual versions")
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .expect("key and certificate belong together");
        Arc::new(config)
    }
}

/// What one path answers.
#[derive(Clone)]
pub(crate) struct Reply {
    head: String,
    body: Vec<u8>,
    /// Send so much of the body, then close.
    cut_at: Option<usize>,
    /// Say nothing and keep the connection open.
    silent: bool,
}

impl Reply {
    /// The file, whole.
    pub(crate) fn file(body: impl Into<Vec<u8>>) -> Reply {
        Reply { head: "200 OK".to_owned(), body: body.into(), cut_at: None, silent: false }
    }

    /// Half a file, though its length was announced.
    pub(crate) fn cut(body: impl Into<Vec<u8>>) -> Reply {
        let file = Reply::file(body);
        Reply { cut_at: Some(file.body.len() / 2), ..file }
    }

    /// A status and a page that must never be taken for a script.
    pub(crate) fn status(status: &str) -> Reply {
        Reply { head: status.to_owned(), ..Reply::file(": >page-was-run\n") }
    }

    /// A redirect.
    pub(crate) fn redirect(to: &str) -> Reply {
        Reply::status(&format!("302 Found\r\nLocation: {to}"))
    }

    /// Nothing at all.
    pub(crate) fn silence() -> Reply {
        Reply { silent: true, ..Reply::file("") }
    }

    fn bytes(&self) -> Vec<u8> {
        let length = self.body.len();
        let head = format!("HTTP/1.1 {}\r\nContent-Length: {length}\r\n", self.head);
        let mut all = format!("{head}Connection: close\r\n\r\n").into_bytes();
        all.extend_from_slice(&self.body[..self.cut_at.unwrap_or(length)]);
        all
    }
}

#[derive(Default)]
struct Site {
    replies: HashMap<String, Vec<Reply>>,
    asked: Vec<String>,
}

/// Answers until it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    site: Arc<Mutex<Site>>,
    closing: Arc<AtomicBool>,
}

impl Server {
    /// On a free port of loopback.
    pub(crate) fn start(authority: &Authority) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let site = Arc::new(Mutex::new(Site::default()));
        let closing = Arc::new(AtomicBool::new(false));
        let config = authority.server_config();
        let (for_site, for_closing) = (site.clone(), closing.clone());
        std::thread::spawn(move || accept(&listener, &config, &for_site, &for_closing));
        Server { address, site, closing }
    }

    /// The path's answer from now on.
    pub(crate) fn serve(&self, path: &str, reply: Reply) {
        self.serve_in_turn(path, vec![reply]);
    }

    /// One answer after the other; the last one stays.
    pub(crate) fn serve_in_turn(&self, path: &str, replies: Vec<Reply>) {
        self.site.lock().expect("no test thread panicked").replies.insert(path.to_owned(), replies);
    }

    /// How often a path was asked for.
    pub(crate) fn asked(&self, path: &str) -> usize {
        let site = self.site.lock().expect("no test thread panicked");
        site.asked.iter().filter(|asked| *asked == path).count()
    }

    /// `https://127.0.0.1:PORT` and the path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// The port alone.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which looks at the flag; if it is gone already, so much the better.
        drop(TcpStream::connect(self.address));
    }
}

fn accept(
    listener: &TcpListener,
    config: &Arc<ServerConfig>,
    site: &Arc<Mutex<Site>>,
    closing: &AtomicBool,
) {
    for stream in listener.incoming() {
        if closing.load(Ordering::SeqCst) {
            return;
        }
        let (Ok(stream), config, site) = (stream, config.clone(), site.clone()) else { continue };
        // A client that hangs up in the middle is a case of these tests, not a failure of the server.
        std::thread::spawn(move || drop(answer(stream, config, &site)));
    }
}

fn answer(stream: TcpStream, config: Arc<ServerConfig>, site: &Mutex<Site>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(CLIENT_SILENCE))?;
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut tls = StreamOwned::new(connection, stream);
    let mut request = Vec::new();
    let mut piece = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") && request.len() < REQUEST_BYTES_MAX {
        let count = tls.read(&mut piece)?;
        if count == 0 {
            return Ok(());
        }
        request.extend_from_slice(&piece[..count]);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split(' ').nth(1).unwrap_or("/").split('?').next().unwrap_or("/").to_owned();
    let reply = next_reply(site, path);
    if reply.silent {
        // Until the client gives up.
        drop(tls.read(&mut piece));
        return Ok(());
    }
    tls.write_all(&reply.bytes())?;
    tls.conn.send_close_notify();
    tls.flush()
}

fn next_reply(site: &Mutex<Site>, path: String) -> Reply {
    let mut site = site.lock().expect("no test thread panicked");
    let reply = match site.replies.get_mut(&path) {
        Some(replies) if replies.len() > 1 => replies.remove(0),
        Some(replies) => replies[0].clone(),
        None => Reply::status("404 Not Found"),
    };
    site.asked.push(path);
    reply
}
