//! Which instance this is, by the cloud's metadata service: part of what the agent proves at its greeting.

use anyhow::Context;

use crate::agent::metadata::Metadata;

/// An id, at most.
const ID_CHARS_MAX: usize = 64;

/// Asks for the instance's id.
///
/// # Errors
/// The service does not answer, or says something else.
pub(crate) fn ask() -> anyhow::Result<String> {
    ask_at(Metadata::HERE)
}

fn ask_at(service: Metadata) -> anyhow::Result<String> {
    let id = service.get("instance-id")?.context("ask for the instance's id: it has none")?;
    let is_id = |id: &str| id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    anyhow::ensure!(!id.is_empty() && id.len() <= ID_CHARS_MAX && is_id(&id), "it is no id: {id}");
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::io::Write;
    use std::net::SocketAddr;
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
        assert_eq!(ask_at(Metadata::at(address)).expect("it answers"), "i-0123456789abcdef0");
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
            assert!(ask_at(Metadata::at(address)).is_err());
            serving.join().expect("it served");
        }
    }
}
