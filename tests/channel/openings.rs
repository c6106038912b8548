//! Whoever is nobody yet: slow ones, too many, and those who would speak an older TLS.

use std::time::Duration;

use busybee::runtime::clock;
use busybee::runtime::tls::ALPN_AGENT;
use busybee::wire::convert;
use bytes::BytesMut;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use rustls::version::TLS12;
use rustls::version::TLS13;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;

use crate::house::bind;
use crate::house::key;
use crate::port::Port;

/// When the master gives up on a connection that is not past TLS, and on one that is and does not
/// greet. Said here again: a promise that only the code says is none.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much later than that a loaded computer may be.
const SLACK: Duration = Duration::from_secs(10);

/// Between two bytes of somebody slow.
const DRIP: Duration = Duration::from_secs(1);

/// Half-open connections that an attacker keeps.
const HALF_OPEN: usize = 1000;

/// Requests that are timed: the last hundredth of them is one.
const REQUESTS: usize = 100;

/// How long an answer may take all the same, where it was quick before.
const ANSWER_MAX: Duration = Duration::from_millis(250);

/// Writes a byte now and then until the other end closes. How long that took.
async fn drip<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> Duration {
    let began_at = clock::monotonic();
    let mut heard = [0; 1024];
    for byte in bytes {
        if stream.write_all(&[*byte]).await.is_err() || stream.flush().await.is_err() {
            return clock::monotonic() - began_at;
        }
        match tokio::time::timeout(DRIP, stream.read(&mut heard)).await {
            Ok(Ok(0) | Err(_)) => return clock::monotonic() - began_at,
            Ok(Ok(_)) => panic!("the master answered half a message"),
            Err(_) => {}
        }
    }
    panic!("the master listened for {} s", bytes.len());
}

/// The first message of a TLS connection that asks for the agent channel.
fn client_hello(port: &Port) -> Vec<u8> {
    let name = ServerName::from(port.address.ip());
    let config = port.client(&[&TLS13], &[ALPN_AGENT]);
    let mut client = ClientConnection::new(config, name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("a vector takes all");
    bytes
}

fn hello() -> BytesMut {
    let mut bytes = BytesMut::new();
    let password = busybee::model::secret::Secret::new("0".repeat(64));
    convert::append_from_agent(bind("w1", &key(1), &password, [1; 32]), &mut bytes)
        .expect("a greeting fits");
    bytes
}

#[tokio::test]
async fn who_sends_a_byte_per_second_is_cut_at_the_deadline_before_and_after_tls() {
    let port = Port::open().await;
    let (before, after) = (client_hello(&port), hello());
    let mut slow_tls = port.tcp().await;
    let mut slow_hello = port.agent_tls().await;
    let (tls_took, hello_took) =
        tokio::join!(drip(&mut slow_tls, &before), drip(&mut slow_hello, &after));
    for took in [tls_took, hello_took] {
        let in_time = PATIENCE - DRIP..PATIENCE + SLACK;
        assert!(in_time.contains(&took), "cut after {took:?}");
    }
}

#[tokio::test]
async fn the_agent_channel_is_refused_over_tls_1_2_where_pages_are_not() {
    let port = Port::open().await;
    let offers: [&[&[u8]]; 2] = [&[ALPN_AGENT], &[ALPN_AGENT, b"http/1.1"]];
    for offered in offers {
        let refused = port.tls(port.client(&[&TLS12], offered)).await;
        let error = refused.expect_err("TLS 1.2 is not good enough").to_string();
        assert!(error.contains("ProtocolVersion"), "{error}");
    }
    // It was the channel that was refused, and nothing else about this client.
    let agreed = port.tls(port.client(&[&TLS13, &TLS12], &[ALPN_AGENT])).await;
    let agreed = agreed.expect("who speaks both speaks the newer one");
    assert_eq!(agreed.get_ref().1.alpn_protocol(), Some(ALPN_AGENT));
    let status = port.get(port.client(&[&TLS12], &[b"http/1.1"]), "/").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_half_open_connections_slow_no_page_and_are_cut_at_the_deadline() {
    let port = Port::open().await;
    let quiet = p99(&port).await;

    let began_at = clock::monotonic();
    let hello = client_hello(&port);
    let mut half_open = Vec::with_capacity(HALF_OPEN);
    for number in 0..HALF_OPEN {
        let mut stream = port.tcp().await;
        // Nothing at all; the beginning of a ClientHello; all of it, and no word after the answer.
        let said = [&hello[..0], &hello[..9], &hello[..]][number % 3];
        stream.write_all(said).await.expect("the port takes bytes");
        half_open.push(stream);
    }
    let crowded = p99(&port).await;
    // One of those that are told nothing: it would have been told of its end.
    let still_there = matches!(
        half_open[HALF_OPEN - 3].try_read(&mut [0; 1]),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock
    );
    assert!(still_there && clock::monotonic() - began_at < PATIENCE, "it was measured too late");
    let allowed = ANSWER_MAX.max(quiet * 2);
    assert!(crowded <= allowed, "99 of 100 answers came within {crowded:?}, before {quiet:?}");

    let mut heard = [0; 4096];
    for stream in &mut half_open {
        let left = (began_at + PATIENCE + SLACK).saturating_sub(clock::monotonic());
        let ends = async { while let Ok(1..) = stream.read(&mut heard).await {} };
        tokio::time::timeout(left, ends).await.expect("each is cut at its deadline");
    }
    let took = clock::monotonic() - began_at;
    assert!(took >= PATIENCE - DRIP, "cut after {took:?}, which an honest one may need");
}

/// Within which time 99 of 100 requests are answered, each on a connection of its own.
async fn p99(port: &Port) -> Duration {
    let config = port.client(&[&TLS13], &[b"http/1.1"]);
    let mut times = Vec::with_capacity(REQUESTS);
    for number in 0..REQUESTS {
        let path = ["/", "/api/v1/builds"][number % 2];
        let began_at = clock::monotonic();
        assert_eq!(port.get(config.clone(), path).await, "HTTP/1.1 200 OK", "{path}");
        times.push(clock::monotonic() - began_at);
    }
    times.sort_unstable();
    times[REQUESTS - 2]
}
