//! The agent's end of the channel: whom it believes, what it says to whom, and what goes first.

use std::time::Duration;

use busybee::model::attempt::AttemptOutcome;
use busybee::model::attempt::AttemptRef;
use busybee::model::attempt::LogChunk;
use busybee::model::ids::AttemptId;
use busybee::model::ids::Fence;
use busybee::model::secret::Secret;
use busybee::runtime::clock;
use busybee::wire::handshake;
use busybee::wire::handshake::Transcript;
use busybee::wire::message::FromAgent;
use busybee::wire::message::FromMaster;
use busybee::wire::message::Hello;
use busybee::wire::message::HelloProof;
use busybee::wire::message::Welcome;

use crate::fake_master::Call;
use crate::fake_master::FakeMaster;
use crate::logs::spec;

/// What the agent says of a master that it does not believe.
const NOT_OURS: &str = "it does not prove that it is this worker's master";

/// A wrong proof, made with all that somebody has who is not the master.
type Forgery = fn(&FakeMaster, &Call, &Hello) -> Welcome;

const FORGERIES: [(&str, Forgery); 5] = [
    ("none", |master, call, hello| Welcome { proof: Vec::new(), ..master.welcome(call, hello) }),
    ("the agent's own", |master, call, hello| {
        let (HelloProof::Bind(proof) | HelloProof::Resume(proof)) = hello.proof.clone();
        Welcome { proof, ..master.welcome(call, hello) }
    }),
    ("another password's", |master, call, hello| {
        let transcript = Transcript::new(hello, &call.exporter);
        let (other, welcome) = (Secret::new("0".repeat(64)), master.welcome(call, hello));
        let key = handshake::SigningKey::from_seed(&Secret::new([5; 32]));
        let proof = handshake::prove_master(hello, &transcript, &other, &key, welcome.proto);
        Welcome { proof, ..welcome }
    }),
    ("another connection's", |master, call, hello| {
        let transcript = Transcript::new(hello, &[0; 32]);
        let welcome = master.welcome(call, hello);
        let key = handshake::SigningKey::from_seed(&Secret::new([5; 32]));
        let proof =
            handshake::prove_master(hello, &transcript, master.password(), &key, welcome.proto);
        Welcome { proof, ..welcome }
    }),
    ("another key's", |master, call, hello| {
        let key = handshake::SigningKey::from_seed(&Secret::new([9; 32]));
        Welcome { master_key: key.public(), ..master.welcome(call, hello) }
    }),
];

#[tokio::test]
async fn a_master_that_proves_nothing_hears_no_more_than_the_greeting() {
    let master = FakeMaster::open().await;
    let agent = master.start_agent();
    let mut greetings = Vec::new();
    for (what, forge) in FORGERIES {
        let (mut call, hello) = master.greeted().await;
        call.say(FromMaster::Welcome(forge(&master, &call, &hello))).await;
        // Not even if it is told what to do.
        call.say(FromMaster::RunAttempt(Box::new(spec(attempt(), "true")))).await;
        assert_eq!(call.hear().await, None, "to one whose proof is {what}");
        greetings.push(hello);
    }
    agent.says(NOT_OURS, FORGERIES.len()).await;

    // Nothing of it stays: the agent has pinned nobody, and nothing is worth anything elsewhere.
    assert!(!agent.home.join("master").exists());
    let password = master.password().reveal();
    assert!(!agent.said().contains(password));
    for hello in &greetings {
        assert!(matches!(&hello.proof, HelloProof::Bind(proof) if proof.len() == 32));
        assert!(!format!("{hello:?}").contains(password));
    }
    let mut proofs: Vec<_> = greetings.iter().map(|hello| format!("{:?}", hello.proof)).collect();
    proofs.dedup();
    assert_eq!(proofs.len(), FORGERIES.len(), "each connection has a proof of its own");

    // The right one is still welcome.
    let (mut call, hello) = master.greeted().await;
    master.let_in(&mut call, &hello).await;
    assert!(matches!(call.hear().await, Some(FromAgent::Inventory(_))));
}

#[tokio::test]
async fn once_welcomed_an_agent_believes_no_other_key_however_well_it_signs() {
    let mut master = FakeMaster::open().await;
    let agent = master.start_agent();
    let (mut call, hello) = master.greeted().await;
    master.let_in(&mut call, &hello).await;
    assert!(matches!(call.hear().await, Some(FromAgent::Inventory(_))));
    drop(call);

    // It knows the password and has the certificate: only the key is new.
    master.exchange_key();
    let (mut call, hello) = master.greeted().await;
    assert!(matches!(hello.proof, HelloProof::Resume(_)));
    master.let_in(&mut call, &hello).await;
    assert_eq!(call.hear().await, None);
    agent.says(NOT_OURS, 1).await;
}

/// The agent calls, looks at the certificate, and hangs up.
async fn turns_away(master: &FakeMaster) {
    match master.accept().await {
        // The agent's part of TLS 1.3 may be whole before it is known what it thinks of ours.
        Ok(mut call) => assert_eq!(call.hear().await, None),
        Err(error) => assert!(error.to_string().contains("alert"), "{error}"),
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_ends_the_call_before_a_word_is_said() {
    let mut master = FakeMaster::open().await;
    master.show("another");
    let agent = master.start_agent();
    turns_away(&master).await;
    agent.says("UnknownIssuer", 1).await;
    assert!(agent.said().contains("cannot reach master 127.0.0.1:"), "{}", agent.said());

    // Also when it has known its master since.
    master.show("own");
    let (mut call, hello) = master.greeted().await;
    master.let_in(&mut call, &hello).await;
    assert!(matches!(call.hear().await, Some(FromAgent::Inventory(_))));
    master.show("another");
    drop(call);
    turns_away(&master).await;
    agent.says("UnknownIssuer", 2).await;
}

#[tokio::test]
async fn a_certificate_for_another_host_ends_the_call_before_a_word_is_said() {
    let master = FakeMaster::open_elsewhere().await;
    let agent = master.start_agent();
    turns_away(&master).await;
    agent.says("certificate not valid for name", 1).await;
}

#[tokio::test]
async fn an_agent_whose_welcome_was_lost_proves_itself_again_with_the_same_key() {
    let master = FakeMaster::open().await;
    let mut agent = master.start_agent();
    // Received, perhaps bound, and never answered.
    let (call, first) = master.greeted().await;
    drop(call);
    let (mut call, again) = master.greeted().await;
    assert!(matches!(again.proof, HelloProof::Bind(_)), "{again:?}");
    assert_eq!((&again.public_key, again.epoch), (&first.public_key, first.epoch));
    assert_ne!(again.proof, first.proof, "it holds on the new connection alone");

    // Half an answer is none.
    let whole = master.welcome(&call, &again);
    call.say_half(FromMaster::Welcome(whole)).await;
    drop(call);
    // Nor does a restart change who it is.
    let (call, _) = master.greeted().await;
    agent.kill();
    drop(call);
    let _agent = master.start_agent();
    let (mut call, restarted) = master.greeted().await;
    assert!(matches!(restarted.proof, HelloProof::Bind(_)), "{restarted:?}");
    assert_eq!((&restarted.public_key, restarted.epoch), (&first.public_key, first.epoch + 1));

    master.let_in(&mut call, &restarted).await;
    assert!(matches!(call.hear().await, Some(FromAgent::Inventory(_))));
    drop(call);
    let (_call, resumed) = master.greeted().await;
    assert!(matches!(resumed.proof, HelloProof::Resume(_)), "{resumed:?}");
    assert_eq!(resumed.public_key, first.public_key);
}

#[tokio::test]
async fn an_agent_that_is_told_to_end_says_goodbye_before_it_does() {
    let master = FakeMaster::open().await;
    let mut agent = master.start_agent();
    let (mut call, hello) = master.greeted().await;
    master.let_in(&mut call, &hello).await;
    call.say(FromMaster::Shutdown { sentence: "idle for long".into() }).await;
    let mut last = None;
    while let Some(heard) = call.hear().await {
        last = Some(heard);
    }
    assert_eq!(last, Some(FromAgent::Goodbye { sentence: "idle for long".into() }));
    drop(call);
    assert!(agent.ends().await.success(), "{}", agent.said());
}

/// How often the slow master reads, and how much then at most: 2 MiB a second.
const READ_EVERY: Duration = Duration::from_millis(10);
const READ_BYTES: usize = 20 * 1024;

/// How long a word may wait behind what the kernels and the wire already hold of a log.
const SOON: Duration = Duration::from_secs(3);

/// Far more than a slow master takes while this runs; then it waits to be ended.
const FLOOD: &str = "head -c 67108864 /dev/urandom; exec sleep 600";

fn attempt() -> AttemptRef {
    AttemptRef { attempt: AttemptId(7), fence: Fence(1) }
}

#[tokio::test]
async fn heartbeats_and_the_end_of_a_cancelled_job_overtake_a_flood_of_log() {
    let master = FakeMaster::open().await;
    let mut agent = master.start_agent();
    let (mut call, hello) = master.greeted().await;
    master.let_in(&mut call, &hello).await;
    call.say(FromMaster::RunAttempt(Box::new(spec(attempt(), FLOOD)))).await;

    let mut slow = SlowMaster { call, ticks: tokio::time::interval(READ_EVERY), log_end: 0 };
    // A megabyte of log under way: it is a flood. Then five heartbeats, one each second.
    slow.hear_until("the flood", |_, log_end| log_end > 1 << 20).await;
    for beat in 0..5 {
        let took = slow.hear_until("a heartbeat", |heard, _| is_heartbeat(heard)).await;
        assert!(took <= Duration::from_secs(1) + SOON, "heartbeat {beat} came after {took:?}");
    }
    slow.call.say(FromMaster::Cancel(attempt())).await;
    let mut log_bytes = 0;
    let took = slow
        .hear_until("the job's end", |heard, _| match heard {
            FromAgent::StepResult(result) => {
                log_bytes += result.log_bytes;
                false
            }
            FromAgent::AttemptResult { outcome, .. } => {
                assert_eq!(*outcome, AttemptOutcome::Cancelled);
                true
            }
            _ => false,
        })
        .await;
    assert!(took <= SOON, "the answer to Cancel came after {took:?}");
    // Whatever the computer's pace: there was more of the log left than one connection holds.
    let left = log_bytes - slow.log_end;
    assert!(left > 4 << 20, "it overtook {left} bytes");

    slow.call.say(FromMaster::Shutdown { sentence: "the test is over".into() }).await;
    slow.hear_until("a farewell", |heard, _| matches!(heard, FromAgent::Goodbye { .. })).await;
    drop(slow);
    assert!(agent.ends().await.success(), "{}", agent.said());
}

fn is_heartbeat(heard: &FromAgent) -> bool {
    matches!(heard, FromAgent::Heartbeat(_))
}

/// A master that reads no faster than so.
struct SlowMaster {
    call: Call,
    ticks: tokio::time::Interval,
    /// The end of the log, as far as it is here.
    log_end: u64,
}

impl SlowMaster {
    /// Reads slowly, acks what comes of logs, and listens for something. How long that took.
    async fn hear_until(
        &mut self,
        what: &str,
        mut is_it: impl FnMut(&FromAgent, u64) -> bool,
    ) -> Duration {
        let began_at = clock::monotonic();
        loop {
            while let Some(heard) = self.call.take() {
                if let FromAgent::LogChunk(LogChunk { owner, offset, raw_len, .. }) = &heard {
                    self.log_end = offset + u64::from(*raw_len);
                    let (owner, durable_offset) = (*owner, self.log_end);
                    let ack = FromMaster::LogAck { owner, durable_offset, rewind_to: None };
                    self.call.say(ack).await;
                }
                if is_it(&heard, self.log_end) {
                    return clock::monotonic() - began_at;
                }
            }
            let late = clock::monotonic() - began_at > crate::house::DEADLINE;
            assert!(!late, "{what} did not come");
            self.ticks.tick().await;
            assert!(self.call.read_at_most(READ_BYTES).await, "the agent hung up before {what}");
        }
    }
}
