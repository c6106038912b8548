//! Attacks that take more than one end: a race for one password, a relay with a good certificate,
//! and log chunks made to be too much.

use std::sync::Arc;

use busybee::master::domain::decision::ToAgent;
use busybee::master::logs::key::LogKey;
use busybee::model::attempt::AttemptRef;
use busybee::model::attempt::LOG_CHUNK_RAW_BYTES_MAX;
use busybee::model::attempt::LogChunk;
use busybee::model::attempt::LogOwner;
use busybee::model::ids::AttemptId;
use busybee::model::ids::Fence;
use busybee::model::time::Timestamp;
use busybee::runtime::tls;
use busybee::wire::convert;
use busybee::wire::frame::Frames;
use busybee::wire::message::FromAgent;
use busybee::wire::message::FromMaster;
use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use tokio_rustls::TlsAcceptor;

use crate::house::DEADLINE;
use crate::house::House;
use crate::house::bind;
use crate::house::key;
use crate::house::refusal;
use crate::house::resume;
use crate::logs::spec;
use crate::port::Port;

/// Races of two agents for one password.
const RACES: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_agents_that_race_with_one_password_one_wins_and_the_alarm_is_raised() {
    let mut won = [0; 2];
    for race in 0..RACES {
        let house = Arc::new(House::open().await);
        let start = Arc::new(Barrier::new(2));
        let racer = |seed: u8| {
            let (house, start) = (house.clone(), start.clone());
            tokio::spawn(async move {
                let mut caller = house.dial([seed; 32]).await;
                let greeting = bind("w1", &key(seed), &house.password(), [seed; 32]);
                start.wait().await;
                caller.say(greeting).await;
                let heard = caller.hear().await;
                (matches!(heard, Some(FromMaster::Welcome(_))), heard, caller)
            })
        };
        let (one, other) = (racer(1), racer(2));
        let (one, other) = (one.await.expect("it ends"), other.await.expect("it ends"));
        assert!(one.0 != other.0, "race {race}: {:?} and {:?}", one.1, other.1);
        won[usize::from(other.0)] += 1;
        let (winner, loser) = if one.0 { (one, other) } else { (other, one) };
        refusal(loser.1);
        assert_eq!(house.alarms.lock().unwrap().len(), 1, "race {race}");

        // Which of the two was the thief nobody can tell, so neither speaks for the worker again.
        drop(winner.2);
        for seed in [1, 2] {
            let exporter = [10 + seed; 32];
            let mut again = house.dial(exporter).await;
            again.say(resume(&key(seed), 2, exporter)).await;
            refusal(again.hear().await);
            let mut again = house.dial(exporter).await;
            again.say(bind("w1", &key(seed), &house.password(), exporter)).await;
            refusal(again.hear().await);
        }
    }
    println!("of {RACES} races the first agent won {}, the second {}", won[0], won[1]);
}

#[tokio::test]
async fn a_relay_that_has_a_certificate_of_the_right_authority_gets_no_agent_in_and_hears_no_job() {
    let port = Port::open().await;
    let relay = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let relay_address = relay.local_addr().expect("it has an address");

    // The agent: real TLS, to what it takes for its master.
    let agent = async {
        let tcp = tokio::net::TcpStream::connect(relay_address).await.expect("the relay listens");
        let config = tls::agent_client_config(Some(port.ca_pem.as_bytes())).expect("a good CA");
        let name = rustls::pki_types::ServerName::from(relay_address.ip());
        let connector = tokio_rustls::TlsConnector::from(config);
        let mut stream = connector.connect(name, tcp).await.expect("the certificate is right");
        let exporter = tls::exporter(stream.get_ref().1).expect("TLS 1.3 has one");
        let mut bytes = BytesMut::new();
        let greeting = bind("w1", &key(1), &port.house.password(), exporter);
        convert::append_from_agent(greeting, &mut bytes).expect("a greeting fits");
        stream.write_all(&bytes).await.expect("the relay takes it");
        let mut frames = Frames::before_welcome();
        loop {
            if let Some(body) = frames.take().expect("frames") {
                return convert::read_from_master(&body).expect("a message");
            }
            let came = stream.read_buf(frames.room()).await.expect("bytes");
            assert!(came > 0, "the connection ended without a word");
        }
    };
    // The relay: it has the master's own certificate and its key, and passes every byte on.
    let relaying = async {
        let (near, _agent) = relay.accept().await.expect("the agent calls");
        let acceptor = TlsAcceptor::from(tls::agent_server_config(port.certificate.clone()));
        let mut near = acceptor.accept(near).await.expect("TLS with the agent");
        let mut far = port.agent_tls().await;
        let _ends = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    };
    let heard = tokio::time::timeout(DEADLINE, async {
        tokio::select! {
            heard = agent => heard,
            () = async { relaying.await; std::future::pending().await } => unreachable!(),
        }
    });
    refusal(Some(heard.await.expect("an answer in time")));
    assert_eq!(*port.house.greetings.lock().unwrap(), 0, "the domain heard of nobody");
    assert!(port.house.alarms.lock().unwrap().is_empty(), "and a relay is no kill switch");

    // What it recorded is worth nothing later, and the agent itself gets in without it.
    let mut direct = port.house.dial([7; 32]).await;
    direct.say(bind("w1", &key(1), &port.house.password(), [7; 32])).await;
    assert!(matches!(direct.hear().await, Some(FromMaster::Welcome(_))));
}

#[tokio::test]
async fn a_bomb_or_a_lie_about_its_length_ends_the_connection_and_leaves_the_log_as_it_was() {
    let packed = |raw: &[u8]| zstd::bulk::compress(raw, 1).expect("zstd compresses");
    let bomb = packed(&vec![0; 64 << 20]);
    let most = u32::try_from(LOG_CHUNK_RAW_BYTES_MAX).expect("it fits");
    let attacks: [(&str, u32, Vec<u8>); 7] = [
        ("a bomb that says so", 64 << 20, bomb.clone()),
        ("a bomb that says it is as long as may be", most, bomb.clone()),
        ("a bomb that says it is one byte", 1, bomb),
        ("less than it says", 4, packed(b"abc")),
        ("more than it says", 2, packed(b"abc")),
        ("two frames", 4, [packed(b"ab"), packed(b"cd")].concat()),
        ("no frame", 8, b"nonsense".to_vec()),
    ];
    let house = House::open().await;
    let id = AttemptRef { attempt: AttemptId(7), fence: Fence(1) };
    for (what, raw_len, frame) in attacks {
        let mut w1 = house.connect("w1").await;
        let run = ToAgent::Run(Box::new(spec(id, "make")));
        house.agents.tell(&"w1".into(), w1.connection, run);
        let owner = LogOwner::Step { attempt: id, step: 1 };
        let (first_at, last_at) = (Timestamp(1), Timestamp(2));
        let chunk = LogChunk { owner, offset: 0, raw_len, first_at, last_at, frame };
        w1.say(FromAgent::LogChunk(chunk)).await;
        while let Some(heard) = w1.hear().await {
            assert!(!matches!(heard, FromMaster::LogAck { .. }), "{what} was acknowledged");
        }
        let key = LogKey::Step { attempt: AttemptId(7), step: 1 };
        assert_eq!(house.logs.size(&key).await.expect("a log").bytes, 0, "{what}");
    }
}
