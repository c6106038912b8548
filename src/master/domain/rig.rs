//! A small house for the scenario tests: one coordinator, a clock that tests turn, agents in a line.
//!
//! Only tests see it. What must hold whatever happens is the simulation's; here one law is one story.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Action;
use crate::master::domain::decision::Answer;
use crate::master::domain::decision::Decision;
use crate::master::domain::decision::Record;
use crate::master::domain::decision::ReplyId;
use crate::master::domain::decision::ToAgent;
use crate::master::domain::entities::Build;
use crate::master::domain::entities::Instance;
use crate::master::domain::entities::Job;
use crate::master::domain::entities::Worker;
use crate::master::domain::event::AgentEvent;
use crate::master::domain::event::AgentHello;
use crate::master::domain::event::EndCause;
use crate::master::domain::event::Event;
use crate::master::domain::event::InventoryItem;
use crate::master::domain::event::Machine;
use crate::master::domain::event::MachineState;
use crate::master::domain::event::Proof;
use crate::master::domain::event::Request;
use crate::master::domain::event::Resolved;
use crate::master::domain::pipeline::JobSpec;
use crate::master::domain::pipeline::Pipeline;
use crate::master::domain::pipeline::Planned;
use crate::master::domain::settings::PoolSettings;
use crate::master::domain::settings::ProjectSettings;
use crate::master::domain::settings::ProvisionerKind;
use crate::master::domain::settings::Settings;
use crate::master::domain::snapshot::Snapshot;
use crate::model::attempt::AttemptOutcome;
use crate::model::attempt::AttemptRef;
use crate::model::ids::ChangeId;
use crate::model::ids::CloudId;
use crate::model::ids::Commit;
use crate::model::ids::ConnectionId;
use crate::model::ids::InstanceId;
use crate::model::ids::LaunchId;
use crate::model::ids::ProjectName;
use crate::model::ids::RefName;
use crate::model::ids::WorkerName;
use crate::model::inputs::GivenInputs;
use crate::model::money::Money;
use crate::model::status::BuildStatus;
use crate::model::status::JobStatus;
use crate::model::time::Timestamp;

/// A pool of machines that are started, without a bootstrap script.
pub(super) fn pool(name: &str) -> PoolSettings {
    PoolSettings {
        name: name.into(),
        labels: [name].into_iter().collect(),
        provisioner: ProvisionerKind::Local,
        has_bootstrap: false,
        candidates: Vec::new(),
        stopping: None,
        max_instances: 3,
        seats: 0,
        min_idle: 0,
        jobs_per_instance: 0,
        shared: true,
        idle_timeout: Duration::from_secs(300),
        look_ahead: false,
        boot_timeout: Duration::from_secs(600),
        reconnect_grace: Duration::from_secs(120),
        lease: Duration::from_secs(1800),
        max_lifetime: Duration::from_secs(12 * 3600),
        env: Vec::new(),
        daily_budget: None,
        notify_on_missing: Vec::new(),
    }
}

/// A job without steps that one more attempt is made of.
pub(super) fn job(name: &str, needs: &[&str]) -> JobSpec {
    JobSpec {
        name: name.into(),
        needs: needs.iter().map(|name| (*name).into()).collect(),
        worker: None,
        env: Vec::new(),
        secrets: Vec::new(),
        checkout: false,
        keep_workspace: false,
        timeout: Duration::from_secs(3600),
        infra_retries: 1,
        concurrency: None,
        steps: Vec::new(),
    }
}

/// A machine that runs, as a provisioner lists it.
pub(super) fn machine(cloud_id: &str, launch: &LaunchId) -> Machine {
    Machine {
        cloud_id: cloud_id.into(),
        launch: launch.clone(),
        state: MachineState::Running,
        started: None,
        asked_to_end_at: None,
        reason: None,
        cause: EndCause::Unknown,
    }
}

/// What an agent that calls says of itself.
pub(super) fn hello(proof: Proof) -> AgentHello {
    AgentHello {
        proof,
        public_key: b"its key".to_vec(),
        epoch: 5,
        instance_claim: String::new(),
        boot_id: "boot 1".to_owned(),
        version: "1".to_owned(),
    }
}

/// One coordinator, and everything it has ever decided.
pub(super) struct Rig {
    pub(super) it: Coordinator,
    pub(super) now: Timestamp,
    /// All rows, in the order in which they were written.
    pub(super) written: Vec<Record>,
    /// What the last event came to.
    pub(super) done: Vec<Action>,
    pub(super) answers: Vec<(ReplyId, Answer)>,
    last: u64,
    /// What the machines cost that are accepted from now on.
    pub(super) price: Option<Money>,
}

impl Rig {
    pub(super) fn new(pools: Vec<PoolSettings>) -> Rig {
        Rig::load(pools, Snapshot::default())
    }

    /// The row of a machine that was just asked for.
    pub(super) fn launched_row() -> Instance {
        let mut rig = Rig::new(vec![pool("linux")]);
        rig.build("app", vec![job("test", &[])]);
        rig.rows().pop().expect("it was asked for")
    }

    pub(super) fn load(pools: Vec<PoolSettings>, snapshot: Snapshot) -> Rig {
        Rig::load_at(pools, snapshot, Timestamp(1_000_000_000))
    }

    /// The same, at this time of day.
    pub(super) fn load_at(pools: Vec<PoolSettings>, snapshot: Snapshot, now: Timestamp) -> Rig {
        Rig::load_with(pools, None, snapshot, now)
    }

    /// With a budget for all pools.
    pub(super) fn budgeted(
        pools: Vec<PoolSettings>,
        daily_budget: Option<Money>,
        snapshot: Snapshot,
    ) -> Rig {
        Rig::load_with(pools, daily_budget, snapshot, Timestamp(1_000_000_000))
    }

    fn load_with(
        pools: Vec<PoolSettings>,
        daily_budget: Option<Money>,
        snapshot: Snapshot,
        now: Timestamp,
    ) -> Rig {
        let project = |name: &str| ProjectSettings { name: name.into(), repo: "repo".to_owned() };
        let projects = vec![project("app"), project("lib")];
        let url = "https://ci.example".to_owned();
        let settings = Settings { pools, projects, url, daily_budget };
        let it = Coordinator::load(settings, snapshot, now, 1);
        let (written, done, answers) = (Vec::new(), Vec::new(), Vec::new());
        let mut rig = Rig { it, now, written, done, answers, last: 0, price: None };
        rig.say(Event::Tick);
        rig
    }

    pub(super) fn say(&mut self, event: Event) {
        let Decision { remember, perform, answers } = self.it.handle(self.now, event);
        self.it.check_invariants();
        self.written.extend(remember);
        self.done = perform;
        self.answers = answers;
    }

    pub(super) fn agent(&mut self, event: AgentEvent) {
        self.say(Event::Agent(event));
    }

    /// Lets time pass, with a tick at each timeout; gives all that was done meanwhile.
    pub(super) fn wait(&mut self, seconds: u64) -> Vec<Action> {
        let end = self.now + Duration::from_secs(seconds);
        let mut done = Vec::new();
        while let Some(at) = self.it.next_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.say(Event::Tick);
            done.append(&mut self.done);
        }
        self.now = end;
        done
    }

    /// The same, with heartbeats from these.
    pub(super) fn wait_beating(
        &mut self,
        seconds: u64,
        beats: &[(&WorkerName, ConnectionId)],
    ) -> Vec<Action> {
        let mut done = Vec::new();
        for _ in 0..seconds / 10 {
            done.append(&mut self.wait(10));
            for (worker, connection) in beats {
                let (worker, connection) = ((*worker).clone(), *connection);
                self.agent(AgentEvent::Heartbeat { worker, connection });
            }
        }
        done
    }

    pub(super) fn ask(&mut self, request: Request) -> Option<Answer> {
        self.last += 1;
        let reply = ReplyId(self.last);
        self.say(Event::Asked(reply, request));
        self.answers.iter().find(|(to, _)| *to == reply).map(|(_, answer)| answer.clone())
    }

    /// Somebody asks for a build of these jobs.
    pub(super) fn build(&mut self, project: &str, jobs: Vec<JobSpec>) {
        self.build_of(project, Pipeline { jobs, ..Pipeline::default() });
    }

    /// Somebody asks for a build of this.
    pub(super) fn build_of(&mut self, project: &str, pipeline: Pipeline) {
        self.ask(start(project.into(), GivenInputs::new()));
        let change = self.resolving();
        let planned = Planned::Pipeline(pipeline);
        self.say(Event::ChangeResolved(change, resolved("refs/heads/main", "c1", "work", planned)));
    }

    /// The change that is to be resolved.
    pub(super) fn resolving(&self) -> ChangeId {
        let found = self.done.iter().find_map(|action| match action {
            Action::ResolveChange(change) => Some(change.change),
            _ => None,
        });
        found.expect("a change is to be resolved")
    }

    pub(super) fn launches(&self) -> Vec<(InstanceId, LaunchId, WorkerName)> {
        let launches = self.done.iter().filter_map(|action| match action {
            Action::Prepare { instance, launch, worker, .. } => {
                Some((*instance, launch.clone(), worker.clone()))
            }
            _ => None,
        });
        launches.collect()
    }

    /// The provisioner settles a request, and takes it.
    pub(super) fn accept(&mut self, instance: InstanceId) {
        let (request, what) = ("request".to_owned(), "a machine".to_owned());
        let price_per_hour = self.price;
        self.say(Event::LaunchPrepared { instance, request, what, price_per_hour });
        let cloud_id = CloudId(format!("i-{instance}"));
        self.say(Event::InstanceAccepted { instance, cloud_id });
    }

    /// The same, and it is seen up.
    pub(super) fn comes_up(&mut self, instance: InstanceId) {
        self.accept(instance);
        let row = self.row(instance);
        self.wait(1);
        let machines = vec![machine(&format!("i-{instance}"), &row.launch)];
        let (pool, asked_at) = (row.pool, self.now);
        self.say(Event::CloudListed { pool, asked_at, machines });
    }

    pub(super) fn greet(
        &mut self,
        worker: &WorkerName,
        hello: AgentHello,
    ) -> (ConnectionId, Answer) {
        self.last += 1;
        let (reply, connection) = (ReplyId(self.last), ConnectionId(self.last));
        self.agent(AgentEvent::Hello { reply, worker: worker.clone(), connection, hello });
        let answer = self.answers.iter().find(|(to, _)| *to == reply);
        (connection, answer.expect("a greeting is answered at once").1.clone())
    }

    /// Greets, and tells what it has.
    pub(super) fn connect(
        &mut self,
        worker: &WorkerName,
        hello: AgentHello,
        attempts: &[(AttemptRef, bool)],
    ) -> ConnectionId {
        let (connection, answer) = self.greet(worker, hello);
        assert!(matches!(answer, Answer::Welcome(_)), "{answer:?}");
        let items = attempts.iter();
        let attempts = items
            .map(|(attempt, finished)| InventoryItem { attempt: *attempt, finished: *finished });
        self.agent(AgentEvent::Inventory {
            worker: worker.clone(),
            connection,
            bootstrapped: false,
            attempts: attempts.collect(),
            up: Duration::ZERO,
        });
        connection
    }

    /// The machine that was just asked for comes up, and its agent calls for the first time.
    pub(super) fn arrive(&mut self) -> (InstanceId, WorkerName, ConnectionId) {
        let (instance, _, worker) = self.launches().pop().expect("a machine was asked for");
        self.accept(instance);
        let connection = self.connect(&worker, hello(Proof::Password), &[]);
        (instance, worker, connection)
    }

    /// What agents were told by the last event.
    pub(super) fn told(&self) -> Vec<&ToAgent> {
        let told = self.done.iter().filter_map(|action| match action {
            Action::Tell { message, .. } => Some(message),
            _ => None,
        });
        told.collect()
    }

    /// The attempt that an agent was just told to run.
    pub(super) fn given(&self) -> AttemptRef {
        let found = self.told().into_iter().find_map(|message| match message {
            ToAgent::Run(spec) => Some(spec.id),
            _ => None,
        });
        found.expect("an attempt was given out")
    }

    pub(super) fn start(&mut self, worker: &WorkerName, attempt: AttemptRef) {
        self.agent(AgentEvent::AttemptAccepted(worker.clone(), attempt));
    }

    pub(super) fn finish(
        &mut self,
        worker: &WorkerName,
        attempt: AttemptRef,
        outcome: AttemptOutcome,
    ) {
        self.agent(AgentEvent::AttemptFinished { worker: worker.clone(), attempt, outcome });
    }

    /// Whether the last event asked for the machine's end.
    pub(super) fn ends(&self, instance: InstanceId) -> bool {
        ends(&self.done, instance)
    }

    /// What a store would give back of its launches.
    pub(super) fn launched(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for record in &self.written {
            match record {
                Record::Instance(row) => {
                    snapshot.instances.retain(|older| older.id != row.id);
                    snapshot.instances.push(row.clone());
                    snapshot.last_ids.instance = snapshot.last_ids.instance.max(row.id.0);
                }
                Record::Worker(row) => {
                    snapshot.workers.retain(|older| older.name != row.name);
                    snapshot.workers.push(row.clone());
                }
                Record::Pool(state) => {
                    snapshot.pools.retain(|older| older.name != state.name);
                    snapshot.pools.push(state.clone());
                }
                _ => {}
            }
        }
        snapshot.instances.retain(|row| !row.status.is_final());
        snapshot
    }

    /// The same, and of its builds that are not over, of which no job has begun.
    pub(super) fn stored(&self) -> Snapshot {
        let (mut builds, mut jobs) = (BTreeMap::new(), BTreeMap::new());
        for record in &self.written {
            match record {
                Record::Build(build) => drop(builds.insert(build.id, build.clone())),
                Record::Job(job) => drop(jobs.insert(job.id, job.clone())),
                _ => {}
            }
        }
        builds.retain(|_, build: &mut Build| !build.status.is_final());
        jobs.retain(|_, job: &mut Job| builds.contains_key(&job.build));
        let mut snapshot = self.launched();
        snapshot.last_ids.build = builds.keys().last().map_or(0, |id| id.0);
        snapshot.last_ids.job = jobs.keys().last().map_or(0, |id| id.0);
        for build in builds.values() {
            snapshot.last_numbers.insert(build.project.clone(), build.number);
        }
        snapshot.builds = builds.into_values().collect();
        snapshot.jobs = jobs.into_values().collect();
        snapshot
    }

    /// The ledger, oldest first.
    pub(super) fn rows(&self) -> Vec<Instance> {
        let mut rows = BTreeMap::new();
        for record in &self.written {
            if let Record::Instance(row) = record {
                rows.insert(row.id, row.clone());
            }
        }
        rows.into_values().collect()
    }

    /// The newest row of the ledger with this number.
    pub(super) fn row(&self, id: InstanceId) -> Instance {
        let row = self.rows().into_iter().find(|row| row.id == id);
        row.expect("there is such a row")
    }

    pub(super) fn launch_of(&self, id: InstanceId) -> LaunchId {
        self.row(id).launch
    }

    /// The newest row of the worker.
    pub(super) fn worker(&self, name: &WorkerName) -> Worker {
        let workers = self.written.iter().rev().filter_map(|record| match record {
            Record::Worker(worker) => Some(worker),
            _ => None,
        });
        let mut named = workers.filter(|worker| &worker.name == name);
        named.next().expect("there is such a worker").clone()
    }

    /// The newest row of the job with this name.
    pub(super) fn job(&self, name: &str) -> Job {
        let jobs = self.written.iter().rev().filter_map(|record| match record {
            Record::Job(job) => Some(job),
            _ => None,
        });
        let mut named = jobs.filter(|job| job.spec.name.as_str() == name);
        named.next().expect("there is such a job").clone()
    }

    pub(super) fn status(&self, name: &str) -> JobStatus {
        self.job(name).status
    }

    pub(super) fn reason(&self, name: &str) -> String {
        self.job(name).reason.unwrap_or_default()
    }

    /// The newest status of each build, in order.
    pub(super) fn builds(&self) -> Vec<BuildStatus> {
        let mut builds = BTreeMap::new();
        for record in &self.written {
            if let Record::Build(build) = record {
                builds.insert(build.id, build.status);
            }
        }
        builds.into_values().collect()
    }
}

pub(super) fn ends(actions: &[Action], instance: InstanceId) -> bool {
    actions.iter().any(|action| {
        matches!(action, Action::Terminate { instance: Some(ended), .. } if *ended == instance)
    })
}

pub(super) fn start(project: ProjectName, inputs: GivenInputs) -> Request {
    Request::StartBuild { project, reference: None, inputs }
}

pub(super) fn resolved(name: &str, commit: &str, subject: &str, planned: Planned) -> Resolved {
    Resolved {
        ref_name: RefName::from(name),
        commit: Commit::from(commit),
        subject: subject.to_owned(),
        author: "Ada <ada@example.com>".to_owned(),
        planned,
    }
}
