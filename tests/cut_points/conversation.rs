//! A worker's whole conversation with its master, with one cut: from the first byte of TLS over the
//! bootstrap script and a job to the moment at which both are done with it.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use busybee::master::domain::decision::Record;
use busybee::master::domain::entities::AttemptState;
use busybee::master::domain::entities::StepRun;
use busybee::master::domain::event::Request;
use busybee::master::domain::pipeline::JobSpec;
use busybee::master::logs::key::LogKey;
use busybee::model::attempt::LogOwner;
use busybee::model::ids::BuildNumber;
use busybee::model::ids::Fence;
use busybee::model::inputs::GivenInputs;
use busybee::model::status::JobStatus;
use busybee::model::step::RunsAfter;
use busybee::model::step::Shell;
use busybee::model::step::StepSpec;
use busybee::wire::message::Bootstrap;

use crate::cut_point::CutPoint;
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

/// A worker, its agent and a build, with one cut.
pub(crate) struct Conversation {
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
    pub(crate) async fn begin(point: CutPoint) -> Conversation {
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

    /// Goes through all of it, and looks at what is left.
    pub(crate) async fn survives(&self) {
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
        concurrency: None,
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
