//! A conversation with a mail server: SMTP (RFC 5321), STARTTLS (RFC 3207), logging in (RFC 4954).
//!
//! Every wait has an end, every answer a limit. What is said to people never holds the password.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::master::mail::address::Address;
use crate::model::secret::Secret;

/// Making the connection, and its encryption.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// One answer. RFC 5321 (4.5.3.2) would have clients wait for minutes; a mail that comes late is
/// better than an outbox that stands still, and it is tried again.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of one answer, at most: RFC 5321 allows lines of 512, and servers list a dozen of them.
const REPLY_BYTES_MAX: usize = 16 * 1024;

/// Characters of a server's answer that people are shown.
const SHOWN_CHARS_MAX: usize = 300;

/// Why a mail was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// Whether the server will say the same next time.
    pub(super) is_final: bool,
    /// For people.
    pub(super) sentence: String,
}

/// A server that is reached, how it is spoken to, and as whom.
pub(super) struct Way<'w> {
    pub(super) host: &'w str,
    pub(super) port: u16,
    /// How to encrypt; nothing: not at all.
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// Whether encryption begins with the first byte.
    pub(super) is_implicit: bool,
    pub(super) login: Option<(&'w str, Secret<String>)>,
}

/// Addresses that a server did not take a mail for, and why.
pub(super) type NotTaken = Vec<(Address, Failure)>;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A conversation, after its greetings.
pub(super) struct Conversation {
    stream: Box<dyn Stream>,
    /// What was read and not looked at yet.
    unread: Vec<u8>,
    server: String,
    /// What the server offered last.
    offers: Vec<String>,
}

/// An answer: its code, and its lines without it.
struct Reply {
    code: u16,
    lines: Vec<String>,
}

impl Conversation {
    /// Connects, encrypts, and logs in.
    pub(super) async fn begin(way: Way<'_>) -> Result<Conversation, Failure> {
        let server = format!("{}:{}", way.host, way.port);
        let lost =
            |why: String| passing(format!("the mail server {server} cannot be reached: {why}"));
        let connecting = TcpStream::connect((way.host, way.port));
        let socket = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
        let socket = socket.map_err(|_| lost("no answer".to_owned()))?;
        let socket = socket.map_err(|why| lost(why.to_string()))?;
        let me = match socket.local_addr().map(|address| address.ip()) {
            Ok(std::net::IpAddr::V6(ip)) => format!("[IPv6:{ip}]"),
            Ok(std::net::IpAddr::V4(ip)) => format!("[{ip}]"),
            Err(why) => return Err(lost(why.to_string())),
        };
        let mut this = Conversation {
            stream: Box::new(socket),
            unread: Vec::new(),
            server: server.clone(),
            offers: Vec::new(),
        };
        if let (true, Some(tls)) = (way.is_implicit, &way.tls) {
            this.encrypt(way.host, tls).await?;
        }
        let greeting = this.reply("a connection").await?;
        this.expect(greeting, &[220], "a connection")?;
        this.greet(&me).await?;
        if let (false, Some(tls)) = (way.is_implicit, &way.tls) {
            if !this.offers("STARTTLS") {
                let sentence = format!("the mail server {server} offers no STARTTLS");
                return Err(Failure { is_final: true, sentence });
            }
            this.command("STARTTLS", &[220], "STARTTLS").await?;
            this.encrypt(way.host, tls).await?;
            // What was offered before may have been anybody's word.
            this.greet(&me).await?;
        }
        if let Some((user, password)) = &way.login {
            this.log_in(user, password).await?;
        }
        Ok(this)
    }

    /// Gives the server a mail for these; says who of them it is not for, if it is for some.
    pub(super) async fn deliver(
        &mut self,
        from: &Address,
        to: &[Address],
        mail: &str,
    ) -> Result<NotTaken, Failure> {
        self.command(&format!("MAIL FROM:<{from}>"), &[250], "the sender").await?;
        let mut not_taken = NotTaken::new();
        for address in to {
            let what = format!("the recipient {address}");
            let line = format!("RCPT TO:<{address}>");
            match self.command(&line, &[250, 251, 252], &what).await {
                Ok(_) => {}
                // The conversation itself has ended.
                Err(why) if self.offers.is_empty() => return Err(why),
                Err(why) => not_taken.push((address.clone(), why)),
            }
        }
        if not_taken.len() == to.len() {
            return Ok(not_taken);
        }
        self.command("DATA", &[354], "a mail").await?;
        self.say(&format!("{}.\r\n", stuffed(mail))).await?;
        let reply = self.reply("a mail").await?;
        self.expect(reply, &[250], "a mail")?;
        Ok(not_taken)
    }

    /// Takes leave. Whatever comes of it: what was taken is taken.
    pub(super) async fn end(mut self) {
        let _leaving = self.command("QUIT", &[221], "an end").await;
    }

    async fn greet(&mut self, me: &str) -> Result<(), Failure> {
        let reply = self.command(&format!("EHLO {me}"), &[250], "a greeting").await?;
        self.offers = reply.lines.into_iter().map(|line| line.to_ascii_uppercase()).collect();
        Ok(())
    }

    fn offers(&self, what: &str) -> bool {
        self.offers.iter().any(|line| line.split(' ').next() == Some(what))
    }

    /// Whether one may log in by this mechanism.
    fn takes(&self, mechanism: &str) -> bool {
        let words = |line: &str| line.split([' ', '=']).map(str::to_owned).collect::<Vec<_>>();
        self.offers.iter().map(|line| words(line)).any(|words| {
            words.first().is_some_and(|word| word == "AUTH")
                && words.iter().any(|word| word == mechanism)
        })
    }

    async fn log_in(&mut self, user: &str, password: &Secret<String>) -> Result<(), Failure> {
        let what = format!("the login of {user}");
        let password = password.reveal();
        if self.takes("PLAIN") {
            let word = STANDARD.encode(format!("\0{user}\0{password}"));
            self.command(&format!("AUTH PLAIN {word}"), &[235], &what).await?;
        } else if self.takes("LOGIN") {
            self.command("AUTH LOGIN", &[334], &what).await?;
            self.command(&STANDARD.encode(user), &[334], &what).await?;
            self.command(&STANDARD.encode(password), &[235], &what).await?;
        } else {
            let server = &self.server;
            let sentence = format!("the mail server {server} lets nobody log in by PLAIN or LOGIN");
            return Err(Failure { is_final: true, sentence });
        }
        Ok(())
    }

    async fn encrypt(&mut self, host: &str, tls: &Arc<ClientConfig>) -> Result<(), Failure> {
        let server = self.server.clone();
        let broken =
            |why: String| passing(format!("the mail server {server} cannot be trusted: {why}"));
        if !self.unread.is_empty() {
            // Somebody in between would have it taken for what came encrypted.
            return Err(broken("it said more in plain text than was asked".to_owned()));
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|why| broken(why.to_string()))?;
        let plain = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        let shaking = TlsConnector::from(Arc::clone(tls)).connect(name, plain);
        let encrypted = tokio::time::timeout(CONNECT_TIMEOUT, shaking).await;
        let encrypted = encrypted.map_err(|_| broken("no answer to TLS".to_owned()))?;
        self.stream = Box::new(encrypted.map_err(|why| broken(why.to_string()))?);
        Ok(())
    }

    /// Says a line, and awaits one of these answers. `what` is what it asks for, for people.
    async fn command(&mut self, line: &str, codes: &[u16], what: &str) -> Result<Reply, Failure> {
        self.say(&format!("{line}\r\n")).await?;
        let reply = self.reply(what).await?;
        self.expect(reply, codes, what)
    }

    fn expect(&self, reply: Reply, codes: &[u16], what: &str) -> Result<Reply, Failure> {
        if codes.contains(&reply.code) {
            return Ok(reply);
        }
        let said = reply.lines.join(" ");
        let said = said.chars().map(|c| if c.is_control() { ' ' } else { c });
        let said: String = said.take(SHOWN_CHARS_MAX).collect();
        let (server, code) = (&self.server, reply.code);
        let sentence = format!("the mail server {server} refused {what}: {code} {said}");
        Err(Failure { is_final: (500..600).contains(&reply.code), sentence })
    }

    async fn say(&mut self, text: &str) -> Result<(), Failure> {
        let saying = async {
            self.stream.write_all(text.as_bytes()).await?;
            self.stream.flush().await
        };
        match tokio::time::timeout(REPLY_TIMEOUT, saying).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(self.hung_up(&why.to_string())),
            Err(_) => Err(self.hung_up("it reads no more")),
        }
    }

    async fn reply(&mut self, what: &str) -> Result<Reply, Failure> {
        match tokio::time::timeout(REPLY_TIMEOUT, self.read_reply()).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(why)) => Err(self.hung_up(&why)),
            Err(_) => Err(self.hung_up(&format!("no answer to {what}"))),
        }
    }

    /// The conversation is over; from now on nothing is offered.
    fn hung_up(&mut self, why: &str) -> Failure {
        self.offers.clear();
        passing(format!("the mail server {} went away: {why}", self.server))
    }

    async fn read_reply(&mut self) -> Result<Reply, String> {
        let mut lines = Vec::new();
        let mut bytes = 0;
        loop {
            let line = self.read_line().await?;
            bytes += line.len();
            let code = line.get(..3).and_then(|code| code.parse::<u16>().ok());
            let code = code.ok_or("its answer is not SMTP")?;
            if bytes > REPLY_BYTES_MAX {
                return Err("its answer does not end".to_owned());
            }
            lines.push(line.get(4..).unwrap_or_default().trim_end().to_owned());
            if !line.get(3..).is_some_and(|rest| rest.starts_with('-')) {
                return Ok(Reply { code, lines });
            }
        }
    }

    async fn read_line(&mut self) -> Result<String, String> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.unread.len() > REPLY_BYTES_MAX {
                return Err("its answer does not end".to_owned());
            }
            match self.stream.read_buf(&mut self.unread).await {
                Ok(0) => return Err("it hung up".to_owned()),
                Ok(_) => {}
                Err(why) => return Err(why.to_string()),
            }
        }
    }
}

/// Worth another try.
fn passing(sentence: String) -> Failure {
    Failure { is_final: false, sentence }
}

/// A mail whose lines cannot be taken for its end (RFC 5321, 4.5.2), ended by a line break.
fn stuffed(mail: &str) -> String {
    let mut text = String::with_capacity(mail.len());
    for line in mail.lines() {
        if line.starts_with('.') {
            text.push('.');
        }
        text.push_str(line);
        text.push_str("\r\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_a_mail_ends_it() {
        assert_eq!(stuffed("a\r\n.\r\n..b\n.c"), "a\r\n..\r\n...b\r\n..c\r\n");
        assert_eq!(stuffed(""), "");
    }
}
