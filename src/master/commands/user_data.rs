//! `busybee user-data POOL`: what an instance would get, for people to read.

use std::path::Path;

use anyhow::Context;

use crate::master::app;
use crate::master::config::Config;
use crate::master::keys::Keys;
use crate::master::launch_facts::LaunchFacts;
use crate::master::road_files::RoadFiles;
use crate::model::ids::PoolName;
use crate::model::secret::Secret;

/// What stands in place of the authority of a master that has not been started yet.
const NO_AUTHORITY: &str = "(the master's certificate authority, made at its first start)";

/// A script that nobody runs: to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserDataToRead {
    /// The pool whose instances would get it.
    pub pool: String,
    /// What they would get, its secret masked.
    pub text: String,
}

impl UserDataToRead {
    /// The same as one JSON document.
    pub fn json(&self) -> String {
        serde_json::json!({ "pool": self.pool, "user_data": self.text }).to_string()
    }
}

/// The script, with its secret masked. Nothing is made or written: the master need not have been
/// started yet.
///
/// # Errors
/// The file is wrong, has no such pool, or names files that cannot be read; for people.
pub fn user_data(file: &Path, pool: &str) -> Result<UserDataToRead, String> {
    let config = Config::load(file).map_err(|problems| {
        // On lines of their own, so that an editor finds the places.
        format!("the master's file is wrong:\n{problems}")
    })?;
    let names: Vec<&str> = config.pools.iter().map(|pool| pool.settings.name.as_str()).collect();
    let known = match names.as_slice() {
        [] => "it has none".to_owned(),
        some => format!("it has {}", some.join(", ")),
    };
    let facts = facts(&config).map_err(|error| format!("failed to {error:#}"))?;
    facts
        .user_data_to_read(&PoolName::from(pool))
        .map(|text| UserDataToRead { pool: pool.to_owned(), text })
        .ok_or_else(|| format!("{} has no pool \"{pool}\": {known}", file.display()))
}

/// What launches are made of, without any secret.
pub(super) fn facts(config: &Config) -> anyhow::Result<LaunchFacts> {
    let program = std::env::current_exe().context("find busybee's own program")?;
    let bootstrap_dir = config.master.bootstrap_dir.clone();
    let road = RoadFiles::load(&program, config.master.agent_dir.as_deref(), bootstrap_dir)?;
    // The password is masked, so any keys do; the master's own stay where they are.
    let keys = Keys { master: Secret::new([0; 32]), channel_seed: Secret::new([0; 32]) };
    Ok(LaunchFacts::new(config, keys, authority(config)?, road))
}

/// The authority that instances are told to trust, or will be; nothing: their system's.
fn authority(config: &Config) -> anyhow::Result<Option<String>> {
    let own = config.master.data_dir.join(app::CA_FILE);
    match config.master.certificate {
        None if !own.exists() => Ok(Some(NO_AUTHORITY.to_owned())),
        _ => authority_if_made(config),
    }
}

/// The authority that instances are told to trust; nothing: their system's.
///
/// # Errors
/// It cannot be read, or the master has not made it yet.
pub(super) fn authority_if_made(config: &Config) -> anyhow::Result<Option<String>> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
    };
    match &config.master.certificate {
        Some(files) => files.ca_file.as_deref().map(read).transpose(),
        None => Ok(Some(read(&config.master.data_dir.join(app::CA_FILE))?)),
    }
}
