//! The agent's end of the channel: whom it believes, what it says to whom, and what goes first.

use std::collections::BTreeMap;
use std::time::Duration;

use busybee::model::attempt::AttemptOutcome;
use busybee::model::attempt::AttemptRef;
use busybee::model::attempt::LogOwner;
use busybee::model::ids::AttemptId;
use busybee::model::ids::Fence;
use busybee::model::secret::Secret;
use busybee::model::step::StepSpec;
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
use crate::house::DEADLINE;
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

/// How often the slow master reads, and how much then at most: 1.6 MiB a second.
const READ_EVERY: Duration = Duration::from_millis(10);
const READ_BYTES: usize = 16 * 1024;

/// How long a word may wait behind what is on the wire of a log already; behind all of the logs it would wait for a
/// minute.
const SOON: Duration = Duration::from_secs(5);

/// Steps whose logs are sent at the same time: more than a kernel takes at its most, so that
/// chunks wait in the agent. Each is far from sent when all is over.
const FLOODS: usize = 6;
const FLOOD: &str = "head -c 16777216 /dev/urandom";

fn attempt() -> AttemptRef {
    AttemptRef { attempt: AttemptId(7), fence: Fence(1) }
}

#[tokio::test]
async fn heartbeats_and_the_end_of_a_cancelled_job_overtake_a_flood_of_log() {
    let master = FakeMaster::open().await;
    let mut agent = master.start_agent();
    let (mut call, hello) = master.greeted().await;
    master.let_in(&mut call, &hello).await;
    let mut job = spec(attempt(), FLOOD);
    let one = job.steps[0].clone();
    let named = |number: usize| StepSpec { name: format!("s{number}"), ..one.clone() };
    job.steps = (0..FLOODS).map(named).collect();
    let last = StepSpec { name: "last".into(), run: "exec sleep 600".into(), ..named(0) };
    job.steps.push(last);
    call.say(FromMaster::RunAttempt(Box::new(job))).await;

    let mut slow = SlowMaster {
        call,
        ticks: tokio::time::interval(READ_EVERY),
        ends: BTreeMap::new(),
        lengths: BTreeMap::new(),
    };
    let last_runs = |heard: &FromAgent| matches!(heard, FromAgent::StepStarted { step, .. } if *step as usize == FLOODS + 1);
    slow.hear_until("the last step", last_runs).await;
    // One heartbeat each second.
    for beat in 0..4 {
        let took = slow.hear_until("a heartbeat", |it| matches!(it, FromAgent::Heartbeat(_))).await;
        assert!(took <= Duration::from_secs(1) + SOON, "heartbeat {beat} came after {took:?}");
    }
    slow.call.say(FromMaster::Cancel(attempt())).await;
    let cancelled =
        FromAgent::AttemptResult { attempt: attempt(), outcome: AttemptOutcome::Cancelled };
    let took = slow.hear_until("the job's end", |heard| *heard == cancelled).await;
    assert!(took <= SOON, "the answer to Cancel came after {took:?}");
    // Whatever the computer's pace: it has overtaken more than a wire and two kernels hold.
    let left = slow.lengths.values().sum::<u64>() - slow.ends.values().sum::<u64>();
    assert!(left > 8 << 20, "it overtook {left} bytes");

    slow.call.say(FromMaster::Shutdown { sentence: "the test is over".into() }).await;
    slow.hear_until("a farewell", |heard| matches!(heard, FromAgent::Goodbye { .. })).await;
    drop(slow);
    assert!(agent.ends().await.success(), "{}", agent.said());
}

/// A master that reads no faster than so.
struct SlowMaster {
    call: Call,
    ticks: tokio::time::Interval,
    /// The end of each log, as far as it is here.
    ends: BTreeMap<LogOwner, u64>,
    /// How long each log is whose step has ended.
    lengths: BTreeMap<u32, u64>,
}

impl SlowMaster {
    /// Reads slowly, acks what comes of logs, and listens for something. How long that took.
    async fn hear_until(
        &mut self,
        what: &str,
        mut is_it: impl FnMut(&FromAgent) -> bool,
    ) -> Duration {
        let began_at = clock::monotonic();
        loop {
            while let Some(heard) = self.call.take() {
                match &heard {
                    FromAgent::LogChunk(chunk) => {
                        let (owner, end) = (chunk.owner, chunk.offset + u64::from(chunk.raw_len));
                        self.ends.insert(owner, end);
                        let ack =
                            FromMaster::LogAck { owner, durable_offset: end, rewind_to: None };
                        self.call.say(ack).await;
                    }
                    FromAgent::StepResult(result) => {
                        self.lengths.insert(result.step, result.log_bytes);
                    }
                    _ => {}
                }
                if is_it(&heard) {
                    return clock::monotonic() - began_at;
                }
            }
            let late = clock::monotonic() - began_at > DEADLINE;
            assert!(!late, "{what} did not come");
            self.ticks.tick().await;
            assert!(self.call.read_at_most(READ_BYTES).await, "the agent hung up before {what}");
        }
    }
}
