//! Every place of a conversation at which a connection can be cut, by name: a real agent, the real
//! master's end with its store, domain and log files, and one cut at exactly that place. However
//! it was cut, the logs are what was printed, and every result counts once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use busybee::master::domain::decision::Record;
use busybee::master::domain::entities::AttemptState;
use busybee::master::domain::entities::StepRun;
use busybee::master::domain::event::Request;
use busybee::master::domain::pipeline::JobSpec;
use busybee::master::logs::key::LogKey;
use busybee::model::attempt::AttemptOutcome;
use busybee::model::attempt::LogOwner;
use busybee::model::ids::BuildNumber;
use busybee::model::ids::Fence;
use busybee::model::inputs::GivenInputs;
use busybee::model::status::JobStatus;
use busybee::model::step::RunsAfter;
use busybee::model::step::Shell;
use busybee::model::step::StepSpec;
use busybee::wire::message::Bootstrap;
use busybee::wire::message::FromAgent;
use busybee::wire::message::FromMaster;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::dice::Dice;
use crate::fake_master::Agent;
use crate::fake_master::FakeMaster;
use crate::house::DEADLINE;
use crate::house::Furniture;
use crate::house::House;
use crate::printed;
use crate::printed::Printed;
use crate::relay;
use crate::relay::Message;
use crate::relay::When;

/// Conversations at the same time.
const AT_ONCE: usize = 8;

/// A chunk that is longer than a TLS record: cut in the middle, a part of it is there.
const LONG_CHUNK_BYTES: usize = 32 * 1024;

/// Where a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CutPoint {
    BeforeTls,
    InsideClientHello,
    AfterTls,
    HelloLost,
    InsideHello,
    WelcomeLost,
    InsideWelcome,
    WelcomeSeen,
    InventoryLost,
    InsideInventory,
    InventorySeen,
    BootstrapLost,
    BootstrapSeen,
    InsideBootLog,
    BootstrapResultLost,
    BootstrapResultSeen,
    RunAttemptLost,
    InsideRunAttempt,
    RunAttemptSeen,
    AttemptAcceptedLost,
    AttemptAcceptedSeen,
    StepStartedLost,
    LogChunkLost,
    InsideLogChunk,
    LogChunkSeen,
    LogAckLost,
    LogAckSeen,
    StepResultLost,
    InsideStepResult,
    StepResultSeen,
    AttemptResultLost,
    AttemptResultSeen,
    ResultAckLost,
    ResultAckSeen,
    HeartbeatAckLost,
    CancelLost,
    CancelSeen,
    CancelledResultLost,
}

/// All of them, with what is so when the connection is gone. `docs/reliability.md` has this table.
const CUT_POINTS: [(CutPoint, &str); 38] = {
    use CutPoint as At;
    [
        (At::BeforeTls, "the connection was accepted, and not a byte was read"),
        (At::InsideClientHello, "half of the agent's first TLS record is there"),
        (At::AfterTls, "TLS is through, and nobody has greeted"),
        (At::HelloLost, "the agent has greeted, and the master does not know"),
        (At::InsideHello, "half of the greeting is there"),
        (At::WelcomeLost, "the master has bound the agent's key, and the agent does not know"),
        (At::InsideWelcome, "half of the welcome is there"),
        (At::WelcomeSeen, "the agent has pinned its master, and has said no more"),
        (At::InventoryLost, "the master waits to hear what the agent has"),
        (At::InsideInventory, "half of the inventory is there"),
        (At::InventorySeen, "the master knows what the agent has, and its answer is lost"),
        (At::BootstrapLost, "the master believes that the script was started"),
        (At::BootstrapSeen, "the script runs while the agent is away"),
        (At::InsideBootLog, "half a chunk of the boot log is there"),
        (At::BootstrapResultLost, "the script has passed, and the master does not know"),
        (At::BootstrapResultSeen, "the worker is ready, and away"),
        (At::RunAttemptLost, "the job was given out, and the agent never heard of it"),
        (At::InsideRunAttempt, "half of the job is there"),
        (At::RunAttemptSeen, "the job runs, and the master does not know"),
        (At::AttemptAcceptedLost, "the agent has said that the job runs, to nobody"),
        (At::AttemptAcceptedSeen, "both know that the job runs"),
        (At::StepStartedLost, "the master does not know which step runs"),
        (At::LogChunkLost, "a chunk of a log was sent, and nothing of it has arrived"),
        (At::InsideLogChunk, "half a chunk of a log is there"),
        (At::LogChunkSeen, "a chunk was written, and nobody was told"),
        (At::LogAckLost, "a chunk is durable, and the agent does not know"),
        (At::LogAckSeen, "the agent knows what is durable, and more is under way"),
        (At::StepResultLost, "a step has ended, and the master does not know"),
        (At::InsideStepResult, "half of a step's result is there"),
        (At::StepResultSeen, "a step's result counts, and the next one runs"),
        (At::AttemptResultLost, "the job has ended, and the master does not know"),
        (At::AttemptResultSeen, "the job's result counts, and the agent does not know"),
        (At::ResultAckLost, "the master has said that the result counts, to nobody"),
        (At::ResultAckSeen, "both are done with the job"),
        (At::HeartbeatAckLost, "the agent does not know that its lease goes on"),
        (At::CancelLost, "the job was cancelled, and runs on"),
        (At::CancelSeen, "the job is being ended, and the master waits to hear of it"),
        (At::CancelledResultLost, "the job was ended, and the master does not know"),
    ]
};

impl CutPoint {
    /// Whether this is the message, and where it is cut.
    fn at(self, message: &Message) -> Option<When> {
        use CutPoint as At;
        use FromAgent as Up;
        use FromMaster as Down;
        use When::After;
        use When::Before;
        use When::Inside;
        match message {
            Message::Up(said) => match (self, said) {
                (At::HelloLost, Up::Hello(_)) => Some(Before),
                (At::InsideHello, Up::Hello(_)) => Some(Inside),
                (At::InventoryLost, Up::Inventory(_)) => Some(Before),
                (At::InsideInventory, Up::Inventory(_)) => Some(Inside),
                (At::InventorySeen, Up::Inventory(_)) => Some(After),
                (At::InsideBootLog, Up::LogChunk(chunk)) if chunk.owner == LogOwner::Boot => {
                    Some(Inside)
                }
                (At::BootstrapResultLost, Up::BootstrapResult { .. }) => Some(Before),
                (At::BootstrapResultSeen, Up::BootstrapResult { .. }) => Some(After),
                (At::AttemptAcceptedLost, Up::AttemptAccepted(_)) => Some(Before),
                (At::AttemptAcceptedSeen, Up::AttemptAccepted(_)) => Some(After),
                (At::StepStartedLost, Up::StepStarted { .. }) => Some(Before),
                (_, Up::LogChunk(chunk)) if chunk.frame.len() < LONG_CHUNK_BYTES => None,
                (At::LogChunkLost, Up::LogChunk(_)) => Some(Before),
                (At::InsideLogChunk, Up::LogChunk(_)) => Some(Inside),
                (At::LogChunkSeen, Up::LogChunk(_)) => Some(After),
                (At::StepResultLost, Up::StepResult(_)) => Some(Before),
                (At::InsideStepResult, Up::StepResult(_)) => Some(Inside),
                (At::StepResultSeen, Up::StepResult(_)) => Some(After),
                (At::AttemptResultLost, Up::AttemptResult { .. }) => Some(Before),
                (At::AttemptResultSeen, Up::AttemptResult { .. }) => Some(After),
                (
                    At::CancelledResultLost,
                    Up::AttemptResult { outcome: AttemptOutcome::Cancelled, .. },
                ) => Some(Before),
                _ => None,
            },
            Message::Down(said) => match (self, said) {
                (At::WelcomeLost, Down::Welcome(_)) => Some(Before),
                (At::InsideWelcome, Down::Welcome(_)) => Some(Inside),
                (At::WelcomeSeen, Down::Welcome(_)) => Some(After),
                (At::BootstrapLost, Down::Bootstrap(_)) => Some(Before),
                (At::BootstrapSeen, Down::Bootstrap(_)) => Some(After),
                (At::RunAttemptLost, Down::RunAttempt(_)) => Some(Before),
                (At::InsideRunAttempt, Down::RunAttempt(_)) => Some(Inside),
                (At::RunAttemptSeen, Down::RunAttempt(_)) => Some(After),
                (At::LogAckLost, Down::LogAck { owner: LogOwner::Step { .. }, .. }) => Some(Before),
                (At::LogAckSeen, Down::LogAck { owner: LogOwner::Step { .. }, .. }) => Some(After),
                (At::ResultAckLost, Down::Forget(_)) => Some(Before),
                (At::ResultAckSeen, Down::Forget(_)) => Some(After),
                (At::HeartbeatAckLost, Down::HeartbeatAck { .. }) => Some(Before),
                (At::CancelLost, Down::Cancel(_)) => Some(Before),
                (At::CancelSeen, Down::Cancel(_)) => Some(After),
                _ => None,
            },
        }
    }

    /// Whether somebody cancels the build.
    fn is_cancelled(self) -> bool {
        matches!(self, CutPoint::CancelLost | CutPoint::CancelSeen | CutPoint::CancelledResultLost)
    }

    /// Whether this connection is cut before there is a message.
    async fn cuts_opening(self, stream: &mut TcpStream) -> bool {
        match self {
            CutPoint::BeforeTls => true,
            CutPoint::InsideClientHello => {
                let mut half = [0; 64];
                stream.read_exact(&mut half).await.expect("an agent begins with TLS");
                true
            }
            _ => false,
        }
    }
}

#[tokio::test]
async fn wherever_a_connection_is_cut_no_log_is_wrong_and_no_result_counts_twice() {
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let mut conversations = tokio::task::JoinSet::new();
    for (point, _) in CUT_POINTS {
        let at_once = Arc::clone(&at_once);
        conversations.spawn(async move {
            let _place = at_once.acquire().await.expect("it is never closed");
            let conversation = Conversation::begin(point).await;
            conversation.survives().await;
        });
    }
    while let Some(ended) = conversations.join_next().await {
        ended.expect("a conversation survives its cut");
    }
}

#[test]
fn the_docs_have_the_table_of_cut_points() {
    let docs = include_str!("../../docs/reliability.md");
    for (point, sentence) in CUT_POINTS {
        let row = format!("| {point:?} | {sentence} |");
        assert!(docs.contains(&row), "docs/reliability.md lacks the row\n{row}");
    }
}

/// A worker, its agent and a build, with one cut.
struct Conversation {
    point: CutPoint,
    house: House,
    master: FakeMaster,
    agent: Agent,
    /// What the bootstrap script and each step print.
    printed: Vec<Vec<u8>>,
    is_cut: AtomicBool,
    _dir: tempfile::TempDir,
}

impl Conversation {
    async fn begin(point: CutPoint) -> Conversation {
        let dir = tempfile::Builder::new().prefix("cut-").tempdir().expect("a directory");
        let mut dice = Dice::new(point as u64);
        let mut printed = Vec::new();
        let mut steps = Vec::new();
        for number in 0..3 {
            let bytes = Printed::new(&format!("{point:?}/{number}"), &mut dice).bytes();
            // Longer than a chunk, and badly compressed.
            let bytes = [printed::noise(100_000, &mut dice), bytes].concat();
            let path = dir.path().join(number.to_string());
            std::fs::write(&path, &bytes).expect("write what is printed");
            steps.push(step(number, &format!("cat '{}'", path.display())));
            printed.push(bytes);
        }
        // What is fetched as the bootstrap script is no business of this test.
        let runurl = dir.path().join("runurl");
        std::fs::write(&runurl, &steps.remove(0).run).expect("write a script");
        if point.is_cancelled() {
            steps.push(step(3, "exec sleep 600"));
        }
        let house = House::open_with(furniture(steps)).await;
        let master = FakeMaster::open_for(house.password()).await;
        let agent = master.start_agent_with(&[("BB_RUNURL", &runurl)]);
        let is_cut = AtomicBool::new(false);
        Conversation { point, house, master, agent, printed, is_cut, _dir: dir }
    }

    async fn survives(&self) {
        let (project, reference) = ("hello".into(), None);
        let start = Request::StartBuild { project, reference, inputs: GivenInputs::new() };
        self.house.inbox.ask(start).await;
        let all = async {
            if self.point.is_cancelled() {
                self.remembers(
                    "the last step runs",
                    |record| matches!(record, Record::Step(step) if step.step == 3),
                )
                .await;
                let cancel = Request::CancelBuild("hello".into(), BuildNumber(1));
                self.house.inbox.ask(cancel).await;
            }
            self.remembers(
                "the job ends",
                |record| matches!(record, Record::Job(job) if job.finished_at.is_some()),
            )
            .await;
            self.agent_has_forgotten().await;
        };
        tokio::select! {
            () = self.serve() => {}
            () = all => {}
        }
        assert!(self.was_cut(), "{:?} never came", self.point);
        self.check_records();
        self.check_logs().await;
    }

    /// Takes the agent's connections, one after the other; never ends.
    async fn serve(&self) {
        loop {
            let mut stream = self.master.accept_bare().await;
            if !self.was_cut() && self.point.cuts_opening(&mut stream).await {
                self.is_cut.store(true, Ordering::Relaxed);
                continue;
            }
            // An agent that was killed or has given up is seen by who waits for the end.
            let Ok(call) = self.master.secure(stream).await else { continue };
            if !self.was_cut() && self.point == CutPoint::AfterTls {
                self.is_cut.store(true, Ordering::Relaxed);
                continue;
            }
            let caller = self.house.dial(call.exporter).await;
            let scissors = |message: &Message| {
                let when = self.point.at(message).filter(|_| !self.was_cut())?;
                self.is_cut.store(true, Ordering::Relaxed);
                Some(when)
            };
            relay::relay(call, caller, &scissors).await;
        }
    }

    fn was_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    async fn remembers(&self, what: &str, is_it: impl Fn(&Record) -> bool) {
        let mut remembered = self.house.remembered.clone();
        let waiting = remembered.wait_for(|records| records.iter().any(&is_it));
        if tokio::time::timeout(DEADLINE, waiting).await.is_err() {
            panic!("{:?}: {what}: in vain\n{}", self.point, self.agent.said());
        }
    }

    /// The master has told it that all counts: its files are gone.
    async fn agent_has_forgotten(&self) {
        let attempts = self.agent.home.join("attempts");
        let is_empty = || std::fs::read_dir(&attempts).is_ok_and(|all| all.count() == 0);
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(20));
        let forgetting = async {
            while !is_empty() {
                looks.tick().await;
            }
        };
        if tokio::time::timeout(DEADLINE, forgetting).await.is_err() {
            panic!("{:?}: the attempt stays\n{}", self.point, self.agent.said());
        }
    }

    /// One attempt, its end told once, and each step ended once and for all.
    fn check_records(&self) {
        let point = self.point;
        let remembered = self.house.remembered.borrow();
        let (status, state) = match point.is_cancelled() {
            true => (JobStatus::Cancelled, AttemptState::Cancelled),
            false => (JobStatus::Passed, AttemptState::Passed),
        };
        let (mut ends, mut over) = (0, None);
        for record in remembered.iter() {
            match record {
                Record::Attempt(attempt) => {
                    assert_eq!((attempt.number, attempt.id.fence), (1, Fence(1)), "{point:?}");
                    if attempt.finished_at.is_some() {
                        assert_eq!(attempt.state, state, "{point:?}");
                        ends += 1;
                    }
                }
                Record::Job(job) if job.finished_at.is_some() => over = Some(job.status),
                _ => {}
            }
        }
        assert_eq!((ends, over), (1, Some(status)), "{point:?}");
        let mut ended: BTreeMap<u32, StepRun> = BTreeMap::new();
        for step in self.house.steps.lock().expect("nobody panicked").iter() {
            assert!(!step.log_incomplete, "{point:?}: {step:?}");
            match ended.get(&step.step) {
                Some(known) => assert_eq!(step, known, "{point:?}: it had ended"),
                None if step.outcome.is_some() => {
                    ended.insert(step.step, step.clone());
                }
                None => {}
            }
        }
        let steps = if point.is_cancelled() { 3 } else { 2 };
        assert_eq!(ended.len(), steps, "{point:?}: the steps that have ended: {ended:?}");
    }

    async fn check_logs(&self) {
        let attempt = self.house.remembered.borrow().iter().find_map(|record| match record {
            Record::Attempt(attempt) => Some(attempt.id.attempt),
            _ => None,
        });
        let attempt = attempt.expect("there was one");
        let boot = LogKey::of(LogOwner::Boot, &"w1".into());
        let step = |step| LogKey::Step { attempt, step };
        for (key, printed) in [boot, step(1), step(2)].iter().zip(&self.printed) {
            let log = self.house.logs.read_at(key, 0, 1 << 24).await.expect("it is readable");
            if let Some(how) = printed::difference(printed, &log.bytes) {
                panic!("{:?}: the {key}: {how}\n{}", self.point, self.agent.said());
            }
        }
    }
}

fn step(number: usize, run: &str) -> StepSpec {
    StepSpec {
        name: format!("s{number}"),
        run: run.into(),
        shell: Shell::Sh,
        env: Vec::new(),
        timeout: None,
        when: RunsAfter::SUCCESS,
    }
}

fn furniture(steps: Vec<StepSpec>) -> Furniture {
    let minute = std::time::Duration::from_secs(60);
    let job = JobSpec {
        name: "make".into(),
        needs: Vec::new(),
        worker: None,
        env: Vec::new(),
        secrets: Vec::new(),
        checkout: false,
        keep_workspace: false,
        timeout: 10 * minute,
        infra_retries: 2,
        steps,
    };
    let bootstrap = Bootstrap {
        url: "https://ci.example.com/bootstrap/make.sh".into(),
        sha256: "0".repeat(64),
        args: Vec::new(),
        env: Vec::new(),
        timeout: minute,
    };
    Furniture { jobs: vec![job], bootstrap: Some(bootstrap) }
}
