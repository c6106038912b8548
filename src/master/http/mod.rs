//! The adapter for people and scripts: pages, the REST API, event streams, and the road's own URLs.
//!
//! It reads the store and the logs; to change something it sends the domain a `Request` and awaits
//! the answer. router.rs has every URL on one page. Who accepts connections (TLS, the one port,
//! the Unix socket) stands elsewhere and puts a [`crate::master::caller::Peer`] into each request.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::master::inbox::Inbox;
use crate::master::logs::LogStore;
use crate::master::notices::Notices;
use crate::master::store::Store;
use crate::model::ids::LaunchId;
use crate::model::ids::PoolName;
use crate::model::ids::ProjectName;
use crate::model::ids::WorkerName;
use crate::model::labels::Labels;
use crate::model::money::Money;
use crate::model::secret::Secret;

pub mod ansi;
pub mod ansi_style;
pub mod api;
pub mod assets;
pub mod auth;
pub mod convert;
pub mod costs;
pub mod error;
pub mod graph;
pub mod hooks;
pub mod links;
pub mod live;
pub mod log_choice;
pub mod log_sequence;
pub mod log_tail;
pub mod log_window;
pub mod pages;
pub mod query;
pub mod road;
pub mod router;
pub mod stream;
pub mod timeline;
pub mod words;

/// What the pages and the API must know of the master's file and its keys. `master/app.rs` fills it.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// `url` of the master's file, without a slash at its end.
    pub url: String,
    /// The hosts this master answers to: that of `url`, and what else the file names. Without
    /// ports; IPv6 addresses in brackets. Loopback names count by themselves where it listens there.
    pub host_names: Vec<String>,
    /// Whether the listen address is a loopback one.
    pub listen_is_loopback: bool,
    /// In the order of the file.
    pub projects: Vec<ProjectView>,
    /// In the order of the file.
    pub pools: Vec<PoolView>,
    /// SHA-256 of the token.
    pub token_hash: [u8; 32],
    /// For the MAC of login cookies: derived from the master's key, for this alone.
    pub cookie_key: [u8; 32],
    /// What all pools may spend in a day (UTC); nothing: no limit.
    pub daily_budget: Option<Money>,
    /// What `/schema/pipeline.v1.json` answers.
    pub pipeline_schema: String,
}

/// A project, as pages and hooks see it.
#[derive(Clone, Debug)]
pub struct ProjectView {
    /// Its name.
    pub name: ProjectName,
    /// Its repository; a password in its URL is left out where it is shown.
    pub repo: String,
    /// What its hook must bring when it does not come from loopback, besides the master's own token.
    pub hook_token: Option<Secret<String>>,
}

/// A pool, as pages see it.
#[derive(Clone, Debug)]
pub struct PoolView {
    /// Its name.
    pub name: PoolName,
    /// What its workers offer.
    pub labels: Labels,
    /// `local`, `none`.
    pub provisioner: &'static str,
    /// Never more than this.
    pub max_instances: u32,
    /// This many are kept ready without work.
    pub min_idle: u32,
    /// A worker without a job ends after this at the latest.
    pub idle_timeout: Duration,
    /// What it may spend in a day (UTC); nothing: no limit.
    pub daily_budget: Option<Money>,
    /// Whether machines are started for jobs that will wait.
    pub look_ahead: bool,
}

impl PoolView {
    /// Whether its machines are paid for by the hour.
    pub fn is_paid(&self) -> bool {
        self.provisioner == "ec2"
    }
}

/// What lies at one of the road's URLs.
#[derive(Clone, Debug)]
pub struct RoadFile {
    /// The bytes.
    pub content: Bytes,
    /// Whether this URL never means anything else: its name is its hash.
    pub immutable: bool,
}

/// Finds a file of the road by its path: `/runurl`, `/bootstrap/NAME`, `/agent/HASH`; and by the SHA-256 that it is
/// to have, if whoever asks was told one.
pub type FindRoadFile = Arc<dyn Fn(&str, Option<&str>) -> Option<RoadFile> + Send + Sync>;

/// Wakes the poller of a project; many wakings are one.
pub type Poke = Arc<dyn Fn(&ProjectName) + Send + Sync>;

/// Why a project's repository does not answer; nothing: it does, or was not asked yet.
pub type Trouble = Arc<dyn Fn(&ProjectName) -> Option<String> + Send + Sync>;

/// The `BB_…=…` lines for the agent of a worker of one's own, its password among them.
pub type WorkerEnvironment = Arc<dyn Fn(&WorkerName, &LaunchId) -> Vec<String> + Send + Sync>;

/// Everything a request can reach.
pub struct Web {
    /// Settings.
    pub config: HttpConfig,
    /// What is remembered.
    pub store: Store,
    /// Log files.
    pub logs: LogStore,
    /// The way to the domain.
    pub inbox: Inbox,
    /// What changes.
    pub notices: Notices,
    /// The road's files.
    pub road: FindRoadFile,
    /// Wakes pollers.
    pub poke: Poke,
    /// How it stands with repositories.
    pub trouble: Trouble,
    /// For `busybee worker add`.
    pub worker_environment: WorkerEnvironment,
    /// Becomes true when the master stops: streams end then, so that a drain can.
    pub stopping: watch::Receiver<bool>,
}

impl Web {
    /// A project of the master's file.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn project(&self, name: &str) -> Result<&ProjectView, error::Problem> {
        let found = self.config.projects.iter().find(|project| project.name.as_str() == name);
        found.ok_or_else(|| {
            error::Problem::not_found(format!("this master knows no project \"{name}\""))
        })
    }
}
