//! Which instance this is, by the cloud's metadata service: part of what the agent proves at its greeting.
//!
//! Three requests in plain HTTP/1.0 need no HTTP library, and the agent has none.

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

/// An answer, at most: a token has 56 bytes, an id 19.
const ANSWER_BYTES_MAX: u64 = 4096;

/// An id, at most.
const ID_CHARS_MAX: usize = 64;

/// Asks for the instance's id, with a token as version 2 of the service wants it.
///
/// # Errors
/// The service does not answer, or says something else.
pub(crate) fn ask() -> anyhow::Result<String> {
    ask_at(ADDRESS)
}

fn ask_at(service: SocketAddr) -> anyhow::Result<String> {
    let ttl = "X-aws-ec2-metadata-token-ttl-seconds: 60";
    let token = request(service, "PUT", "/latest/api/token", ttl).context("ask for a token")?;
    let header = format!("X-aws-ec2-metadata-token: {token}");
    let id = request(service, "GET", "/latest/meta-data/instance-id", &header);
    let id = id.context("ask for the instance's id")?;
    let is_id = |id: &str| id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    anyhow::ensure!(!id.is_empty() && id.len() <= ID_CHARS_MAX && is_id(&id), "it is no id: {id}");
    Ok(id)
}

fn request(service: SocketAddr, method: &str, path: &str, header: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&service, PATIENCE).context("connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let host = service.ip();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: {host}\r\n{header}\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).context("ask")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).context("read the answer")?;
    let answer = String::from_utf8(answer).context("read the answer")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("find the end of its header")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    anyhow::ensure!(status == "200", "its answer is {}", head.lines().next().unwrap_or_default());
    Ok(body.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A service that gives these answers, one a connection, and returns what it was asked.
    fn service(answers: &'static [&'static str]) -> (SocketAddr, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a port");
        let address = listener.local_addr().expect("it has an address");
        let serving = std::thread::spawn(move || {
            let mut asked = String::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().expect("somebody asks");
                let mut bytes = [0; 1024];
                let n_bytes = stream.read(&mut bytes).expect("a question");
                asked.push_str(&String::from_utf8_lossy(&bytes[..n_bytes]));
                stream.write_all(answer.as_bytes()).expect("it is listened to");
            }
            asked
        });
        (address, serving)
    }

    #[test]
    fn the_id_is_asked_for_with_a_token() {
        let (address, serving) = service(&[
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc=",
            "HTTP/1.1 200 OK\r\n\r\ni-0123456789abcdef0",
        ]);
        assert_eq!(ask_at(address).expect("it answers"), "i-0123456789abcdef0");
        let asked = serving.join().expect("it served");
        assert!(asked.starts_with("PUT /latest/api/token HTTP/1.0\r\n"), "{asked}");
        assert!(asked.contains("\r\nX-aws-ec2-metadata-token: abc=\r\n"), "{asked}");
    }

    #[test]
    fn an_answer_that_is_no_id_is_not_taken_for_one() {
        const REFUSED: &[&str] = &["HTTP/1.1 401 Unauthorized\r\n\r\n"];
        const PAGE: &[&str] = &[
            "HTTP/1.1 200 OK\r\n\r\nt",
            "HTTP/1.1 200 OK\r\n\r\n<html>welcome to the hotel</html>",
        ];
        for answers in [REFUSED, PAGE, &[""]] {
            let (address, serving) = service(answers);
            assert!(ask_at(address).is_err());
            serving.join().expect("it served");
        }
    }
}
