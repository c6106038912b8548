//! The real domain in a world where machines boot and jobs run, and nothing ever fails.

use std::collections::BTreeMap;
use std::time::Duration;

use busybee::master::domain::coordinator::Coordinator;
use busybee::master::domain::decision::Action;
use busybee::master::domain::decision::Answer;
use busybee::master::domain::decision::Decision;
use busybee::master::domain::decision::Record;
use busybee::master::domain::decision::ReplyId;
use busybee::master::domain::decision::ToAgent;
use busybee::master::domain::entities::Job;
use busybee::master::domain::event::AgentEvent;
use busybee::master::domain::event::AgentHello;
use busybee::master::domain::event::EndCause;
use busybee::master::domain::event::Event;
use busybee::master::domain::event::Machine as Listed;
use busybee::master::domain::event::MachineState;
use busybee::master::domain::event::Proof;
use busybee::master::domain::event::Request;
use busybee::master::domain::event::Resolved;
use busybee::master::domain::pipeline::JobSpec;
use busybee::master::domain::pipeline::Pipeline;
use busybee::master::domain::pipeline::Planned;
use busybee::master::domain::settings::PoolSettings;
use busybee::master::domain::settings::ProjectSettings;
use busybee::master::domain::settings::ProvisionerKind;
use busybee::master::domain::settings::Settings;
use busybee::master::domain::snapshot::Snapshot;
use busybee::model::attempt::AttemptOutcome;
use busybee::model::attempt::AttemptRef;
use busybee::model::ids::BuildId;
use busybee::model::ids::CloudId;
use busybee::model::ids::Commit;
use busybee::model::ids::ConnectionId;
use busybee::model::ids::InstanceId;
use busybee::model::ids::JobId;
use busybee::model::ids::JobName;
use busybee::model::ids::LaunchId;
use busybee::model::ids::RefName;
use busybee::model::ids::WorkerName;
use busybee::model::inputs::GivenInputs;
use busybee::model::time::Timestamp;

use crate::MAX_INSTANCES;
use crate::outcome::Outcome;
use crate::traces::Arrival;
use crate::traces::Dice;
use crate::traces::Trace;
use crate::traces::Work;

/// From RunInstances to "running", which is free.
pub(crate) const PENDING: Duration = Duration::from_secs(12);

/// From TerminateInstances until the machine is gone, which is free and counts against the maximum.
const SHUTTING_DOWN: Duration = Duration::from_secs(30);

/// Agents speak at least this often.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// From "running" to a ready worker: boot, cloud-init and the bootstrap script's packages.
pub(crate) fn boot(dice: &mut Dice) -> Duration {
    dice.between(50, 110)
}

/// What a pool is told.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) idle_timeout: Duration,
    pub(crate) jobs_per_instance: u32,
    pub(crate) min_idle: u32,
    pub(crate) look_ahead: bool,
}

/// Something to come.
enum Happening {
    /// The build of this number in the trace.
    Arrives(usize),
    Calls(WorkerName),
    Ends(InstanceId, WorkerName),
    Finishes(WorkerName, AttemptRef),
    Beats(WorkerName),
}

struct Machine {
    id: CloudId,
    launch: LaunchId,
    up_since: Timestamp,
    connection: Option<ConnectionId>,
    is_ending: bool,
}

struct World<'a> {
    it: Coordinator,
    now: Timestamp,
    dice: Dice,
    heap: BTreeMap<(Timestamp, u64), Happening>,
    last: u64,
    trace: &'a Trace,
    begin: Timestamp,
    machines: BTreeMap<WorkerName, Machine>,
    n_jobs: usize,
    n_done: usize,
    /// At which place of the trace builds stand.
    builds: BTreeMap<BuildId, usize>,
    /// The build that is being made.
    arriving: Option<usize>,
    jobs: BTreeMap<JobId, Job>,
    attempts: BTreeMap<AttemptRef, JobId>,
    outcome: Outcome,
}

/// Lets all jobs of a trace come and run, and every machine end that is not kept.
pub(crate) fn run(trace: &Trace, policy: &Policy, seed: u64) -> Outcome {
    let begin = Timestamp(1_000_000_000_000);
    let it = Coordinator::load(settings(policy), Snapshot::default(), begin, seed);
    let mut world = World {
        it,
        now: begin,
        dice: Dice::new(seed),
        heap: BTreeMap::new(),
        last: 0,
        trace,
        begin,
        machines: BTreeMap::new(),
        n_jobs: trace.iter().map(|arrival| arrival.jobs.len()).sum(),
        n_done: 0,
        builds: BTreeMap::new(),
        arriving: None,
        jobs: BTreeMap::new(),
        attempts: BTreeMap::new(),
        outcome: Outcome::default(),
    };
    for (index, arrival) in trace.iter().enumerate() {
        world.at(begin + arrival.at, Happening::Arrives(index));
    }
    world.say(Event::Tick);
    world.live();
    world.outcome
}

fn settings(policy: &Policy) -> Settings {
    let pool = PoolSettings {
        name: "linux".into(),
        labels: ["linux"].into_iter().collect(),
        provisioner: ProvisionerKind::Ec2,
        has_bootstrap: false,
        candidates: Vec::new(),
        stopping: None,
        max_instances: MAX_INSTANCES,
        seats: 0,
        min_idle: policy.min_idle,
        jobs_per_instance: policy.jobs_per_instance,
        shared: false,
        idle_timeout: policy.idle_timeout,
        look_ahead: policy.look_ahead,
        boot_timeout: Duration::from_secs(1200),
        reconnect_grace: Duration::from_secs(120),
        lease: Duration::from_secs(1800),
        max_lifetime: Duration::from_secs(24 * 3600),
        env: Vec::new(),
        notify_on_missing: Vec::new(),
        daily_budget: None,
    };
    let project = ProjectSettings { name: "app".into(), repo: "repo".to_owned() };
    let url = "https://ci.example".to_owned();
    Settings { pools: vec![pool], projects: vec![project], url, daily_budget: None }
}

fn job(work: &Work) -> JobSpec {
    JobSpec {
        name: JobName(work.name.to_owned()),
        needs: work.needs.iter().map(|name| JobName((*name).to_owned())).collect(),
        worker: None,
        env: Vec::new(),
        secrets: Vec::new(),
        checkout: false,
        keep_workspace: false,
        timeout: Duration::from_secs(24 * 3600),
        infra_retries: 0,
        concurrency: None,
        steps: Vec::new(),
    }
}

impl World<'_> {
    fn live(&mut self) {
        while self.n_done < self.n_jobs || self.machines.values().any(|m| !m.is_ending) {
            let next = self.heap.first_key_value().map(|((at, _), _)| *at);
            let due = self.it.next_timeout();
            let at = next.into_iter().chain(due).min().expect("something is always to come");
            self.now = self.now.max(at);
            // What is kept ready is kept for ever: it is billed until the last job has ended.
            if self.n_done == self.n_jobs && !self.any_ends_by_itself() {
                return self.bill_what_is_kept();
            }
            if due == Some(at) {
                self.say(Event::Tick);
            } else if let Some((_, happening)) = self.heap.pop_first() {
                self.happen(happening);
            }
        }
    }

    fn any_ends_by_itself(&self) -> bool {
        let sum = |arrival: &Arrival| arrival.jobs.iter().map(|work| work.runs).sum::<Duration>();
        let last_end = self.trace.iter().map(|arrival| arrival.at + sum(arrival)).max();
        let patience = Duration::from_secs(2 * 3600);
        self.now < self.begin + last_end.unwrap_or_default() + patience
    }

    fn bill_what_is_kept(&mut self) {
        for machine in self.machines.values().filter(|machine| !machine.is_ending) {
            self.outcome.machine(self.now.since(machine.up_since));
        }
    }

    fn at(&mut self, at: Timestamp, happening: Happening) {
        self.last += 1;
        self.heap.insert((at, self.last), happening);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrives(index) => self.arrives(index),
            Happening::Calls(worker) => self.calls(&worker),
            Happening::Ends(instance, worker) => {
                self.machines.remove(&worker);
                self.say(Event::InstanceEnded { instance, sentence: None });
            }
            Happening::Finishes(worker, attempt) => {
                self.n_done += 1;
                let outcome = AttemptOutcome::Passed;
                self.agent(AgentEvent::AttemptFinished { worker, attempt, outcome });
            }
            Happening::Beats(worker) => self.beats(worker),
        }
    }

    fn arrives(&mut self, index: usize) {
        self.last += 1;
        let request = Request::StartBuild {
            project: "app".into(),
            reference: None,
            inputs: GivenInputs::new(),
        };
        let decided = self.decide(Event::Asked(ReplyId(self.last), request));
        let change = decided.iter().find_map(|action| match action {
            Action::ResolveChange(change) => Some(change.change),
            _ => None,
        });
        let jobs = self.trace[index].jobs.iter().map(job).collect();
        let pipeline = Pipeline { jobs, ..Pipeline::default() };
        let resolved = Resolved {
            ref_name: RefName("refs/heads/main".to_owned()),
            commit: Commit("c1".to_owned()),
            subject: String::new(),
            author: String::new(),
            planned: Planned::Pipeline(pipeline),
        };
        let change = change.expect("a start is resolved at once");
        self.act_all(decided);
        self.arriving = Some(index);
        self.say(Event::ChangeResolved(change, resolved));
    }

    fn calls(&mut self, worker: &WorkerName) {
        self.last += 1;
        let (reply, connection) = (ReplyId(self.last), ConnectionId(self.last));
        let Some(machine) = self.machines.get_mut(worker).filter(|m| !m.is_ending) else { return };
        machine.connection = Some(connection);
        let hello = AgentHello {
            proof: Proof::Password,
            public_key: machine.launch.0.clone().into_bytes(),
            epoch: 1,
            instance_claim: String::new(),
            boot_id: "boot".to_owned(),
            version: "1".to_owned(),
        };
        self.agent(AgentEvent::Hello { reply, worker: worker.clone(), connection, hello });
        self.agent(AgentEvent::Inventory {
            worker: worker.clone(),
            connection,
            bootstrapped: false,
            attempts: Vec::new(),
            up: Duration::ZERO,
        });
        self.at(self.now + HEARTBEAT, Happening::Beats(worker.clone()));
    }

    fn beats(&mut self, worker: WorkerName) {
        let Some(machine) = self.machines.get(&worker).filter(|m| !m.is_ending) else { return };
        let Some(connection) = machine.connection else { return };
        self.at(self.now + HEARTBEAT, Happening::Beats(worker.clone()));
        self.agent(AgentEvent::Heartbeat { worker, connection });
    }

    fn agent(&mut self, event: AgentEvent) {
        self.say(Event::Agent(event));
    }

    fn say(&mut self, event: Event) {
        let decided = self.decide(event);
        self.act_all(decided);
    }

    fn decide(&mut self, event: Event) -> Vec<Action> {
        let Decision { perform, answers, remember } = self.it.handle(self.now, event);
        remember.into_iter().for_each(|record| self.note(record));
        for (_, answer) in answers {
            assert!(!matches!(answer, Answer::Refused(_)), "{answer:?}");
        }
        perform
    }

    fn note(&mut self, record: Record) {
        match record {
            Record::Build(build) => {
                if let Some(index) = self.arriving.take() {
                    self.builds.insert(build.id, index);
                }
            }
            Record::Job(job) => {
                self.jobs.insert(job.id, job);
            }
            Record::Attempt(attempt) => {
                self.attempts.insert(attempt.id, attempt.job);
            }
            Record::PoolForecast(pool) => {
                self.outcome.hits = pool.hits as usize;
                self.outcome.misses = pool.misses as usize;
            }
            _ => {}
        }
    }

    /// The job of an attempt, and what the trace says of it.
    fn work(&self, attempt: AttemptRef) -> (&Job, &Work) {
        let job = &self.jobs[&self.attempts[&attempt]];
        let works = &self.trace[self.builds[&job.build]].jobs;
        let work = works.iter().find(|work| work.name == job.spec.name.as_str());
        (job, work.expect("each job is of the trace"))
    }

    fn act_all(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Prepare { instance, .. } => {
                let (request, what) = (String::new(), String::new());
                let price_per_hour = None;
                self.say(Event::LaunchPrepared { instance, request, what, price_per_hour });
            }
            Action::Launch { instance, launch, worker, .. } => {
                let (up_since, connection) = (self.now + PENDING, None);
                let cloud_id = CloudId(format!("i-{instance}"));
                let id = cloud_id.clone();
                let machine = Machine { id, launch, up_since, connection, is_ending: false };
                self.machines.insert(worker.clone(), machine);
                let ready = up_since + boot(&mut self.dice);
                self.at(ready, Happening::Calls(worker));
                self.say(Event::InstanceAccepted { instance, cloud_id });
            }
            Action::Terminate { instance, launch, .. } => {
                let found = self.machines.iter_mut().find(|(_, m)| m.launch == launch);
                let Some((worker, machine)) = found.filter(|(_, m)| !m.is_ending) else { return };
                machine.is_ending = true;
                self.outcome.machine(self.now.since(machine.up_since));
                let (worker, instance) = (worker.clone(), instance.expect("it has its row"));
                self.at(self.now + SHUTTING_DOWN, Happening::Ends(instance, worker));
            }
            Action::ListInstances(pool) => {
                let machines = self.machines.values().map(|machine| Listed {
                    asked_to_end_at: None,
                    cloud_id: machine.id.clone(),
                    launch: machine.launch.clone(),
                    state: match machine.is_ending {
                        true => MachineState::Ending,
                        false => MachineState::Running,
                    },
                    started: None,
                    reason: None,
                    cause: EndCause::Unknown,
                });
                let (machines, asked_at) = (machines.collect(), self.now);
                self.say(Event::CloudListed { pool, asked_at, machines });
            }
            Action::Tell { worker, message: ToAgent::Run(spec), .. } => {
                let attempt = spec.id;
                let (job, work) = self.work(attempt);
                let waited = self.now.since(job.queued_at.expect("it waited"));
                let runs = work.runs;
                self.outcome.job(waited, runs);
                self.at(self.now + runs, Happening::Finishes(worker.clone(), attempt));
                self.agent(AgentEvent::AttemptAccepted(worker, attempt));
            }
            // No pool here keeps machines stopped.
            Action::Stop { .. }
            | Action::Start { .. }
            | Action::Tell { .. }
            | Action::ResolveChange(_)
            | Action::LoadBuild { .. }
            | Action::KeepConsole { .. }
            | Action::Equip { .. }
            | Action::Probe { .. }
            | Action::Disconnect { .. }
            | Action::Alarm(_)
            | Action::Mail { .. } => {}
        }
    }
}
