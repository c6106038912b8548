//! A master as the command line sees one: it speaks HTTP on loopback or on a Unix socket, says
//! what a test wants it to say, and remembers what it was asked. It can break off anywhere.

use std::collections::HashMap;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;

use serde::Serialize;

/// What came: method, path, query and what stood in the head and body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: HashMap<String, String>,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

/// One part of an answer's body.
pub(crate) enum Part {
    Bytes(Vec<u8>),
    /// Go on once this is done: what a test wants to happen in between.
    Then(Box<dyn FnOnce() + Send>),
    /// Break the connection, without the end that HTTP wants.
    Cut,
}

/// What to answer.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) parts: Vec<Part>,
}

impl Reply {
    pub(crate) fn json(value: &impl Serialize) -> Reply {
        Reply::text(200, &serde_json::to_string(value).unwrap())
    }

    pub(crate) fn text(status: u16, text: &str) -> Reply {
        Reply::parts(vec![Part::Bytes(text.as_bytes().to_vec())]).with_status(status)
    }

    pub(crate) fn parts(parts: Vec<Part>) -> Reply {
        Reply { status: 200, headers: Vec::new(), parts }
    }

    pub(crate) fn with_status(mut self, status: u16) -> Reply {
        self.status = status;
        self
    }

    pub(crate) fn with_header(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

type Handler = Box<dyn FnMut(&Asked) -> Reply + Send>;

/// The master. Its threads end with the test's process.
#[derive(Clone)]
pub(crate) struct FakeMaster {
    handlers: Arc<Mutex<HashMap<String, Handler>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    pub(crate) url: String,
}

impl FakeMaster {
    pub(crate) fn start() -> FakeMaster {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let master = FakeMaster::without_ears(format!("http://{}", listener.local_addr().unwrap()));
        let serving = master.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(stream));
            }
        });
        master
    }

    pub(crate) fn start_at_socket(path: &Path) -> FakeMaster {
        let listener = UnixListener::bind(path).unwrap();
        let master = FakeMaster::without_ears(String::new());
        let serving = master.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(stream));
            }
        });
        master
    }

    /// A master behind TLS for the name `localhost`, and its certificate authority as PEM.
    pub(crate) fn start_with_tls() -> (FakeMaster, String) {
        let mut authority = rcgen::CertificateParams::default();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        authority.distinguished_name.push(rcgen::DnType::CommonName, "an authority");
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let pem = authority.self_signed(&authority_key).unwrap().pem();
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key.serialize_der().try_into().unwrap())
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let master = FakeMaster::without_ears(format!("https://localhost:{port}"));
        let serving = master.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let session = rustls::ServerConnection::new(config.clone()).unwrap();
                let serving = serving.clone();
                std::thread::spawn(move || {
                    serving.serve(rustls::StreamOwned::new(session, stream));
                });
            }
        });
        (master, pem)
    }

    fn without_ears(url: String) -> FakeMaster {
        FakeMaster { handlers: Arc::default(), asked: Arc::default(), url }
    }

    /// Answers `METHOD /path` (below `/api/v1`) with whatever the handler says, each time anew.
    pub(crate) fn on(&self, what: &str, handler: impl FnMut(&Asked) -> Reply + Send + 'static) {
        self.handlers.lock().unwrap().insert(what.to_owned(), Box::new(handler));
    }

    /// Answers with this document.
    pub(crate) fn has(&self, what: &str, value: &impl Serialize) {
        let text = serde_json::to_string(value).unwrap();
        self.on(what, move |_| Reply::text(200, &text));
    }

    /// All that was asked with this `METHOD /path`.
    pub(crate) fn asked(&self, what: &str) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|one| format!("{} {}", one.method, one.path) == what).cloned().collect()
    }

    fn serve<S: Stream>(&self, stream: S) {
        let mut reader = BufReader::new(stream);
        while let Some(asked) = read_request(&mut reader) {
            self.asked.lock().unwrap().push(asked.clone());
            let what = format!("{} {}", asked.method, asked.path);
            let reply = match self.handlers.lock().unwrap().get_mut(&what) {
                Some(handler) => handler(&asked),
                None => {
                    let error = format!("{what} is not here");
                    let body = serde_json::json!({"error": error, "kind": "not_found"});
                    Reply::text(404, &body.to_string())
                }
            };
            if write_reply(reader.get_mut(), reply).is_none() {
                reader.get_mut().cut();
                return;
            }
        }
    }
}

/// What all kinds of sockets can do.
trait Stream: Read + Write {
    fn cut(&self);
}

impl Stream for TcpStream {
    fn cut(&self) {
        let _gone = self.shutdown(Shutdown::Both);
    }
}

impl Stream for rustls::StreamOwned<rustls::ServerConnection, TcpStream> {
    fn cut(&self) {
        self.sock.cut();
    }
}

impl Stream for UnixStream {
    fn cut(&self) {
        let _gone = self.shutdown(Shutdown::Both);
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let url = reqwest::Url::parse(&format!("http://master{target}")).ok()?;
    let query = url.query_pairs().map(|(key, value)| (key.into(), value.into())).collect();
    let path = url.path().strip_prefix("/api/v1").unwrap_or(url.path()).to_owned();
    Some(Asked { method, path, query, headers, body: String::from_utf8(body).ok()? })
}

/// Writes an answer, chunk by chunk; nothing: the connection is to be broken, or is.
fn write_reply(stream: &mut impl Write, reply: Reply) -> Option<()> {
    let mut head = format!("HTTP/1.1 {} Said\r\ntransfer-encoding: chunked\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    for part in reply.parts {
        match part {
            Part::Bytes(bytes) if bytes.is_empty() => {}
            Part::Bytes(bytes) => {
                stream.write_all(format!("{:x}\r\n", bytes.len()).as_bytes()).ok()?;
                stream.write_all(&bytes).ok()?;
                stream.write_all(b"\r\n").ok()?;
                stream.flush().ok()?;
            }
            Part::Then(action) => action(),
            Part::Cut => return None,
        }
    }
    stream.write_all(b"0\r\n\r\n").ok()?;
    stream.flush().ok()
}
