//! `[master]`: what was typed → what it means; pools and projects in files of their own.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::master::config::CertificateFiles;
use crate::master::config::MasterConfig;
use crate::master::config::PoolConfig;
use crate::master::config::ProjectConfig;
use crate::master::config::mail;
use crate::master::config::money;
use crate::master::config::pool;
use crate::master::config::project;
use crate::master::config::typed::ConfigFile;
use crate::master::config::typed::MasterFile;
use crate::master::mail::settings::MailSettings;
use crate::master::provisioner::ec2::prices::Prices;
use crate::runtime::config_file::duration::Span;
use crate::runtime::config_file::node::Document;
use crate::runtime::config_file::node::NodeId;
use crate::runtime::config_file::placed::At;
use crate::runtime::config_file::problem::Problem;
use crate::runtime::config_file::words;

/// Where the one port is, where the file does not say.
const LISTEN_DEFAULT: &str = "0.0.0.0:8443";

/// Where everything is kept, where the file does not say.
const DATA_DIR_DEFAULT: &str = "/var/lib/busybee";

/// What is being made sense of.
pub(super) struct Reading<'d> {
    pub(super) document: &'d mut Document,
    pub(super) warnings: &'d mut Vec<Problem>,
    pub(super) folder: &'d Path,
    /// Where bootstrap scripts lie; nothing: the ones that come with busybee.
    pub(super) bootstrap_dir: Option<PathBuf>,
    /// What the admin says types cost, by region.
    pub(super) prices: BTreeMap<String, Prices>,
    /// What instances and people use, where it is right.
    pub(super) url: Option<String>,
    /// Where the one port is, where it is right.
    pub(super) listen: Option<SocketAddr>,
    /// Whether there is a `[mail]`.
    pub(super) has_mail: bool,
    /// Addresses and volumes that pools have for themselves, by region, and which pool has each.
    taken: BTreeMap<(String, String), String>,
}

/// Whose settings are read.
#[derive(Clone, Copy)]
pub(super) struct Owner<'o> {
    /// The pool's name.
    pub(super) pool: &'o str,
    /// Where its instances are.
    pub(super) region: &'o str,
}

impl Reading<'_> {
    /// Says that something is wrong.
    pub(super) fn wrong(&mut self, at: NodeId, what: impl Into<String>, hint: impl Into<String>) {
        let place = self.document.place(at);
        self.document.report(Problem::new(place, what).hint(hint));
    }

    /// Says what a check found, if it did.
    pub(super) fn refuse<T>(&mut self, at: NodeId, checked: Result<T, String>) -> Option<T> {
        match checked {
            Ok(value) => Some(value),
            Err(message) => {
                let (what, hint) = message.split_once('\n').unwrap_or((&message, ""));
                let place = self.document.place(at);
                let problem = Problem::new(place, what);
                let problem = if hint.is_empty() { problem } else { problem.hint(hint) };
                self.document.report(problem);
                None
            }
        }
    }

    /// Says that something works, but is probably not meant.
    pub(super) fn warn(&mut self, at: NodeId, what: impl Into<String>, hint: impl Into<String>) {
        let place = self.document.place(at);
        self.warnings.push(Problem::new(place, what).hint(hint));
    }

    /// Gives a pool what is there once in its region; says so where it, or another pool, has that already.
    pub(super) fn take(&mut self, at: NodeId, owner: Owner<'_>, thing: &str, hint: &str) {
        let key = (owner.region.to_owned(), thing.to_owned());
        let what = match self.taken.get(&key) {
            None => {
                self.taken.insert(key, owner.pool.to_owned());
                return;
            }
            Some(pool) if pool == owner.pool => format!("{thing} is named twice"),
            Some(pool) => format!("{thing} is named twice: pool \"{pool}\" has it already"),
        };
        self.wrong(at, what, hint);
    }

    /// A path, from where the file stands.
    pub(super) fn path(&mut self, typed: &At<String>) -> PathBuf {
        if typed.value.is_empty() || typed.value.contains('\0') {
            self.wrong(typed.id, "an empty path", "write one, or take the key out");
        } else if typed.value.starts_with("~/") {
            self.wrong(typed.id, "`~` stands for nothing here", "write the path out");
        }
        self.folder.join(&typed.value)
    }

    /// The path of a file that should be there by the time it is needed.
    pub(super) fn existing(&mut self, typed: &At<String>) -> PathBuf {
        let path = self.path(typed);
        if let Err(error) = std::fs::metadata(&path) {
            self.warn(
                typed.id,
                format!("{} cannot be read: {error}", path.display()),
                "make it before the master starts",
            );
        }
        path
    }

    /// A duration, or what holds where there is none.
    pub(super) fn duration(
        &mut self,
        typed: Option<At<Span>>,
        least: Duration,
        default: Duration,
    ) -> Duration {
        let Some(At { id, value: Span(duration) }) = typed else { return default };
        if duration < least {
            let least = crate::runtime::config_file::duration::format_duration(least);
            self.wrong(id, "this is too short to work", format!("write at least \"{least}\""));
        }
        duration
    }
}

/// What a whole file means.
pub(super) struct Meaning {
    pub(super) master: MasterConfig,
    pub(super) mail: Option<MailSettings>,
    pub(super) pools: Vec<PoolConfig>,
    pub(super) projects: Vec<ProjectConfig>,
}

/// What a file means; what is wrong is reported to the document.
pub(super) fn of(
    document: &mut Document,
    warnings: &mut Vec<Problem>,
    file: ConfigFile,
    folder: &Path,
) -> Option<Meaning> {
    let prices = BTreeMap::new();
    let has_mail = file.mail.is_some();
    let mut reading = Reading {
        document,
        warnings,
        folder,
        bootstrap_dir: None,
        prices,
        url: None,
        listen: None,
        has_mail,
        taken: BTreeMap::new(),
    };
    let budget_at = file.master.value.daily_budget.as_ref().map(|typed| typed.id);
    let regions = file.pool.iter().flatten().filter_map(|pool| pool.value.ec2.as_ref());
    let regions = regions.map(|ec2| ec2.value.region.value.clone()).collect();
    reading.prices = money::prices(&mut reading, file.prices, &regions);
    let unsafe_local = file.master.value.unsafe_local.unwrap_or(false);
    let root = reading.document.root.id;
    let master = master(&mut reading, file.master);
    let mail = file.mail.and_then(|typed| mail::of(&mut reading, typed));
    let (pools, projects) = (file.pool.unwrap_or_default(), file.project.unwrap_or_default());
    if pools.is_empty() {
        reading.warn(root, "there is no [[pool]], so nothing can be built", "add one");
    }
    if projects.is_empty() {
        reading.warn(root, "there is no [[project]], so there is nothing to build", "add one");
    }
    once_each(&mut reading, "pool", pools.iter().map(|pool| &pool.value.name));
    once_each(&mut reading, "project", projects.iter().map(|project| &project.value.name));
    let pools: Vec<_> =
        pools.into_iter().filter_map(|typed| pool::of(&mut reading, typed, unsafe_local)).collect();
    let projects: Vec<_> =
        projects.into_iter().filter_map(|typed| project::of(&mut reading, typed)).collect();
    if let Some(at) = budget_at {
        money::warn_of_unpriced(&mut reading, at, &pools);
    }
    Some(Meaning { master: master?, mail, pools, projects })
}

fn once_each<'n>(
    reading: &mut Reading<'_>,
    kind: &str,
    names: impl Iterator<Item = &'n At<String>>,
) {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name.value.as_str()) {
            let what = format!("there are two of {kind} \"{}\"", name.value);
            reading.wrong(name.id, what, "give one of them another name");
        }
    }
}

fn master(reading: &mut Reading<'_>, typed: At<MasterFile>) -> Option<MasterConfig> {
    let At { id: at, value: typed } = typed;
    let listen = match typed.listen {
        None => LISTEN_DEFAULT.parse().ok(),
        Some(text) => reading.refuse(text.id, parse_listen(&text.value)),
    };
    let url = match (typed.url, listen) {
        (Some(text), _) => reading.refuse(text.id, parse_url(&text.value)),
        (None, Some(listen)) if listen.ip().is_loopback() && listen.port() != 0 => {
            Some(format!("https://{listen}"))
        }
        (None, _) => {
            let hint = "name the address under which instances and people reach this \
                master, as in url = \"https://ci.example.com:8443\"";
            reading.wrong(at, "master has no \"url\"", hint);
            None
        }
    };
    reading.url.clone_from(&url);
    reading.listen = listen;
    if let Some(id) = &typed.id {
        reading.refuse(id.id, words::check_name(&id.value));
    }
    let data_dir = match &typed.data_dir {
        Some(path) => reading.path(path),
        None => PathBuf::from(DATA_DIR_DEFAULT),
    };
    let certificate = certificate(reading, &typed.cert_file, &typed.key_file, &typed.ca_file);
    let bootstrap_dir = typed.bootstrap_dir.map(|path| reading.existing(&path));
    reading.bootstrap_dir.clone_from(&bootstrap_dir);
    let daily_budget = money::budget(reading, typed.daily_budget.as_ref());
    let agent_dir = typed.agent_dir.map(|path| reading.existing(&path));
    Some(MasterConfig {
        url: url?,
        listen: listen?,
        data_dir,
        bootstrap_dir,
        agent_dir,
        id: typed.id.map(|id| id.value),
        daily_budget,
        certificate,
    })
}

fn certificate(
    reading: &mut Reading<'_>,
    cert: &Option<At<String>>,
    key: &Option<At<String>>,
    ca: &Option<At<String>>,
) -> Option<CertificateFiles> {
    match (cert, key) {
        (Some(cert), Some(key)) => Some(CertificateFiles {
            cert_file: reading.existing(cert),
            key_file: reading.existing(key),
            ca_file: ca.as_ref().map(|ca| reading.existing(ca)),
        }),
        (Some(cert), None) => {
            reading.wrong(
                cert.id,
                "cert_file needs a key_file",
                "name the certificate's private key",
            );
            None
        }
        (None, Some(key)) => {
            reading.wrong(key.id, "key_file needs a cert_file", "name the key's certificate");
            None
        }
        (None, None) => {
            if let Some(ca) = ca {
                let hint =
                    "without them the master makes a CA of its own, and tells instances of it";
                reading.wrong(ca.id, "ca_file needs a cert_file and a key_file", hint);
            }
            None
        }
    }
}

fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let hint =
        "write an address and a port, as in \"0.0.0.0:8443\", \"127.0.0.1:8443\" or \"[::]:8443\"";
    let spelt_out = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let text = spelt_out.as_deref().unwrap_or(text);
    text.parse().map_err(|_| format!("\"{text}\" is not where one can listen\n{hint}"))
}

/// An address without a path, without the slash at its end.
fn parse_url(text: &str) -> Result<String, String> {
    let hint = "write it as in \"https://ci.example.com:8443\"";
    let wrong = |why: &str| Err(format!("\"{text}\" {why}\n{hint}"));
    let Ok(url) = reqwest::Url::parse(text) else {
        return wrong("is not an address");
    };
    let Some(host) = url.host_str() else { return wrong("has no host") };
    let is_here = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    match url.scheme() {
        "https" => {}
        "http" if is_here => {}
        "http" => return wrong("sends passwords where anyone can read them"),
        _ => return wrong("does not begin with https://"),
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return wrong("has more than a host and a port");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("has a user's name in it");
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}
