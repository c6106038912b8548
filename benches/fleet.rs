//! Many agents in one process, for `fleet.py`: real TLS, real handshakes, real heartbeats, no jobs.
//!
//! Arguments: MASTER (host:port), CA (a PEM file), WORKERS (a file of lines `NAME PASSWORD`). All of
//! them call at the same instant. Whenever all are in, it prints `in COUNT MS-P50 MS-P95 MS-LAST`, the
//! times counted from when the first of them began to call, and later from when the first connection was
//! lost. It ends with its standard input.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use busybee::agent::channel;
use busybee::agent::channel::ChannelConfig;
use busybee::agent::channel::ChannelEvent;
use busybee::agent::channel::Outgoing;
use busybee::agent::identity::Identity;
use busybee::model::secret::Secret;
use busybee::runtime::clock;
use busybee::wire::message::FromAgent;
use busybee::wire::message::Heartbeat;
use busybee::wire::message::Inventory;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

/// What an agent tells.
enum News {
    Up,
    Down,
    Refused(String),
}

#[tokio::main]
async fn main() -> ExitCode {
    // `cargo bench` adds one of its own.
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [master, ca, workers] = arguments.as_slice() else {
        println!("fleet: is started by benches/fleet.py");
        return ExitCode::SUCCESS;
    };
    let ca = std::fs::read(ca).expect("the master's authority");
    let workers = std::fs::read_to_string(workers).expect("the list of workers");
    let homes = tempfile::tempdir().expect("room for their keys");
    let agents: Vec<(ChannelConfig, Identity)> = workers
        .lines()
        .map(|line| {
            let (name, password) = line.split_once(' ').expect("NAME PASSWORD");
            agent(master, &ca, name, password, homes.path())
        })
        .collect();
    let count = agents.len();
    let (tell, news) = mpsc::channel(count.max(1) * 4);
    let began = clock::monotonic();
    for (config, identity) in agents {
        tokio::spawn(serve(config, identity, tell.clone()));
    }
    let (told, end) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        // Whatever comes of it: it ended.
        drop(std::io::stdin().read(&mut [0]));
        drop(told);
    });
    tokio::select! {
        answer = watch(count, began, news) => answer,
        _ = end => ExitCode::SUCCESS,
    }
}

fn agent(
    master: &str,
    ca: &[u8],
    name: &str,
    password: &str,
    homes: &Path,
) -> (ChannelConfig, Identity) {
    let config = ChannelConfig {
        master: master.to_owned(),
        ca_pem: Some(ca.to_owned()),
        worker: name.to_owned(),
        password: Some(Secret::new(password.to_owned())),
        instance_claim: String::new(),
        version: "fleet".to_owned(),
    };
    (config, Identity::load_or_create(&homes.join(name)).expect("a key of its own"))
}

/// One agent: present, and idle.
async fn serve(config: ChannelConfig, identity: Identity, tell: mpsc::Sender<News>) {
    let mut channel = channel::start(config, identity);
    let mut outgoing: Option<Outgoing> = None;
    let mut beat = tokio::time::interval(Duration::from_secs(3600));
    let mut number = 0;
    loop {
        tokio::select! {
            event = channel.events.recv() => match event {
                Some(ChannelEvent::Up { welcome, outgoing: way }) => {
                    let (bootstrapped, attempts, up) = (true, Vec::new(), Duration::ZERO);
                    let inventory = Inventory { bootstrapped, attempts, up };
                    let _down = way.control.send(FromAgent::Inventory(inventory)).await;
                    outgoing = Some(way);
                    beat = tokio::time::interval(welcome.heartbeat_idle);
                    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    let _over = tell.send(News::Up).await;
                }
                Some(ChannelEvent::Down { .. }) => {
                    if outgoing.take().is_some() {
                        let _over = tell.send(News::Down).await;
                    }
                }
                Some(ChannelEvent::Refused { sentence }) => {
                    let _over = tell.send(News::Refused(sentence)).await;
                    return;
                }
                Some(ChannelEvent::Message(_)) => {}
                None => return,
            },
            _ = beat.tick() => {
                if let Some(way) = &outgoing {
                    number += 1;
                    let heartbeat = Heartbeat { number, ..Heartbeat::default() };
                    let _down = way.control.send(FromAgent::Heartbeat(heartbeat)).await;
                }
            }
        }
    }
}

/// Says when all are in; each time again.
async fn watch(count: usize, began: Duration, mut news: mpsc::Receiver<News>) -> ExitCode {
    let (mut up, mut since) = (0, began);
    let mut times: Vec<u128> = Vec::with_capacity(count);
    while let Some(one) = news.recv().await {
        match one {
            News::Up => {
                up += 1;
                times.push(clock::monotonic().saturating_sub(since).as_millis());
                if up == count {
                    times.sort_unstable();
                    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
                    println!("in {count} {} {} {}", at(50), at(95), at(100));
                }
            }
            News::Down => {
                if up == count {
                    since = clock::monotonic();
                    times.clear();
                }
                up -= 1;
            }
            News::Refused(sentence) => {
                println!("refused: {sentence}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::FAILURE
}
