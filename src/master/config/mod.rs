//! The master's file, `busybee.toml`: read whole, before anything is bound or written.
//!
//! `typed` has the keys; `meaning`, `pool` and `project` fill defaults in and check.

mod ami;
pub mod bootstrap;
mod disks;
mod ec2;
mod mail;
mod meaning;
mod money;
mod network;
mod placement;
mod pool;
mod project;
mod stopping;
mod typed;
mod user_data_files;

use std::fs::File;
use std::io::ErrorKind;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;

use crate::master::change_source::source::Source;
use crate::master::config::bootstrap::Bootstrap;
use crate::master::config::meaning::Meaning;
use crate::master::config::typed::ConfigFile;
use crate::master::domain::settings::PoolSettings;
use crate::master::domain::settings::ProjectSettings;
use crate::master::domain::settings::Settings;
use crate::master::mail::settings::MailSettings;
use crate::master::provisioner::ec2::settings::Ec2Settings;
use crate::master::user_data::parts::Part;
use crate::model::ids::ProjectName;
use crate::model::money::Money;
use crate::runtime::config_file::decode;
use crate::runtime::config_file::problem::Problem;
use crate::runtime::config_file::problem::Problems;
use crate::runtime::config_file::toml_reader;

/// The file, at most: a slip such as naming a disk is told, not read.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Everything the master's file says.
#[derive(Clone, Debug)]
pub struct Config {
    /// The master itself.
    pub master: MasterConfig,
    /// How people are told; nothing: they are not.
    pub mail: Option<MailSettings>,
    /// In the order of the file.
    pub pools: Vec<PoolConfig>,
    /// In the order of the file.
    pub projects: Vec<ProjectConfig>,
    /// What works, but is probably not meant.
    pub warnings: Problems,
}

/// The master itself.
#[derive(Clone, Debug)]
pub struct MasterConfig {
    /// What instances and people use, without a slash at its end.
    pub url: String,
    /// Where the one port is.
    pub listen: SocketAddr,
    /// Everything that the master keeps.
    pub data_dir: PathBuf,
    /// Bootstrap scripts; nothing: the ones that come with it.
    pub bootstrap_dir: Option<PathBuf>,
    /// Agents for other machines, beside those next to the master's executable.
    pub agent_dir: Option<PathBuf>,
    /// The name by which this master's instances are known; nothing: made at first start.
    pub id: Option<String>,
    /// What all pools may spend in a day (UTC); nothing: no limit.
    pub daily_budget: Option<Money>,
    /// A certificate for the port; nothing: one of the master's own CA.
    pub certificate: Option<CertificateFiles>,
}

/// A certificate that somebody else issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and its chain, PEM.
    pub cert_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// The CA that instances should trust, PEM; nothing: what their system trusts.
    pub ca_file: Option<PathBuf>,
}

/// A pool.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// What the domain must know of it.
    pub settings: PoolSettings,
    /// What makes a worker of a bare machine.
    pub bootstrap: Option<Bootstrap>,
    /// How its instances are asked for; only and always with the provisioner `ec2`.
    pub ec2: Option<Ec2Settings>,
    /// What its instances are told besides, behind ours.
    pub user_data: Vec<Part>,
    /// Whether steps on its instances may reach the metadata service, with the instance's rights.
    pub step_metadata: bool,
}

/// A project.
#[derive(Clone, Debug)]
pub struct ProjectConfig {
    /// Where its changes come from.
    pub source: Source,
    /// The token that a hook must bring when it is not from this machine.
    pub hook_token_file: Option<PathBuf>,
}

impl PoolConfig {
    /// What a budget cannot count of this pool, as its price is not known, and what to do.
    pub fn unpriced(&self) -> Option<(String, String)> {
        money::unpriced(self.ec2.as_ref()?)
    }
}

impl Config {
    /// Reads a file. Paths in it count from where it stands.
    ///
    /// # Errors
    /// Everything that is wrong with it, for people.
    pub fn load(path: &Path) -> Result<Config, Problems> {
        let name = path.display().to_string();
        let whole = |what: String, hint: &str| Problems::whole_file(&name, what, hint);
        let cannot = |error: std::io::Error| {
            let hint = match error.kind() {
                ErrorKind::NotFound => "`busybee init` writes one to begin with",
                ErrorKind::IsADirectory => "name the file in it",
                _ => "may this user read it?",
            };
            whole(format!("cannot be read: {error}"), hint)
        };
        // No more than that, whatever is behind the name: a device says it has no bytes.
        let mut bytes = Vec::new();
        let open = File::open(path).map_err(cannot)?;
        open.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(whole(
                format!("has more than {FILE_BYTES_MAX} bytes"),
                "is it the right file?",
            ));
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| whole("is no UTF-8 text".to_owned(), "is it the right file?"))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        Config::parse(&text, &name, &folder)
    }

    /// Reads the text of a file that is called `name` and stands in `folder`.
    ///
    /// # Errors
    /// Everything that is wrong with it, for people.
    pub fn parse(text: &str, name: &str, folder: &Path) -> Result<Config, Problems> {
        let mut document =
            toml_reader::read(text).map_err(|problems| Problems::new(name, text, problems))?;
        let file = decode::decode::<ConfigFile>(&mut document, typed::LATER);
        let mut warnings: Vec<Problem> = Vec::new();
        let config = file.and_then(|file| meaning::of(&mut document, &mut warnings, file, folder));
        let problems = document.into_problems();
        match config {
            Some(Meaning { master, mail, pools, projects }) if problems.is_empty() => {
                let warnings = Problems::new(name, text, warnings);
                Ok(Config { master, mail, pools, projects, warnings })
            }
            _ => Err(Problems::new(name, text, problems)),
        }
    }

    /// What the domain must know of it.
    pub fn settings(&self) -> Settings {
        let project = |project: &ProjectConfig| ProjectSettings {
            name: project.source.project.clone(),
            repo: project.source.remote.as_str().to_owned(),
        };
        Settings {
            pools: self.pools.iter().map(|pool| pool.settings.clone()).collect(),
            projects: self.projects.iter().map(project).collect(),
            url: self.master.url.clone(),
            daily_budget: self.master.daily_budget,
        }
    }

    /// Where the changes of all projects come from.
    pub fn sources(&self) -> Vec<Source> {
        self.projects.iter().map(|project| project.source.clone()).collect()
    }

    /// A project's part of the file.
    pub fn project(&self, name: &ProjectName) -> Option<&ProjectConfig> {
        self.projects.iter().find(|project| project.source.project == *name)
    }
}

/// The JSON Schema of the master's file, for editors, and for the test of the example.
pub fn schema() -> serde_json::Value {
    let settings = schemars::generate::SchemaSettings::draft07();
    settings.into_generator().into_root_schema_for::<ConfigFile>().to_value()
}

#[cfg(test)]
mod contradiction_tests;
#[cfg(test)]
mod instance_tests;
#[cfg(test)]
mod tests;
