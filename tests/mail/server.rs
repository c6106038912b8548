//! A small mail server that notes what it is told. It speaks SMTP as real ones do, and can be told to
//! misbehave as they do.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use busybee::master::certificates::Certificates;
use busybee::master::certificates::Source;
use busybee::runtime::tls;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// The one who may log in, and with what.
pub(crate) const USER: &str = "busybee";
pub(crate) const PASSWORD: &str = "correct horse";

/// Nothing that a test waits for takes longer, also on a loaded computer.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);

/// How a server behaves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manners {
    /// TLS from the first byte.
    pub(crate) implicit: bool,
    /// It takes the command STARTTLS.
    pub(crate) starttls: bool,
    /// It says more in plain text behind its answer to STARTTLS.
    pub(crate) smuggles: bool,
    /// It takes mail only from who has logged in.
    pub(crate) wants_login: bool,
    /// It knows AUTH LOGIN alone.
    pub(crate) only_login: bool,
    /// So many connections are turned away at first: hung up on, then `421`, in turn.
    pub(crate) turns_away: usize,
}

/// A mail that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    /// As it came, without the dots of RFC 5321.
    pub(crate) text: String,
    pub(crate) encrypted: bool,
}

/// What a server has seen so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) connections: usize,
    /// Each command, with what follows it.
    pub(crate) commands: Vec<String>,
    pub(crate) mails: Vec<Taken>,
}

/// A server that runs until it is dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    /// The authority of its certificate.
    pub(crate) ca_pem: String,
    seen: watch::Receiver<Seen>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start(dir: &Path, manners: Manners) -> Server {
        let source = Source::PrivateAuthority { data_dir: dir.to_owned(), names: Vec::new() };
        let certificates = Certificates::open(source).expect("a certificate");
        let ca_pem = certificates.ca_pem.clone().expect("an authority of its own");
        let acceptor = TlsAcceptor::from(tls::http_server_config(certificates.served));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (noted, seen) = watch::channel(Seen::default());
        let task = tokio::spawn(async move {
            let noted = Arc::new(noted);
            // Addresses that were told "later" once.
            let later = Arc::new(Mutex::new(Vec::new()));
            loop {
                let (mut socket, _) = listener.accept().await.expect("somebody calls");
                let mut number = 0;
                noted.send_modify(|seen| {
                    seen.connections += 1;
                    number = seen.connections;
                });
                if number <= manners.turns_away {
                    if number % 2 == 0 {
                        socket.write_all(b"421 busy, call later\r\n").await.ok();
                    }
                    continue;
                }
                let (noted, later) = (Arc::clone(&noted), Arc::clone(&later));
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let noted = Notes { noted: &noted, later: &later, manners };
                    if manners.implicit {
                        let Ok(socket) = acceptor.accept(socket).await else { return };
                        noted.serve(socket, true, true).await;
                    } else if let Some(socket) = noted.serve(socket, false, true).await {
                        let Ok(socket) = acceptor.accept(socket).await else { return };
                        noted.serve(socket, true, false).await;
                    }
                });
            }
        });
        Server { port, ca_pem, seen, task }
    }

    /// Waits until it has seen this.
    pub(crate) async fn seen(&self, what: impl Fn(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.clone();
        let waiting = seen.wait_for(|seen| what(seen));
        let found = tokio::time::timeout(DEADLINE, waiting).await;
        match found {
            Ok(found) => found.expect("the server runs").clone(),
            Err(_) => panic!("it never came; so far: {:#?}", *self.seen.borrow()),
        }
    }
}

struct Notes<'n> {
    noted: &'n watch::Sender<Seen>,
    later: &'n Mutex<Vec<String>>,
    manners: Manners,
}

impl Notes<'_> {
    /// One conversation; gives the socket back when it is to be encrypted.
    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: S,
        encrypted: bool,
        greets: bool,
    ) -> Option<S> {
        let mut socket = BufReader::new(socket);
        if greets {
            say(&mut socket, "220 mail.test ESMTP").await;
        }
        let (mut from, mut to, mut known) = (String::new(), Vec::new(), false);
        loop {
            let line = read_line(&mut socket).await?;
            self.noted.send_modify(|seen| seen.commands.push(line.clone()));
            let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let answer = match (word, rest) {
                ("EHLO", _) => self.offers(encrypted),
                ("STARTTLS", _) if self.manners.smuggles => {
                    "220 go ahead\r\n250 I am in between".to_owned()
                }
                ("STARTTLS", _) if self.manners.starttls && !encrypted => {
                    say(&mut socket, "220 go ahead").await;
                    return Some(socket.into_inner());
                }
                ("AUTH", _) => {
                    known = self.log_in(&mut socket, rest).await?;
                    let answer = if known { "235 welcome" } else { "535 5.7.8 wrong\tpassword" };
                    answer.to_owned()
                }
                ("MAIL", _) if self.manners.wants_login && !known => "530 who are you?".to_owned(),
                ("MAIL", _) => {
                    from = bare(rest);
                    to.clear();
                    "250 ok".to_owned()
                }
                ("RCPT", _) => {
                    let (address, answer) = self.recipient(rest);
                    if answer.starts_with("250") {
                        to.push(address);
                    }
                    answer
                }
                ("DATA", _) if to.is_empty() => "503 for nobody?".to_owned(),
                ("DATA", _) => {
                    say(&mut socket, "354 end with a dot").await;
                    let text = read_mail(&mut socket).await?;
                    let (from, to) = (from.clone(), to.clone());
                    let taken = Taken { from, to, text, encrypted };
                    self.noted.send_modify(|seen| seen.mails.push(taken));
                    "250 taken".to_owned()
                }
                ("QUIT", _) => {
                    say(&mut socket, "221 bye").await;
                    return None;
                }
                _ => "502 what?".to_owned(),
            };
            say(&mut socket, &answer).await;
        }
    }

    fn offers(&self, encrypted: bool) -> String {
        let mut offers = "250-mail.test\r\n250-SIZE 1000000".to_owned();
        if (self.manners.starttls || self.manners.smuggles) && !encrypted {
            offers.push_str("\r\n250-STARTTLS");
        }
        let ways = if self.manners.only_login { "LOGIN" } else { "PLAIN LOGIN" };
        offers.push_str(&format!("\r\n250-AUTH {ways}\r\n250 8BITMIME"));
        offers
    }

    fn recipient(&self, rest: &str) -> (String, String) {
        let address = bare(rest);
        let mut later = self.later.lock().unwrap();
        let answer = if address.starts_with("nobody@") {
            "550 no such user"
        } else if address.starts_with("later@") && !later.contains(&address) {
            later.push(address.clone());
            "451 greylisted"
        } else {
            "250 ok"
        };
        (address, answer.to_owned())
    }

    async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: &mut BufReader<S>,
        rest: &str,
    ) -> Option<bool> {
        let decoded = |text: &str| STANDARD.decode(text).expect("base64");
        if let Some(word) = rest.strip_prefix("PLAIN ") {
            return Some(decoded(word) == format!("\0{USER}\0{PASSWORD}").into_bytes());
        }
        say(socket, "334 VXNlcm5hbWU6").await;
        let user = read_line(socket).await?;
        say(socket, "334 UGFzc3dvcmQ6").await;
        let password = read_line(socket).await?;
        Some(decoded(&user) == USER.as_bytes() && decoded(&password) == PASSWORD.as_bytes())
    }
}

/// What stands between the brackets.
fn bare(rest: &str) -> String {
    let inner = rest.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inner.map_or("", |(address, _)| address).to_owned()
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut BufReader<S>, text: &str) {
    // Whoever has hung up is noticed at the next read.
    socket.write_all(format!("{text}\r\n").as_bytes()).await.ok();
    socket.flush().await.ok();
}

async fn read_line<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut BufReader<S>) -> Option<String> {
    let mut line = String::new();
    match (&mut *socket).take(64 * 1024).read_line(&mut line).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(line.strip_suffix("\r\n").expect("lines end with CRLF").to_owned()),
    }
}

async fn read_mail<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut BufReader<S>) -> Option<String> {
    let mut text = String::new();
    loop {
        let line = read_line(socket).await?;
        if line == "." {
            return Some(text);
        }
        text.push_str(line.strip_prefix('.').unwrap_or(&line));
        text.push_str("\r\n");
    }
}
