//! Owns builds, jobs, workers and instances; routes events to the files that know each noun.
//!
//! Pure: the caller brings the time and stores the records. One event in, one decision out.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::master::domain::changes::PendingChange;
use crate::master::domain::decision::Action;
use crate::master::domain::decision::Answer;
use crate::master::domain::decision::Decision;
use crate::master::domain::decision::Record;
use crate::master::domain::decision::Refusal;
use crate::master::domain::decision::RefusalKind;
use crate::master::domain::decision::ReplyId;
use crate::master::domain::dice::Dice;
use crate::master::domain::entities::Attempt;
use crate::master::domain::entities::Build;
use crate::master::domain::entities::Job;
use crate::master::domain::event::Event;
use crate::master::domain::groups::Groups;
use crate::master::domain::instances::LiveInstance;
use crate::master::domain::look_ahead::LookAhead;
use crate::master::domain::pool::Pool;
use crate::master::domain::requests::Loading;
use crate::master::domain::settings::Settings;
use crate::master::domain::snapshot::LastIds;
use crate::master::domain::snapshot::Snapshot;
use crate::master::domain::spending::Spending;
use crate::master::domain::timers::Timer;
use crate::master::domain::timers::Timers;
use crate::master::domain::workers::LiveWorker;
use crate::model::ids::AttemptId;
use crate::model::ids::BuildId;
use crate::model::ids::BuildNumber;
use crate::model::ids::ChangeId;
use crate::model::ids::CloudId;
use crate::model::ids::Commit;
use crate::model::ids::InstanceId;
use crate::model::ids::JobId;
use crate::model::ids::LaunchId;
use crate::model::ids::PoolName;
use crate::model::ids::ProjectName;
use crate::model::ids::RefName;
use crate::model::ids::WorkerName;
use crate::model::time::Timestamp;

/// The master's domain.
#[derive(Debug)]
pub struct Coordinator {
    pub(super) settings: Settings,
    pub(super) now: Timestamp,
    /// When this process took over: agents are given time to call again.
    pub(super) loaded_at: Timestamp,
    pub(super) dice: Dice,
    pub(super) out: Decision,
    pub(super) timers: Timers,
    pub(super) last_ids: LastIds,
    pub(super) last_numbers: BTreeMap<ProjectName, BuildNumber>,
    pub(super) refs: BTreeMap<(ProjectName, RefName), Commit>,
    pub(super) baselines: BTreeSet<ProjectName>,
    pub(super) changes: BTreeMap<ChangeId, PendingChange>,
    pub(super) builds: BTreeMap<BuildId, Build>,
    pub(super) numbers: BTreeMap<(ProjectName, BuildNumber), BuildId>,
    /// The jobs of each active build, in the order of the file.
    pub(super) jobs_of: BTreeMap<BuildId, Vec<JobId>>,
    pub(super) jobs: BTreeMap<JobId, Job>,
    /// Who of them may run only when others do not.
    pub(super) groups: Groups,
    /// Attempts that are not over.
    pub(super) attempts: BTreeMap<AttemptId, Attempt>,
    pub(super) workers: BTreeMap<WorkerName, LiveWorker>,
    pub(super) instances: BTreeMap<InstanceId, LiveInstance>,
    pub(super) pools: BTreeMap<PoolName, Pool>,
    pub(super) spending: Spending,
    pub(super) loading: BTreeMap<(ProjectName, BuildNumber), Loading>,
    /// What the durations seen so far say of jobs that wait.
    pub(super) look_ahead: LookAhead,
    /// Why nothing new begins: the master's disk is full. Not remembered, as nothing is.
    pub(super) disk_full: Option<String>,
    /// Launches whose rows were over lately, with their machines if they had any, and when: a listing may
    /// lag behind.
    pub(super) ended_lately: BTreeMap<(LaunchId, Option<CloudId>), Timestamp>,
    /// The newest row that any machine names which is in no open one.
    pub(super) newest_row_seen: u64,
    /// Pools of a ledger that begins with this process, until their machines are listed for the first time:
    /// what is there already is of an earlier ledger, which is lost.
    pub(super) never_listed: BTreeSet<PoolName>,
    /// Pools in which something changed that the scheduler must look at.
    pub(super) unsettled: BTreeSet<PoolName>,
    /// Jobs that have just begun to wait, and want a reason.
    pub(super) unexplained: BTreeSet<JobId>,
}

impl Coordinator {
    /// Takes up what was going on when the last master ended.
    pub fn load(
        settings: Settings,
        mut snapshot: Snapshot,
        now: Timestamp,
        seed: u64,
    ) -> Coordinator {
        let spending = Spending::load(&mut snapshot, now);
        let look_ahead = LookAhead::load(&settings, &mut snapshot);
        let pools = settings.pools.iter();
        let pools = pools.map(|pool| (pool.name.clone(), Pool::new(pool.clone()))).collect();
        let mut this = Coordinator {
            settings,
            now,
            loaded_at: now,
            dice: Dice::new(seed),
            out: Decision::default(),
            timers: Timers::default(),
            last_ids: snapshot.last_ids,
            last_numbers: snapshot.last_numbers,
            refs: snapshot.refs,
            baselines: snapshot.baselines.into_iter().collect(),
            changes: BTreeMap::new(),
            builds: BTreeMap::new(),
            numbers: BTreeMap::new(),
            jobs_of: BTreeMap::new(),
            jobs: BTreeMap::new(),
            groups: Groups::default(),
            attempts: BTreeMap::new(),
            workers: BTreeMap::new(),
            instances: BTreeMap::new(),
            pools,
            spending,
            loading: BTreeMap::new(),
            look_ahead,
            disk_full: None,
            ended_lately: BTreeMap::new(),
            newest_row_seen: 0,
            never_listed: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            unexplained: BTreeSet::new(),
        };
        this.take_up_boots(&snapshot.ended_instances, &snapshot.instances);
        snapshot.ended_instances.iter().for_each(|instance| this.note_ended(instance));
        for pool in snapshot.pools {
            if let Some(known) = this.pools.get_mut(&pool.name) {
                known.state = pool;
            }
        }
        for change in snapshot.changes {
            this.take_up_change(change);
        }
        for attempt in snapshot.attempts {
            this.attempts.insert(attempt.id.attempt, attempt);
        }
        for build in snapshot.builds {
            let id = build.id;
            this.numbers.insert((build.project.clone(), build.number), id);
            this.builds.insert(id, build);
            this.keep_build_in_line(id);
        }
        for job in snapshot.jobs {
            this.take_up_job(job);
        }
        for instance in snapshot.instances {
            this.take_up_instance(instance);
        }
        for worker in snapshot.workers {
            this.take_up_worker(worker);
        }
        this.take_up_pools();
        let builds: Vec<BuildId> = this.builds.keys().copied().collect();
        builds.into_iter().for_each(|build| this.foresee(build));
        this
    }

    /// Answers one event. Reads no clock, does no I/O, cannot fail.
    pub fn handle(&mut self, now: Timestamp, event: Event) -> Decision {
        self.now = now;
        self.fire_timers();
        match event {
            Event::Tick => {}
            Event::DiskFull(sentence) => self.disk_is_full(Some(sentence)),
            Event::DiskHasRoom => self.disk_is_full(None),
            // The next listing says the same.
            Event::RefsListed { .. } if self.disk_full.is_some() => {}
            Event::RefsListed { project, refs } => self.refs_listed(&project, refs),
            Event::ChangeResolved(change, resolved) => self.change_resolved(change, resolved),
            Event::ChangeUnresolved { change, sentence, worth_retrying } => {
                self.change_unresolved(change, sentence, worth_retrying);
            }
            Event::Asked(reply, request) => self.asked(reply, request),
            Event::BuildLoaded { project, number, found } => {
                self.build_loaded(project, number, found);
            }
            Event::InstanceAccepted { instance, cloud_id } => {
                self.instance_accepted(instance, cloud_id);
            }
            Event::LaunchPrepared { instance, request, what, price_per_hour } => {
                self.launch_prepared(instance, request, what, price_per_hour);
            }
            Event::LaunchFailed { instance, sentence, failure } => {
                self.launch_failed(instance, &sentence, failure);
            }
            Event::InstanceEquipped { instance } => self.instance_equipped(instance),
            Event::EquipFailed { instance, sentence, failure } => {
                self.equip_failed(instance, &sentence, failure);
            }
            Event::StopFailed { instance, sentence } => self.stop_failed(instance, &sentence),
            Event::InstanceEnded { instance, sentence } => {
                self.instance_ended(instance, sentence.as_deref());
            }
            Event::CloudListed { pool, asked_at, machines } => {
                self.cloud_listed(&pool, asked_at, &machines);
            }
            Event::RequestsOpen { pool, launches } => self.requests_open(&pool, launches),
            Event::CloudUnlisted { pool, sentence } => self.cloud_unlisted(&pool, sentence),
            Event::EndRefused { instance, sentence } => self.end_refused(instance, &sentence),
            Event::Probed { pool, failure } => self.probed(&pool, failure),
            Event::Agent(event) => self.agent(event),
        }
        self.settle();
        std::mem::take(&mut self.out)
    }

    /// When `handle(.., Tick)` has something to do.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        self.timers.next()
    }

    fn fire_timers(&mut self) {
        while let Some(timer) = self.timers.take_due(self.now) {
            match timer {
                Timer::Boot(worker) => self.boot_timed_out(&worker),
                Timer::Lifetime(worker) => self.lifetime_over(&worker),
                Timer::Idle(pool) => self.end_idle(&pool),
                Timer::Silence(worker) => self.look_for_silence(&worker),
                Timer::Lost(worker) => self.worker_lost(&worker),
                Timer::LeaseOver(worker) => self.lease_over(&worker),
                Timer::Overdue(attempt) => self.attempt_overdue(attempt),
                Timer::Settle(instance) => self.launch_again(instance),
                Timer::Equip(instance) => self.equip(instance),
                Timer::Terminate(instance) => self.terminate_again(instance),
                Timer::Taken(worker) => self.taken_soon(&worker),
                Timer::Stop(instance) => self.stop_again(instance),
                Timer::StoppedTooLong(instance) => self.stopped_too_long(instance),
                Timer::Listing(pool) => self.list_instances(&pool),
                Timer::Launch(pool) | Timer::LookAhead(pool) | Timer::Tell(pool) => {
                    self.unsettled.insert(pool);
                }
                Timer::Probe(pool) => self.probe(&pool),
                Timer::Budget => self.look_at_budgets(),
                Timer::Change(change) => self.look_again_at_change(change),
            }
        }
    }

    pub(super) fn remember(&mut self, record: Record) {
        self.out.remember.push(record);
    }

    pub(super) fn perform(&mut self, action: Action) {
        self.out.perform.push(action);
    }

    pub(super) fn answer(&mut self, reply: ReplyId, answer: Answer) {
        self.out.answers.push((reply, answer));
    }

    pub(super) fn refuse(&mut self, reply: ReplyId, kind: RefusalKind, sentence: String) {
        self.answer(reply, Answer::Refused(Refusal { kind, sentence }));
    }

    /// What must hold after every event.
    ///
    /// # Panics
    /// When it does not: that is a mistake of ours.
    pub fn check_invariants(&self) {
        for (name, live) in &self.workers {
            let Some(attempt) = live.worker.attempt else { continue };
            let known = self.attempts.get(&attempt.attempt);
            let known = known.unwrap_or_else(|| panic!("{name} has {attempt:?}, which is over"));
            assert_eq!(&known.worker, name, "an attempt and its worker name each other");
            assert_eq!(known.id, attempt, "with one fence");
        }
        for attempt in self.attempts.values() {
            let job = self.jobs.get(&attempt.job).expect("an attempt that is not over has its job");
            assert_eq!(job.attempt, Some(attempt.id.attempt), "a job has one attempt at a time");
            assert_eq!(job.fence, attempt.id.fence, "and the newest fence");
        }
        self.groups.check_invariants(&self.builds, &self.jobs);
        let mut homed = BTreeSet::new();
        for (name, pool) in &self.pools {
            for job in &pool.homed {
                assert!(homed.insert(job), "one pool starts machines for {job}");
            }
            let asked: usize = pool.askers.values().map(BTreeSet::len).sum();
            assert_eq!(asked, pool.homed.len(), "each of {name}'s jobs is asked for once");
            let counted = self
                .instances
                .values()
                .filter(|live| &live.instance.pool == name && live.instance.status.may_run());
            assert_eq!(pool.alive as usize, counted.count(), "every machine of {name} is counted");
            let rows = self.instances.values().map(|live| &live.instance);
            let mut seats: Vec<u32> =
                rows.filter(|row| &row.pool == name).filter_map(|row| row.seat).collect();
            let taken = seats.len();
            seats.sort_unstable();
            seats.dedup();
            assert_eq!(seats.len(), taken, "no two machines of {name} have one seat");
            for worker in pool.idle.names() {
                let live = self.workers.get(worker).expect("an idle worker is a worker");
                assert!(live.worker.attempt.is_none(), "{worker} is idle and has an attempt");
            }
        }
    }
}
