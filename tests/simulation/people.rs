//! People and their repositories: pushes, builds asked for, and everything a person may press.

use std::collections::BTreeMap;
use std::time::Duration;

use busybee::master::domain::decision::Answer;
use busybee::master::domain::decision::Unresolved;
use busybee::master::domain::decision::Wanted;
use busybee::master::domain::event::Event;
use busybee::master::domain::event::LoadedBuild;
use busybee::master::domain::event::Request;
use busybee::master::domain::event::Resolved;
use busybee::master::domain::pipeline::Concurrency;
use busybee::master::domain::pipeline::JobSpec;
use busybee::master::domain::pipeline::OnNew;
use busybee::master::domain::pipeline::Pipeline;
use busybee::master::domain::pipeline::Planned;
use busybee::model::ids::BuildNumber;
use busybee::model::ids::Commit;
use busybee::model::ids::ProjectName;
use busybee::model::ids::RefName;
use busybee::model::inputs::GivenInputs;
use busybee::model::status::WorkerStatus;
use busybee::model::step::RunsAfter;
use busybee::model::step::Shell;
use busybee::model::step::StepSpec;

use crate::hosts::HostStep;
use crate::master::MasterStep;
use crate::world::Happening;
use crate::world::World;

/// How many builds are made in a history, about.
const PUSHES_MAX: u64 = 14;

/// What a commit's file says.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) subject: String,
    pub(crate) planned: Planned,
}

impl Plan {
    /// Whether a push of it is left out.
    pub(crate) fn is_left_out(&self) -> bool {
        self.subject.contains("[skip ci]") || matches!(self.planned, Planned::NotTriggered(_))
    }
}

#[derive(Debug, Default)]
pub(crate) struct People {
    pub(crate) heads: BTreeMap<(ProjectName, RefName), Commit>,
    pub(crate) plans: BTreeMap<Commit, Plan>,
    /// Builds that somebody cancelled.
    pub(crate) cancelled: std::collections::BTreeSet<(ProjectName, BuildNumber)>,
    n_pushes: u64,
    n_own: u64,
}

pub(crate) enum PeopleStep {
    Push,
    Poll(ProjectName),
    Ask,
    /// Somebody looks after the pools, and resumes what has paused.
    LookAfter,
}

impl World {
    pub(crate) fn people_arrive(&mut self) {
        for project in ["app", "lib"].map(ProjectName::from) {
            let commit = self.fresh_commit();
            self.people.heads.insert((project.clone(), "refs/heads/main".into()), commit);
            self.later(100, Happening::People(PeopleStep::Poll(project)));
        }
        self.look_after_own_machines();
        self.later(30_000, Happening::People(PeopleStep::Push));
        self.later(60_000, Happening::People(PeopleStep::Ask));
        self.later(600_000, Happening::People(PeopleStep::LookAfter));
    }

    fn ask(&mut self, request: Request) {
        self.later(10, self.master.step(MasterStep::Asked(request)));
    }

    pub(crate) fn people_step(&mut self, step: PeopleStep) {
        match step {
            PeopleStep::Push => {
                let n_lines = 1 + self.random(2);
                (0..n_lines).for_each(|_| self.push());
                if self.faults && self.people.n_pushes < PUSHES_MAX {
                    let next = 20_000 + self.random(400_000);
                    self.later(next, Happening::People(PeopleStep::Push));
                }
            }
            PeopleStep::Poll(project) => {
                let heads = self.people.heads.iter().filter(|((of, _), _)| *of == project);
                let refs =
                    heads.map(|((_, name), commit)| (name.clone(), commit.clone())).collect();
                self.tell_master(20, Event::RefsListed { project: project.clone(), refs });
                let next = if self.faults { 45_000 } else { 300_000 };
                self.later(next, Happening::People(PeopleStep::Poll(project)));
            }
            PeopleStep::Ask => {
                if self.faults {
                    self.press_something();
                    let next = 10_000 + self.random(240_000);
                    self.later(next, Happening::People(PeopleStep::Ask));
                }
            }
            PeopleStep::LookAfter => {
                for pool in ["cloud", "big"] {
                    self.ask(Request::ResumePool(pool.into()));
                }
                self.look_after_own_machines();
                self.later(600_000, Happening::People(PeopleStep::LookAfter));
            }
        }
    }

    /// Two machines of one's own are kept; whose agent has ended for good, or whose password was
    /// never told because the master died, is given up.
    fn look_after_own_machines(&mut self) {
        let of_own = self.disk.workers.values().filter(|worker| worker.pool.as_str() == "own");
        let own: Vec<_> = of_own.map(|worker| (worker.name.clone(), worker.status)).collect();
        let mut missing: usize = 2;
        for (name, status) in own {
            let is_there = self.hosts.get(&name).is_some_and(|host| !host.is_off);
            match (status == WorkerStatus::Gone, is_there) {
                (true, _) => {
                    self.host_ends(&name);
                }
                (false, true) => missing = missing.saturating_sub(1),
                (false, false) => self.ask(Request::StopWorker(name)),
            }
        }
        for _ in 0..missing {
            self.people.n_own += 1;
            let name = format!("mac-{}", self.people.n_own);
            self.ask(Request::AddWorker(name.as_str().into(), "own".into()));
        }
    }

    fn push(&mut self) {
        self.people.n_pushes += 1;
        let project: ProjectName = ["app", "lib"][self.random(2) as usize].into();
        let name: RefName =
            ["refs/heads/main", "refs/heads/next", "refs/tags/v1"][self.random(3) as usize].into();
        let key = (project, name);
        if self.random(6) == 0 && self.people.heads.remove(&key).is_some() {
            return; // Deleted.
        }
        let commit = self.fresh_commit();
        self.people.heads.insert(key, commit);
    }

    fn press_something(&mut self) {
        let mut builds: Vec<(ProjectName, BuildNumber)> =
            self.disk.builds.values().map(|build| (build.project.clone(), build.number)).collect();
        let pick = self.random(builds.len() as u64) as usize;
        let build = (!builds.is_empty()).then(|| builds.swap_remove(pick));
        let mut workers: Vec<_> = self.hosts.keys().cloned().collect();
        workers.retain(|name| !name.as_str().starts_with("mac"));
        let pick = self.random(workers.len() as u64) as usize;
        let worker = workers.get(pick).cloned();
        let pool = ["cloud", "big", "own"][self.random(3) as usize];
        match (self.random(12), build, worker) {
            (0..=2, _, _) => {
                let project = ["app", "lib", "nothing"][self.random(3) as usize].into();
                self.ask(Request::StartBuild {
                    project,
                    reference: None,
                    inputs: GivenInputs::new(),
                });
            }
            (3..=4, Some((project, number)), _) => {
                self.people.cancelled.insert((project.clone(), number));
                self.ask(Request::CancelBuild(project, number));
            }
            (5..=7, Some((project, number)), _) => {
                let failed_only = self.random(2) == 0;
                self.ask(Request::RetryBuild { project, number, failed_only });
            }
            (8, _, Some(worker)) => self.ask(Request::DrainWorker(worker)),
            (9, _, Some(worker)) => self.ask(Request::StopWorker(worker)),
            (10, _, _) => self.ask(Request::PausePool(pool.into())),
            (_, _, _) => self.ask(Request::ResumePool(pool.into())),
        }
    }

    pub(crate) fn answer_person(&mut self, answer: &Answer) {
        if let Answer::WorkerAdded(name, launch) = answer {
            self.new_host(name, &"own".into(), launch, String::new());
            let starts = self.random(300_000);
            self.later(starts, Happening::Host(name.clone(), HostStep::Starts));
        }
    }

    /// The repository is asked what a change is.
    pub(crate) fn resolve(&mut self, change: Unresolved) {
        let takes = 100 + self.random(5_000);
        if self.fault("repository down", 200) {
            let (change, sentence) = (change.change, "the repository is down".to_owned());
            let worth_retrying = true;
            return self
                .tell_master(takes, Event::ChangeUnresolved { change, sentence, worth_retrying });
        }
        let (ref_name, commit) = match change.wanted {
            Wanted::Push { ref_name, commit } => (ref_name, commit),
            Wanted::Manual { .. } => {
                let commit = self.fresh_commit();
                ("refs/heads/main".into(), commit)
            }
        };
        let plan = self.people.plans.get(&commit).expect("every commit has a plan").clone();
        let resolved = Resolved {
            ref_name,
            commit,
            subject: plan.subject,
            author: "Ada <ada@example.com>".to_owned(),
            planned: plan.planned,
        };
        let event = Event::ChangeResolved(change.change, resolved);
        if self.fault("resolved twice", 100) {
            self.tell_master(takes + 700, event.clone());
        }
        self.tell_master(takes, event);
    }

    pub(crate) fn load_build(&mut self, project: ProjectName, number: BuildNumber) {
        let mut builds = self.disk.builds.values();
        let build = builds.find(|build| build.project == project && build.number == number);
        let found = build.cloned().map(|build| {
            let jobs = self.disk.jobs_of(build.id);
            Box::new(LoadedBuild { build, jobs })
        });
        self.tell_master(5, Event::BuildLoaded { project, number, found });
    }

    fn fresh_commit(&mut self) -> Commit {
        let commit = Commit(format!("{:040x}", self.people.plans.len() + 1));
        let subject = if self.random(12) == 0 { "tidy [skip ci]" } else { "work" };
        let planned = match self.random(12) {
            0 => Planned::NotTriggered("its triggers leave it out".to_owned()),
            1 => Planned::Broken("line 3: no such key".to_owned()),
            _ => Planned::Pipeline(self.draw_pipeline()),
        };
        let plan = Plan { subject: subject.to_owned(), planned };
        self.people.plans.insert(commit.clone(), plan);
        commit
    }

    fn draw_pipeline(&mut self) -> Pipeline {
        let mut jobs: Vec<JobSpec> = Vec::new();
        for index in 0..1 + self.random(4) {
            let mut needs = Vec::new();
            for job in &jobs {
                if self.random(3) == 0 {
                    needs.push(job.name.clone());
                }
            }
            let labels: Option<&[&str]> = match self.random(8) {
                0..=1 => None,
                2..=3 => Some(&["linux"]),
                4..=5 => Some(&["big"]),
                _ => Some(&["mac"]),
            };
            let always = RunsAfter { success: true, failure: true, cancel: true };
            let mut steps = Vec::new();
            for number in 0..1 + self.random(3) {
                let has_timeout = self.random(3) == 0;
                steps.push(StepSpec {
                    name: format!("step {number}"),
                    run: "make test".to_owned(),
                    shell: Shell::Sh,
                    env: Vec::new(),
                    timeout: has_timeout.then(|| Duration::from_secs(60)),
                    when: if number > 0 && self.random(2) == 0 {
                        always
                    } else {
                        RunsAfter::SUCCESS
                    },
                });
            }
            jobs.push(JobSpec {
                name: format!("job-{index}").as_str().into(),
                needs,
                worker: labels.map(|labels| labels.iter().copied().collect()),
                env: Vec::new(),
                secrets: Vec::new(),
                checkout: self.random(2) == 0,
                keep_workspace: false,
                timeout: Duration::from_secs(900),
                infra_retries: self.random(3) as u32,
                concurrency: self.draw_group(6),
                steps,
            });
        }
        Pipeline { concurrency: self.draw_group(4), jobs, ..Pipeline::default() }
    }

    /// One of so many is in a concurrency group.
    fn draw_group(&mut self, one_of: u64) -> Option<Concurrency> {
        if self.random(one_of) > 0 {
            return None;
        }
        let group = ["deploy", "docs"][self.random(2) as usize].to_owned();
        let limit = 1 + self.random(2) as u32;
        let on_new = match self.random(4) {
            0 => OnNew::Cancel,
            1 => OnNew::Skip,
            _ => OnNew::Queue,
        };
        Some(Concurrency { group, limit, on_new })
    }
}
