//! Where changes come from: git repositories, asked from time to time or poked.
//!
//! `git_poller` lists refs, `resolver` finds out what a change is, over the bare copies of
//! `repository`; all of them run the `git` program by `git`. Which refs are new, and which changes
//! become builds, is the domain's.

mod credential;
pub mod examine;
mod git;
mod git_message;
mod git_poller;
pub mod health;
mod recent;
mod refs;
pub mod remote;
mod repository;
mod resolver;
pub mod secret_file;
pub mod source;

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;

use tokio::sync::Notify;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::master::change_source::git_poller::Polling;
use crate::master::change_source::health::HealthBoard;
use crate::master::change_source::health::ProjectHealth;
use crate::master::change_source::recent::Recent;
use crate::master::change_source::repository::Repository;
use crate::master::change_source::source::Source;
use crate::master::domain::decision::Unresolved;
use crate::master::domain::event::Event;
use crate::master::inbox::Inbox;
use crate::model::attempt::GitCredential;
use crate::model::ids::ProjectName;
use crate::model::secret::Secret;

/// Repositories that are asked at the same time: each is a process, mostly waiting.
const LISTINGS_AT_ONCE: usize = 8;

/// Changes that are resolved at the same time: each may unpack a repository.
const FETCHES_AT_ONCE: usize = 4;

/// All repositories. Cheap to clone.
#[derive(Clone)]
pub struct ChangeSource {
    shared: Arc<Shared>,
}

struct Shared {
    projects: BTreeMap<ProjectName, Arc<Project>>,
    data_dir: PathBuf,
    inbox: Inbox,
    health: HealthBoard,
    recent: Mutex<Recent>,
    listings: Semaphore,
    fetches: Semaphore,
}

struct Project {
    repository: Repository,
    poked: Notify,
}

impl ChangeSource {
    /// The repositories of these sources. Copies of them are kept in `data_dir/git`.
    pub fn new(sources: Vec<Source>, data_dir: &Path, inbox: Inbox) -> ChangeSource {
        let project = |source: Source| {
            let name = source.project.clone();
            let repository = Repository::new(source, data_dir);
            (name, Arc::new(Project { repository, poked: Notify::new() }))
        };
        let shared = Shared {
            projects: sources.into_iter().map(project).collect(),
            data_dir: data_dir.to_owned(),
            inbox,
            health: HealthBoard::default(),
            recent: Mutex::new(Recent::default()),
            listings: Semaphore::new(LISTINGS_AT_ONCE),
            fetches: Semaphore::new(FETCHES_AT_ONCE),
        };
        ChangeSource { shared: Arc::new(shared) }
    }

    /// Polls all repositories until it is dropped, which ends every git that runs for it.
    pub async fn poll(&self) {
        let mut pollers = JoinSet::new();
        for project in self.shared.projects.values() {
            let (project, shared) = (Arc::clone(project), Arc::clone(&self.shared));
            pollers.spawn(async move {
                let Shared { inbox, health, listings: turns, .. } = &*shared;
                let polling = Polling { inbox, health, turns };
                git_poller::poll(&project.repository, &project.poked, polling).await;
            });
        }
        while pollers.join_next().await.is_some() {}
    }

    /// Asks a project's repository soon, however long its interval is. Many pokes are one.
    /// Returns whether there is such a project.
    pub fn poke(&self, project: &ProjectName) -> bool {
        let found = self.shared.projects.get(project);
        if let Some(project) = found {
            project.poked.notify_one();
        }
        found.is_some()
    }

    /// Finds out what a change is, and sends `ChangeResolved` or `ChangeUnresolved`.
    pub async fn resolve(&self, unresolved: Unresolved) {
        let event = self.resolved(unresolved).await;
        self.shared.inbox.send(event).await;
    }

    /// Finds out what a change is.
    pub async fn resolved(&self, unresolved: Unresolved) -> Event {
        let Some(project) = self.shared.projects.get(&unresolved.project) else {
            let sentence = format!(
                "there is no project \"{}\" in the master's file any more",
                unresolved.project
            );
            let change = unresolved.change;
            return Event::ChangeUnresolved { change, sentence, worth_retrying: false };
        };
        let Shared { recent, fetches, .. } = &*self.shared;
        if let Some(event) = resolver::remembered(&project.repository, recent, &unresolved) {
            return event;
        }
        let _turn = fetches.acquire().await;
        resolver::resolve(&project.repository, recent, unresolved).await
    }

    /// How it stands with each repository that was asked.
    pub fn health(&self) -> BTreeMap<ProjectName, ProjectHealth> {
        self.shared.health.all()
    }

    /// What a worker is given to fetch a commit of a project.
    ///
    /// # Errors
    /// A file that cannot be read, as a sentence.
    pub fn credential(&self, project: &ProjectName) -> Result<GitCredential, String> {
        match self.shared.projects.get(project) {
            Some(project) => {
                credential::for_worker(project.repository.source(), &self.shared.data_dir)
            }
            None => Ok(GitCredential::None),
        }
    }

    /// A secret of a project, for a job that lists it.
    ///
    /// # Errors
    /// Why there is none, as a sentence.
    pub fn secret(&self, project: &ProjectName, name: &str) -> Result<Secret<String>, String> {
        let project = self.shared.projects.get(project);
        let files = project.map(|project| &project.repository.source().secret_files);
        match files.and_then(|files| files.get(name)) {
            Some(file) => secret_file::read(file),
            None => Err(format!("the project has no secret {name} in the master's file")),
        }
    }
}
