//! The cloud's metadata service, as far as the agent asks it: version 2, with a token.
//!
//! A few requests in plain HTTP/1.0 need no HTTP library, and the agent has none.

use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Context;

/// The service's address (EC2 user guide, "Use the Instance Metadata Service"): IPv4 wherever there is any.
const ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 169, 254)), 80);

/// For each connection, and each pause in an answer: the service is on the same host.
const PATIENCE: Duration = Duration::from_secs(2);

/// An answer, at most: a token has 56 bytes, an id 19, an event that is planned a few hundred.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// For how long a token is good: one is asked for with each look, as it costs no more than keeping it.
const TOKEN_TTL: &str = "X-aws-ec2-metadata-token-ttl-seconds: 60";

/// The metadata service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metadata {
    address: SocketAddr,
}

impl Metadata {
    /// The one of this machine's cloud.
    pub(crate) const HERE: Metadata = Metadata { address: ADDRESS };

    /// Another one.
    #[cfg(test)]
    pub(crate) fn at(address: SocketAddr) -> Metadata {
        Metadata { address }
    }

    /// What stands at a path below `meta-data`; nothing: there is no such thing (now).
    ///
    /// # Errors
    /// The service does not answer, or refuses.
    pub(crate) fn get(self, path: &str) -> anyhow::Result<Option<String>> {
        let token =
            self.request("PUT", "/latest/api/token", TOKEN_TTL).context("ask for a token")?;
        let token = token.context("ask for a token: there are none")?;
        let header = format!("X-aws-ec2-metadata-token: {token}");
        let path = format!("/latest/meta-data/{path}");
        self.request("GET", &path, &header).with_context(|| format!("ask for {path}"))
    }

    fn request(self, method: &str, path: &str, header: &str) -> anyhow::Result<Option<String>> {
        let mut stream = TcpStream::connect_timeout(&self.address, PATIENCE).context("connect")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let host = self.address.ip();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: {host}\r\n{header}\r\nContent-Length: 0\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).context("ask")?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).context("read the answer")?;
        let answer = String::from_utf8(answer).context("read the answer")?;
        let (head, body) = answer.split_once("\r\n\r\n").context("find the end of its header")?;
        match head.split(' ').nth(1).unwrap_or_default() {
            "200" => Ok(Some(body.trim().to_owned())),
            "404" => Ok(None),
            _ => anyhow::bail!("its answer is {}", head.lines().next().unwrap_or_default()),
        }
    }
}
