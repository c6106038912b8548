//! One project as its changes are looked for. `config` makes these.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::master::change_source::remote::Remote;
use crate::model::ids::ProjectName;
use crate::model::ids::RefName;
use crate::runtime::config_file::globs;
use crate::runtime::config_file::globs::Pattern;

/// A project, its repository, and what of it is watched.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name.
    pub project: ProjectName,
    /// Its repository.
    pub remote: Remote,
    /// Branches that are watched.
    pub branches: Vec<Pattern>,
    /// Tags that are watched.
    pub tags: Vec<Pattern>,
    /// How often it is asked.
    pub poll: Duration,
    /// How the master proves to it who it is.
    pub credential: CredentialFiles,
    /// The files with the secrets that its jobs may list, by the names of their variables.
    pub secret_files: BTreeMap<String, PathBuf>,
}

/// How git proves who it is: files, so that no secret stands in the master's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialFiles {
    /// A public repository.
    None,
    /// A file with a token, for http(s).
    Token(PathBuf),
    /// For ssh.
    SshKey {
        /// An OpenSSH private key; nothing: the keys of the master's own user.
        key_file: Option<PathBuf>,
        /// The hosts to trust; nothing: each host's first key is kept in `data_dir`.
        known_hosts_file: Option<PathBuf>,
    },
}

impl Source {
    /// Whether a ref is watched.
    pub fn watches(&self, ref_name: &RefName) -> bool {
        match (ref_name.branch(), ref_name.tag()) {
            (Some(branch), _) => globs::any_matches(&self.branches, branch),
            (None, Some(tag)) => globs::any_matches(&self.tags, tag),
            (None, None) => false,
        }
    }
}
