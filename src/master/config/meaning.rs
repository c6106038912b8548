//! What the master's file means: defaults filled in, values and their neighbours checked.

use std::path::PathBuf;
use std::time::Duration;

use crate::master::config::CertificateFiles;
use crate::master::config::Config;
use crate::master::config::PoolConfig;
use crate::master::config::ProjectConfig;
use crate::master::config::typed::ConfigFile;
use crate::master::config::typed::MasterTable;
use crate::master::config::typed::PoolTable;
use crate::master::config::typed::ProjectTable;
use crate::master::config::typed::ProvisionerWord;
use crate::master::domain::settings::PoolSettings;
use crate::master::domain::settings::ProvisionerKind;
use crate::model::ids::PoolName;
use crate::model::ids::ProjectName;
use crate::model::labels::Labels;
use crate::runtime::config_file::duration::Span;
use crate::runtime::config_file::globs::Pattern;
use crate::runtime::config_file::node::Document;
use crate::runtime::config_file::placed::At;
use crate::runtime::config_file::problem::Problem;

/// More machines than this at once is a slip of the finger, until somebody says otherwise.
const MAX_INSTANCES_DEFAULT: u32 = 10;

/// A repository is not asked more often than this.
const POLL_MIN: Duration = Duration::from_secs(1);

/// What the file means; what is wrong is reported to the document.
pub(super) fn of(document: &mut Document, file: ConfigFile) -> Option<Config> {
    let mut checks = Checks { document };
    let listen = checks.listen(&file.master.listen);
    let url = checks.url(&file.master.url);
    let certificate = checks.certificate(&file.master);
    let mut pools: Vec<PoolConfig> = Vec::new();
    for table in file.pool {
        let name = table.value.name.clone();
        if let Some(pool) = checks.pool(table.value) {
            if pools.iter().any(|known| known.settings.name == pool.settings.name) {
                let what = format!("there is a pool \"{}\" already", name.value);
                checks.wrong(&name, what, "give each pool a name of its own");
            }
            pools.push(pool);
        }
    }
    let mut projects: Vec<ProjectConfig> = Vec::new();
    for table in file.project {
        let name = table.value.name.clone();
        if let Some(project) = checks.project(table.value) {
            if projects.iter().any(|known| known.name == project.name) {
                let what = format!("there is a project \"{}\" already", name.value);
                checks.wrong(&name, what, "give each project a name of its own");
            }
            projects.push(project);
        }
    }
    let path = |text: At<String>| PathBuf::from(text.value);
    Some(Config {
        url: url?,
        listen: listen?,
        data_dir: PathBuf::from(file.master.data_dir.value),
        bootstrap_dir: file.master.bootstrap_dir.map(path),
        agent_dir: file.master.agent_dir.map(path),
        id: file.master.id.map(|id| id.value),
        certificate,
        pools,
        projects,
    })
}

struct Checks<'a> {
    document: &'a mut Document,
}

impl Checks<'_> {
    fn wrong<T>(&mut self, at: &At<T>, what: impl Into<String>, hint: impl Into<String>) {
        let place = self.document.place(at.id);
        self.document.report(Problem::new(place, what).hint(hint));
    }

    fn listen(&mut self, text: &At<String>) -> Option<std::net::SocketAddr> {
        let parsed = text.value.parse().ok();
        if parsed.is_none() {
            let what = format!("\"{}\" is not an address with a port", text.value);
            self.wrong(text, what, "write \"0.0.0.0:8443\" or \"[::]:8443\" for every address");
        }
        parsed
    }

    fn url(&mut self, text: &At<String>) -> Option<String> {
        let url = text.value.trim_end_matches('/');
        let rest = url.strip_prefix("https://").unwrap_or_default();
        let is_plain = !rest.is_empty() && !rest.contains(['/', '?', '#', '@', ' ']);
        if is_plain && !super::host_of(url).is_empty() {
            return Some(url.to_owned());
        }
        let what = format!("\"{}\" is not the https URL of a host", text.value);
        self.wrong(text, what, "write \"https://HOST:PORT\": what instances and people will use");
        None
    }

    fn certificate(&mut self, master: &MasterTable) -> Option<CertificateFiles> {
        match (&master.cert_file, &master.key_file) {
            (Some(certificate), Some(key)) => Some(CertificateFiles {
                certificate: PathBuf::from(&certificate.value),
                key: PathBuf::from(&key.value),
                ca: master.ca_file.as_ref().map(|file| PathBuf::from(&file.value)),
            }),
            (None, None) => {
                if let Some(ca) = &master.ca_file {
                    let hint = "give cert_file and key_file too, or leave all three out";
                    self.wrong(ca, "ca_file belongs to a certificate of your own", hint);
                }
                None
            }
            (Some(one), None) => {
                self.wrong(one, "cert_file needs key_file", "give both, or neither");
                None
            }
            (None, Some(one)) => {
                self.wrong(one, "key_file needs cert_file", "give both, or neither");
                None
            }
        }
    }

    /// A name that stands in URLs, file names and worker names.
    fn name(&mut self, name: &At<String>, what: &str) {
        let is_ours = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        let text = &name.value;
        let is_good = (1..=40).contains(&text.len())
            && text.chars().all(is_ours)
            && text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !is_good {
            let hint = "use a-z, 0-9, -, _ and ., at most 40 of them, a letter or digit first";
            self.wrong(name, format!("\"{text}\" cannot be the name of a {what}"), hint);
        }
    }

    fn pool(&mut self, table: PoolTable) -> Option<PoolConfig> {
        self.name(&table.name, "pool");
        let provisioner = match table.provisioner.value {
            ProvisionerWord::Local => ProvisionerKind::Local,
            ProvisionerWord::None => ProvisionerKind::None,
            ProvisionerWord::Ec2 => {
                let hint = "use \"local\", or \"none\" with machines of your own, until then";
                self.wrong(&table.provisioner, "the provisioner \"ec2\" is not yet built", hint);
                return None;
            }
        };
        let max_instances =
            table.max_instances.as_ref().map_or(MAX_INSTANCES_DEFAULT, |max| max.value);
        if let Some(min_idle) = &table.min_idle
            && min_idle.value > max_instances
        {
            let what = format!("min_idle is {}, more than max_instances", min_idle.value);
            self.wrong(min_idle, what, format!("at most {max_instances}"));
        }
        let mut span = |given: Option<At<Span>>, default_s: u64, min_s: u64| match given {
            Some(span) if span.value.0 < Duration::from_secs(min_s) => {
                let what = "this is too short to work with";
                self.wrong(&span, what, format!("at least {min_s}s"));
                span.value.0
            }
            Some(span) => span.value.0,
            None => Duration::from_secs(default_s),
        };
        let reconnect_grace = span(table.reconnect_grace, 2 * 60, 5);
        let lease_at = table.lease.clone();
        let lease = span(table.lease, 30 * 60, 10);
        let settings = PoolSettings {
            name: PoolName(table.name.value.clone()),
            labels: table.labels.unwrap_or_default().into_iter().collect::<Labels>(),
            provisioner,
            has_bootstrap: table.bootstrap.is_some(),
            max_instances,
            min_idle: table.min_idle.map_or(0, |min| min.value),
            jobs_per_instance: table.jobs_per_instance.unwrap_or(0),
            shared: table.shared.unwrap_or(false),
            idle_timeout: span(table.idle_timeout, 10 * 60, 0),
            boot_timeout: span(table.boot_timeout, 20 * 60, 5),
            reconnect_grace,
            lease,
            max_lifetime: span(table.max_lifetime, 24 * 3600, 60),
            env: table.env.unwrap_or_default().into_iter().collect(),
        };
        let is_local = provisioner == ProvisionerKind::Local;
        if is_local && !table.unsafe_local.unwrap_or(false) {
            let hint = "if everybody who can push is trusted with them, set unsafe_local = true";
            let what = "steps of a local pool run as the master's own user, and can read its keys";
            self.wrong(&table.provisioner, what, hint);
        }
        if lease < reconnect_grace {
            let hint = "or a step would be ended before its agent has had time to call again";
            match &lease_at {
                Some(at) => self.wrong(at, "the lease is shorter than reconnect_grace", hint),
                None => self.wrong(&table.name, "reconnect_grace is longer than the lease", hint),
            }
        }
        if let Some(bootstrap) = &table.bootstrap
            && (bootstrap.value.contains('/') || bootstrap.value.starts_with('.'))
        {
            let hint = "name a file of bootstrap_dir, such as \"debian.sh\"";
            self.wrong(bootstrap, "a bootstrap script is named without a path", hint);
        }
        Some(PoolConfig { settings, bootstrap: table.bootstrap.map(|name| name.value) })
    }

    fn project(&mut self, table: ProjectTable) -> Option<ProjectConfig> {
        self.name(&table.name, "project");
        let repo = &table.repo.value;
        let is_option_or_helper = repo.is_empty() || repo.starts_with('-') || repo.contains("::");
        if is_option_or_helper {
            let hint = "write a path, or a URL of https, http, ssh or file";
            self.wrong(&table.repo, format!("\"{repo}\" is not a repository"), hint);
        }
        if let Some(token) = &table.token_file
            && table.ssh_key_file.is_some()
        {
            self.wrong(token, "a project has a key or a token, not both", "leave one out");
        }
        if let Some(hosts) = &table.known_hosts_file
            && table.ssh_key_file.is_none()
        {
            self.wrong(hosts, "known_hosts_file belongs to ssh_key_file", "give that as well");
        }
        let poll = table.poll.as_ref().map_or(Duration::from_secs(60), |poll| poll.value.0);
        if let Some(given) = &table.poll
            && poll < POLL_MIN
        {
            self.wrong(given, "a repository is asked at most once a second", "\"60s\" is usual");
        }
        let everything = || Pattern::new("**").into_iter().collect();
        let path = |text: At<String>| PathBuf::from(text.value);
        Some(ProjectConfig {
            name: ProjectName(table.name.value),
            repo: table.repo.value,
            branches: table.branches.unwrap_or_else(everything),
            tags: table.tags.unwrap_or_default(),
            poll,
            ssh_key_file: table.ssh_key_file.map(path),
            known_hosts_file: table.known_hosts_file.map(path),
            token_file: table.token_file.map(path),
            hook_token_file: table.hook_token_file.map(path),
        })
    }
}
