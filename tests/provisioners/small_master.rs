//! A master without its processes: the real domain, store and provisioner, in virtual time; it can be killed
//! before and after anything that it does.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Duration;

use busybee::master::config::Config;
use busybee::master::domain::coordinator::Coordinator;
use busybee::master::domain::decision::Action;
use busybee::master::domain::decision::Decision;
use busybee::master::domain::decision::Record;
use busybee::master::domain::decision::ReplyId;
use busybee::master::domain::entities::Instance;
use busybee::master::domain::entities::Job;
use busybee::master::domain::event::Event;
use busybee::master::domain::event::Request;
use busybee::master::domain::event::Resolved;
use busybee::master::domain::pipeline::JobSpec;
use busybee::master::domain::pipeline::Pipeline;
use busybee::master::domain::pipeline::Planned;
use busybee::master::domain::settings::Settings;
use busybee::master::provisioner::Ending;
use busybee::master::provisioner::EquipOrder;
use busybee::master::provisioner::LaunchOrder;
use busybee::master::provisioner::PrepareOrder;
use busybee::master::provisioner::Provisioner;
use busybee::master::provisioner::ec2::Ec2Provisioner;
use busybee::master::provisioner::ec2::Patience;
use busybee::master::store::Store;
use busybee::model::ids::Commit;
use busybee::model::ids::InstanceId;
use busybee::model::ids::RefName;
use busybee::model::secret::Secret;
use busybee::model::status::InstanceStatus;
use busybee::model::status::JobStatus;
use busybee::model::time::Timestamp;

use crate::contract::with_password_place;
use crate::control::Control;
use crate::control::RealInstance;
use crate::machines::Machines;

/// Turns of one history, at most: a circle is a mistake.
const TURNS_MAX: u32 = 20_000;

/// When a master is killed: so many things after the first of a kind that it does (`""`: of any), and whether
/// before or after that thing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kill {
    pub(crate) kind: &'static str,
    pub(crate) later: u32,
    pub(crate) is_after: bool,
}

/// The master, and the world it sees.
pub(crate) struct SmallMaster<'w> {
    control: &'w Control,
    settings: Settings,
    provisioner: Ec2Provisioner,
    store: Store,
    it: Coordinator,
    pub(crate) now: Timestamp,
    events: VecDeque<Event>,
    pub(crate) machines: Machines,
    kills: Vec<Kill>,
    /// When the first thing of each kind was done, counted by all that was done.
    first: BTreeMap<String, u32>,
    done: u32,
    turns: u32,
    lives: u64,
    asked: Option<Request>,
    /// The newest rows that were committed.
    job: Option<Job>,
    ledger: BTreeMap<InstanceId, Instance>,
    /// The most that were ever alive at one time.
    pub(crate) most_alive: usize,
    /// What happened, for people.
    pub(crate) story: Vec<String>,
    _folder: tempfile::TempDir,
}

impl<'w> SmallMaster<'w> {
    /// With the pool and the keys of this file.
    pub(crate) fn start(control: &'w Control, file: &str, kills: &[Kill]) -> SmallMaster<'w> {
        let folder = tempfile::tempdir().expect("a folder");
        let config = Config::parse(file, "busybee.toml", folder.path());
        let config = config.unwrap_or_else(|problems| panic!("{problems}"));
        let pool = config.pools.first().expect("a pool");
        let ec2 = pool.ec2.clone().expect("it is of EC2");
        let (id, name) = ("matrix".to_owned(), pool.settings.name.clone());
        let provisioner = Ec2Provisioner::new(ec2, id, name).expect("it is set up");
        let provisioner = provisioner.with_patience(Patience {
            answer: Duration::from_millis(400),
            first_delay: Duration::from_millis(1),
            last_delay: Duration::from_millis(2),
        });
        let store = Store::open(&folder.path().join("data")).expect("a store");
        let settings = config.settings();
        let now = busybee::runtime::clock::now();
        let snapshot = store.load().expect("it can be read");
        let it = Coordinator::load(settings.clone(), snapshot, now, 1);
        SmallMaster {
            control,
            settings,
            provisioner,
            store,
            it,
            now,
            events: VecDeque::from([Event::Tick]),
            machines: Machines::default(),
            kills: kills.to_vec(),
            first: BTreeMap::new(),
            done: 0,
            turns: 0,
            lives: 1,
            asked: None,
            job: None,
            ledger: BTreeMap::new(),
            most_alive: 0,
            story: Vec::new(),
            _folder: folder,
        }
    }

    /// Kills that have not come.
    pub(crate) fn kills_left(&self) -> &[Kill] {
        &self.kills
    }

    /// Whether a machine is stopped, as far as the ledger knows.
    pub(crate) fn has_stopped_one(&self) -> bool {
        self.ledger.values().any(|row| row.status == InstanceStatus::Stopped)
    }

    /// The next build, as if there had been none.
    pub(crate) fn asks_anew(&mut self, request: Request) {
        self.job = None;
        self.asks(request);
    }

    pub(crate) fn asks(&mut self, request: Request) {
        self.asked = Some(request.clone());
        self.events.push_back(Event::Asked(ReplyId(self.lives), request));
    }

    pub(crate) async fn really(&self) -> Vec<RealInstance> {
        self.control.really().await.instances
    }

    /// How the one job stands.
    pub(crate) fn job(&self) -> Option<JobStatus> {
        self.job.as_ref().map(|job| job.status)
    }

    /// Why it waits, or ended so.
    pub(crate) fn reason(&self) -> &str {
        self.job.as_ref().and_then(|job| job.reason.as_deref()).unwrap_or_default()
    }

    /// Whether every row of the ledger is over.
    pub(crate) fn ledger_is_final(&self) -> bool {
        self.ledger.values().all(|row| row.status.is_final())
    }

    /// The ledger as the store has it.
    pub(crate) async fn stored_ledger(&self) -> Vec<Instance> {
        self.store.instances(None, 1000).await.expect("it can be read")
    }

    /// Lives on until a condition holds or so much time is over; whether it holds.
    pub(crate) async fn until(
        &mut self,
        time: Duration,
        mut holds: impl FnMut(&SmallMaster<'w>) -> bool,
    ) -> bool {
        let end = self.now + time;
        loop {
            if holds(self) {
                return true;
            }
            if !self.step(end).await {
                return false;
            }
            self.turns += 1;
            assert!(self.turns < TURNS_MAX, "it turns in a circle:\n{}", self.told());
        }
    }

    pub(crate) fn told(&self) -> String {
        self.story.join("\n")
    }

    fn note(&mut self, what: impl std::fmt::Display) {
        let at = self.now.0 % 10_000_000;
        self.story.push(format!("{:>8}.{:03} {what}", at / 1000, at % 1000));
    }

    /// The next thing that happens, if it does before `end`.
    async fn step(&mut self, end: Timestamp) -> bool {
        let event = match self.events.pop_front() {
            Some(event) => event,
            None => {
                let next = [self.it.next_timeout(), self.machines.next()];
                let Some(next) = next.into_iter().flatten().min().filter(|next| *next <= end)
                else {
                    self.now = end;
                    return false;
                };
                self.now = self.now.max(next);
                let (events, ended) = self.machines.act(self.now);
                self.events.extend(events);
                for id in ended {
                    let code = "Client.InstanceInitiatedShutdown";
                    self.control.happens_to(&id, &serde_json::json!({ "die": code })).await;
                    self.note(format!("{id} shuts itself down"));
                    self.look().await;
                }
                Event::Tick
            }
        };
        self.turn(event).await;
        true
    }

    /// Decide, commit, act, answer.
    async fn turn(&mut self, event: Event) {
        match &event {
            Event::Tick | Event::CloudListed { .. } => {}
            event => self.note(format!("{event:?}").chars().take(300).collect::<String>()),
        }
        let decision = self.it.handle(self.now, event);
        self.it.check_invariants();
        let Decision { remember, perform, answers } = decision;
        for record in &remember {
            match record {
                Record::Job(job) => self.job = Some(job.clone()),
                Record::Instance(row) => {
                    self.ledger.insert(row.id, row.clone());
                }
                _ => {}
            }
        }
        self.store.commit(remember).await.expect("it is committed");
        let mut has_called = false;
        for action in perform {
            let kill = self.kill_at(&action);
            if kill.is_some_and(|kill| !kill.is_after) {
                self.note(
                    format!("KILLED before {action:?}").chars().take(300).collect::<String>(),
                );
                return self.start_again().await;
            }
            has_called |= matches!(
                action,
                Action::Launch { .. }
                    | Action::Terminate { .. }
                    | Action::Stop { .. }
                    | Action::Start { .. }
                    | Action::ListInstances(_)
            );
            let came = self.perform(action).await;
            if kill.is_some() {
                self.note("KILLED after that");
                return self.start_again().await;
            }
            self.events.extend(came);
        }
        for (reply, answer) in answers {
            self.events.extend(self.machines.answered(self.now, reply, &answer));
        }
        if has_called {
            self.look().await;
        }
    }

    /// The kill that is due with the next thing to be done.
    fn kill_at(&mut self, action: &Action) -> Option<Kill> {
        self.done += 1;
        let told = format!("{action:?}");
        let kind = told.split(['(', ' ']).next().unwrap_or_default().to_owned();
        self.first.entry(kind).or_insert(self.done);
        self.first.entry(String::new()).or_insert(self.done);
        let is_due = |kill: &Kill| {
            self.first.get(kill.kind).is_some_and(|first| first + kill.later == self.done)
        };
        let index = self.kills.iter().position(is_due)?;
        Some(self.kills.remove(index))
    }

    /// What is really there now.
    async fn look(&mut self) {
        let real = self.really().await;
        let alive = real.iter().filter(|one| one.is_alive()).count();
        self.most_alive = self.most_alive.max(alive);
        self.events.extend(self.machines.see(self.now, &real));
    }

    /// Another process takes up what the store has.
    async fn start_again(&mut self) {
        self.lives += 1;
        self.events.clear();
        // Whoever got no answer asks again.
        if let Some(request) = self.asked.clone().filter(|_| self.job.is_none()) {
            self.asks(request);
        }
        self.machines.hung_up_on(self.now);
        let snapshot = self.store.load().expect("it can be read");
        self.it = Coordinator::load(self.settings.clone(), snapshot, self.now, self.lives);
        self.events.push_front(Event::Tick);
        self.look().await;
    }

    /// Does one thing, and brings what comes of it.
    async fn perform(&mut self, action: Action) -> Option<Event> {
        match &action {
            Action::ListInstances(_) => {}
            other => {
                self.note(format!("  → {other:?}").chars().take(200).collect::<String>());
            }
        }
        match action {
            Action::ResolveChange(change) => {
                let resolved = Resolved {
                    ref_name: RefName::from("refs/heads/main"),
                    commit: Commit::from("c1"),
                    subject: "work".to_owned(),
                    author: "Ada <ada@example.com>".to_owned(),
                    planned: Planned::Pipeline(one_job()),
                };
                Some(Event::ChangeResolved(change.change, resolved))
            }
            Action::Prepare { instance, launch, worker, candidate, seat, expires_at, .. } => {
                let user_data = with_password_place("true");
                let order = PrepareOrder { launch, worker, candidate, seat, user_data, expires_at };
                Some(match self.provisioner.prepare(order).await {
                    Ok(prepared) => Event::LaunchPrepared {
                        instance,
                        request: prepared.request,
                        what: prepared.what,
                        price_per_hour: prepared.price_per_hour,
                    },
                    Err(error) => Event::LaunchFailed {
                        instance,
                        sentence: error.sentence,
                        failure: error.failure,
                    },
                })
            }
            Action::Launch { instance, launch, request, .. } => {
                let password = Secret::new("secret".to_owned());
                let order = LaunchOrder { launch, request, password };
                Some(match self.provisioner.launch(order).await {
                    Ok(cloud_id) => Event::InstanceAccepted { instance, cloud_id },
                    Err(error) => Event::LaunchFailed {
                        instance,
                        sentence: error.sentence,
                        failure: error.failure,
                    },
                })
            }
            Action::Start { instance, cloud_id, .. } => {
                Some(match self.provisioner.start(cloud_id.clone()).await {
                    Ok(()) => Event::InstanceAccepted { instance, cloud_id },
                    Err(error) => Event::LaunchFailed {
                        instance,
                        sentence: error.sentence,
                        failure: error.failure,
                    },
                })
            }
            Action::Stop { instance, cloud_id, .. } => {
                match self.provisioner.stop(cloud_id).await {
                    Err(error) if error.is_final => {
                        Some(Event::StopFailed { instance, sentence: error.sentence })
                    }
                    Ok(()) | Err(_) => None,
                }
            }
            Action::Equip { instance, launch, cloud_id, request, .. } => {
                let order = EquipOrder { launch, cloud_id, request };
                Some(match self.provisioner.equip(order).await {
                    Ok(()) => Event::InstanceEquipped { instance },
                    Err(error) => Event::EquipFailed {
                        instance,
                        sentence: error.sentence,
                        failure: error.failure,
                    },
                })
            }
            Action::Terminate { instance, launch, cloud_id, urgency, .. } => {
                match self.provisioner.terminate_by(launch, cloud_id, urgency).await {
                    Ok(Ending::Gone) => {
                        Some(Event::InstanceEnded { instance: instance?, sentence: None })
                    }
                    Ok(Ending::UnderWay | Ending::NotSeen) => None,
                    Ok(Ending::Refused(sentence)) => {
                        Some(Event::EndRefused { instance: instance?, sentence })
                    }
                    Err(why) => {
                        self.note(format!("cannot end it yet: {why}"));
                        None
                    }
                }
            }
            Action::ListInstances(pool) => {
                let asked_at = self.now;
                // A listing takes a moment, and what is accepted meanwhile is accepted after it.
                self.now = self.now + Duration::from_millis(1);
                let listed = match self.provisioner.list().await {
                    Ok(machines) => Event::CloudListed { pool: pool.clone(), asked_at, machines },
                    Err(sentence) => Event::CloudUnlisted { pool: pool.clone(), sentence },
                };
                self.events.push_back(listed);
                let launches = self.provisioner.open_requests().await.unwrap_or_default();
                (!launches.is_empty()).then_some(Event::RequestsOpen { pool, launches })
            }
            Action::Tell { worker, connection, message } => {
                self.machines.told(self.now, &worker, connection, message)
            }
            Action::Disconnect { connection, .. } => {
                self.machines.disconnected(self.now, connection);
                None
            }
            _ => None,
        }
    }
}

/// A pipeline of one job that any worker can do.
fn one_job() -> Pipeline {
    let job = JobSpec {
        name: "test".into(),
        needs: Vec::new(),
        worker: None,
        env: Vec::new(),
        secrets: Vec::new(),
        checkout: false,
        keep_workspace: false,
        timeout: Duration::from_secs(3600),
        infra_retries: 3,
        concurrency: None,
        steps: Vec::new(),
    };
    Pipeline { jobs: vec![job], ..Pipeline::default() }
}
