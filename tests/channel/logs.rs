//! Who may write which log, and that nothing stands in it twice, out of order, or for another.

use busybee::master::domain::decision::ToAgent;
use busybee::master::logs::key::LogKey;
use busybee::model::attempt::AttemptRef;
use busybee::model::attempt::AttemptSpec;
use busybee::model::attempt::LogChunk;
use busybee::model::attempt::LogOwner;
use busybee::model::ids::AttemptId;
use busybee::model::ids::Fence;
use busybee::model::step::RunsAfter;
use busybee::model::step::Shell;
use busybee::model::step::StepSpec;
use busybee::model::time::Timestamp;
use busybee::wire::message::FromAgent;
use busybee::wire::message::FromMaster;
use busybee::wire::message::Heartbeat;

use crate::house::Caller;
use crate::house::House;

fn attempt(number: u64, fence: u64) -> AttemptRef {
    AttemptRef { attempt: AttemptId(number), fence: Fence(fence) }
}

/// What an attempt with one step is given out as.
pub(crate) fn spec(id: AttemptRef, run: &str) -> AttemptSpec {
    let minute = std::time::Duration::from_secs(60);
    AttemptSpec {
        id,
        project: "hello".into(),
        job: "make".into(),
        env: Vec::new(),
        secrets: Vec::new(),
        checkout: None,
        keep_workspace: false,
        steps: vec![StepSpec {
            name: "make".into(),
            run: run.into(),
            shell: Shell::Sh,
            env: Vec::new(),
            timeout: None,
            when: RunsAfter::SUCCESS,
        }],
        timeout: minute,
        lease: minute,
    }
}

impl House {
    /// Gives an attempt to who calls.
    async fn give(&self, worker: &str, caller: &mut Caller, id: AttemptRef) {
        let run = ToAgent::Run(Box::new(spec(id, "make")));
        self.agents.tell(&worker.into(), caller.connection, run);
        let is_it =
            |heard: &FromMaster| matches!(heard, FromMaster::RunAttempt(spec) if spec.id == id);
        caller.hear_until(is_it).await;
    }

    /// What stands in the log of an attempt's first step.
    async fn log(&self, number: u64) -> Vec<u8> {
        let key = LogKey::Step { attempt: AttemptId(number), step: 1 };
        self.logs.read_at(&key, 0, 1 << 20).await.expect("the log is readable").bytes
    }
}

impl Caller {
    /// Listens until the master says this; what else it says is passed over.
    async fn hear_until(&mut self, mut is_it: impl FnMut(&FromMaster) -> bool) -> FromMaster {
        loop {
            let heard = self.hear().await.expect("the connection stays");
            if is_it(&heard) {
                return heard;
            }
        }
    }

    /// Sends these bytes as a chunk of the log of the attempt's first step.
    async fn log(&mut self, id: AttemptRef, offset: usize, raw: &[u8]) {
        let chunk = LogChunk {
            owner: LogOwner::Step { attempt: id, step: 1 },
            offset: offset as u64,
            raw_len: u32::try_from(raw.len()).expect("chunks are small"),
            first_at: Timestamp(1),
            last_at: Timestamp(2),
            frame: zstd::bulk::compress(raw, 1).expect("zstd compresses"),
        };
        self.say(FromAgent::LogChunk(chunk)).await;
    }

    /// Waits until the log is durable up to `end`; it is not to be sent again from anywhere.
    async fn durable(&mut self, end: usize) {
        let is_it = |heard: &FromMaster| match heard {
            FromMaster::LogAck { durable_offset, rewind_to, .. } => {
                assert_eq!(*rewind_to, None);
                *durable_offset == end as u64
            }
            _ => false,
        };
        self.hear_until(is_it).await;
    }

    /// Waits until the master wants the log sent on from somewhere else, and says from where.
    async fn rewound(&mut self) -> u64 {
        let is_it =
            |heard: &FromMaster| matches!(heard, FromMaster::LogAck { rewind_to: Some(_), .. });
        match self.hear_until(is_it).await {
            FromMaster::LogAck { rewind_to: Some(to), .. } => to,
            _ => unreachable!(),
        }
    }

    /// Waits until the master tells it to forget this attempt.
    async fn forgets(&mut self, id: AttemptRef) {
        self.hear_until(|heard| *heard == FromMaster::Forget(id)).await;
    }
}

#[tokio::test]
async fn a_chunk_from_before_the_end_of_a_log_is_answered_with_the_end_and_not_appended_again() {
    let house = House::open().await;
    let mut w1 = house.connect("w1").await;
    let id = attempt(7, 1);
    house.give("w1", &mut w1, id).await;
    w1.log(id, 0, b"one\n").await;
    w1.log(id, 4, b"two\n").await;
    w1.durable(8).await;

    // The same again, one that leaves a gap, one that also holds something new.
    for (offset, raw) in [(0, &b"one\n"[..]), (100, b"far\n"), (4, b"two\nthree\n")] {
        w1.log(id, offset, raw).await;
        assert_eq!(w1.rewound().await, 8, "after a chunk at {offset}");
        assert_eq!(house.log(7).await, b"one\ntwo\n");
    }
    w1.log(id, 8, b"three\n").await;
    w1.durable(14).await;
    assert_eq!(house.log(7).await, b"one\ntwo\nthree\n");
}

#[tokio::test]
async fn a_log_that_is_sent_from_its_beginning_after_a_reconnect_stays_as_it_was() {
    let house = House::open().await;
    let id = attempt(7, 1);
    let mut first = house.connect("w1").await;
    house.give("w1", &mut first, id).await;
    first.log(id, 0, b"one\n").await;
    first.log(id, 4, b"two\n").await;
    first.durable(8).await;

    // The acks were lost with the connection: all of it comes again, the end for the first time.
    let mut second = house.connect("w1").await;
    house.give("w1", &mut second, id).await;
    for (offset, raw) in [(0, b"one\n"), (4, b"two\n"), (8, b"end\n")] {
        second.log(id, offset, raw).await;
    }
    // What was under way behind a wrong one is no second reason to begin again.
    let mut rewinds = Vec::new();
    let is_end = |heard: &FromMaster| match heard {
        FromMaster::LogAck { durable_offset, rewind_to, .. } => {
            rewinds.extend(*rewind_to);
            *durable_offset == 12
        }
        _ => false,
    };
    second.hear_until(is_end).await;
    assert_eq!(rewinds, [8]);
    assert_eq!(house.log(7).await, b"one\ntwo\nend\n");
}

#[tokio::test]
async fn a_chunk_for_another_workers_attempt_is_dropped_and_that_attempts_log_untouched() {
    let house = House::open().await;
    let (mut w1, mut w2) = (house.connect("w1").await, house.connect("w2").await);
    house.give("w1", &mut w1, attempt(7, 1)).await;
    house.give("w2", &mut w2, attempt(8, 1)).await;
    w1.log(attempt(7, 1), 0, b"honest\n").await;
    w1.durable(7).await;

    // Right at the end of the log, where only whose it is stands in the way; and a log of nobody.
    for foreign in [attempt(7, 1), attempt(9, 1)] {
        w2.log(foreign, if foreign.attempt.0 == 7 { 7 } else { 0 }, b"forged\n").await;
        w2.forgets(foreign).await;
    }
    assert_eq!(house.log(7).await, b"honest\n");
    assert_eq!(house.log(9).await, b"");

    // Neither has lost its own.
    w1.log(attempt(7, 1), 7, b"and so on\n").await;
    w1.durable(17).await;
    w2.log(attempt(8, 1), 0, b"mine\n").await;
    w2.durable(5).await;
    assert_eq!(house.log(7).await, b"honest\nand so on\n");
    assert_eq!(house.log(8).await, b"mine\n");
}

#[tokio::test]
async fn a_chunk_with_the_fence_of_an_earlier_owner_is_dropped() {
    let house = House::open().await;
    let (mut earlier, mut owner) = (house.connect("w1").await, house.connect("w2").await);
    house.give("w1", &mut earlier, attempt(7, 1)).await;
    earlier.log(attempt(7, 1), 0, b"before\n").await;
    earlier.durable(7).await;

    // It was lost, and the attempt given to another. Both fences write to one log.
    house.agents.tell(&"w1".into(), earlier.connection, ToAgent::Forget(attempt(7, 1)));
    earlier.forgets(attempt(7, 1)).await;
    house.give("w2", &mut owner, attempt(7, 2)).await;
    earlier.log(attempt(7, 1), 7, b"late\n").await;
    earlier.forgets(attempt(7, 1)).await;
    // With the new fence it is no more the owner than it was; the owner no more with the old one.
    earlier.log(attempt(7, 2), 7, b"guessed\n").await;
    earlier.forgets(attempt(7, 2)).await;
    owner.log(attempt(7, 1), 7, b"mixed up\n").await;
    owner.forgets(attempt(7, 1)).await;
    assert_eq!(house.log(7).await, b"before\n");
    owner.log(attempt(7, 2), 7, b"after\n").await;
    owner.durable(13).await;
    assert_eq!(house.log(7).await, b"before\nafter\n");
}

#[tokio::test]
async fn a_frame_that_claims_too_much_ends_the_connection_before_room_is_made_for_it() {
    let house = House::open().await;
    let before = address_space_peak();
    for claimed in [u32::MAX, 1 << 30, (1 << 20) + 1] {
        // Once welcomed, with a sentence's worth of a body behind the claim.
        let mut w1 = house.connect("w1").await;
        w1.say_bytes(&[&claimed.to_be_bytes()[..], &[7; 100]].concat()).await;
        w1.ends().await;
        // Before.
        let mut caller = house.dial([9; 32]).await;
        caller.say_bytes(&[&claimed.to_be_bytes()[..], &[7; 100]].concat()).await;
        caller.ends().await;
    }
    // What may be claimed is waited for; a heartbeat is still answered first.
    let mut w1 = house.connect("w1").await;
    w1.say(FromAgent::Heartbeat(Heartbeat { number: 1, ..Heartbeat::default() })).await;
    w1.say_bytes(&(1_u32 << 20).to_be_bytes()).await;
    w1.hear_until(|heard| *heard == FromMaster::HeartbeatAck { heartbeat: 1 }).await;
    let grown = address_space_peak().saturating_sub(before);
    // Other tests of this process run at the same time, but none takes a part of this.
    assert!(grown < 900 << 20, "the address space grew by {grown} bytes");
}

impl Caller {
    async fn say_bytes(&mut self, bytes: &[u8]) {
        use tokio::io::AsyncWriteExt;
        self.stream.write_all(bytes).await.expect("the master takes it");
    }

    /// The master closes the connection. What it had said before is passed over.
    async fn ends(&mut self) {
        while self.hear().await.is_some() {}
    }
}

/// The most address space that this process ever had: also room that was made and never touched.
fn address_space_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).expect("a line");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}
