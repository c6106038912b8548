//! The master's file as it is typed. What is specified but not built stands in `LATER`: it is
//! refused, never ignored.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::runtime::config_file::decode::Later;
use crate::runtime::config_file::duration::Span;
use crate::runtime::config_file::globs::Pattern;
use crate::runtime::config_file::placed::At;

/// `busybee.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfigFile {
    pub(super) master: MasterTable,
    #[serde(default)]
    pub(super) pool: Vec<At<PoolTable>>,
    #[serde(default)]
    pub(super) project: Vec<At<ProjectTable>>,
}

/// `[master]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MasterTable {
    pub(super) url: At<String>,
    pub(super) listen: At<String>,
    pub(super) data_dir: At<String>,
    pub(super) bootstrap_dir: Option<At<String>>,
    pub(super) agent_dir: Option<At<String>>,
    pub(super) id: Option<At<String>>,
    pub(super) cert_file: Option<At<String>>,
    pub(super) key_file: Option<At<String>>,
    pub(super) ca_file: Option<At<String>>,
}

/// `[[pool]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PoolTable {
    pub(super) name: At<String>,
    pub(super) labels: Option<Vec<String>>,
    pub(super) provisioner: At<ProvisionerWord>,
    pub(super) bootstrap: Option<At<String>>,
    pub(super) max_instances: Option<At<u32>>,
    pub(super) min_idle: Option<At<u32>>,
    pub(super) jobs_per_instance: Option<u32>,
    pub(super) shared: Option<bool>,
    pub(super) reconnect_grace: Option<At<Span>>,
    pub(super) lease: Option<At<Span>>,
    pub(super) max_lifetime: Option<At<Span>>,
    pub(super) idle_timeout: Option<At<Span>>,
    pub(super) boot_timeout: Option<At<Span>>,
    pub(super) env: Option<BTreeMap<String, String>>,
    pub(super) unsafe_local: Option<bool>,
}

/// How a pool's machines come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ProvisionerWord {
    Local,
    None,
    Ec2,
}

/// `[[project]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProjectTable {
    pub(super) name: At<String>,
    pub(super) repo: At<String>,
    pub(super) branches: Option<Vec<Pattern>>,
    pub(super) tags: Option<Vec<Pattern>>,
    pub(super) poll: Option<At<Span>>,
    pub(super) ssh_key_file: Option<At<String>>,
    pub(super) known_hosts_file: Option<At<String>>,
    pub(super) token_file: Option<At<String>>,
    pub(super) hook_token_file: Option<At<String>>,
}

/// Keys that the design has and this version does not.
pub(super) const LATER: Later = &[
    ("ConfigFile", &["mail"]),
    ("MasterTable", &["agent_listen"]),
    ("PoolTable", &["ec2", "when_idle", "notify_on_missing", "master_url", "step_metadata"]),
    ("ProjectTable", &["secret_files"]),
];
