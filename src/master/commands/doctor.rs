//! `busybee doctor`: asks the clouds, the repositories and this machine whether a master's file would work.

mod address;
mod ledger;

use std::path::Path;

use serde_json::json;

use crate::master::app;
use crate::master::change_source::examine::examine as examine_repository;
use crate::master::commands::throwaway::Scratch;
use crate::master::commands::user_data;
use crate::master::config::Config;
use crate::master::config::PoolConfig;
use crate::master::config::ProjectConfig;
use crate::master::launch_facts::LaunchFacts;
use crate::master::mail;
use crate::master::mail::settings::MailSettings;
use crate::master::provisioner::Finding;
use crate::master::provisioner::PrepareOrder;
use crate::master::provisioner::Verdict;
use crate::master::provisioner::ec2::Ec2Provisioner;
use crate::master::provisioner::ec2::doctor::Circumstances;
use crate::model::ids::LaunchId;
use crate::model::ids::WorkerName;
use crate::runtime::clock;
use crate::runtime::random;
use crate::runtime::together;

/// Below this the master soon has no room for logs.
const DISK_FREE_MIN: u64 = 2 * 1024 * 1024 * 1024;

/// What a doctor found, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examination {
    parts: Vec<(String, Vec<Finding>)>,
}

impl Examination {
    /// Whether builds would run.
    pub fn is_well(&self) -> bool {
        let findings = self.parts.iter().flat_map(|(_, findings)| findings);
        findings.into_iter().all(|finding| finding.verdict != Verdict::Bad)
    }

    /// For people: each part with its findings, each with its fix.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (part, findings) in &self.parts {
            text.push_str(&format!("{part}\n"));
            for finding in findings {
                text.push_str(&format!("  {:<5} {}\n", word(finding.verdict), finding.what));
                if !finding.fix.is_empty() {
                    text.push_str(&format!("        → {}\n", finding.fix));
                }
            }
        }
        text.push_str(match self.is_well() {
            true => "Nothing here keeps builds from running.",
            false => "Builds will not run before what is marked \"bad\" is mended.",
        });
        text
    }

    /// The same as one JSON document.
    pub fn json(&self) -> String {
        let parts = self.parts.iter().map(|(part, findings)| {
            let findings = findings.iter().map(|finding| {
                json!({
                    "verdict": word(finding.verdict),
                    "what": finding.what,
                    "fix": finding.fix,
                })
            });
            json!({ "part": part, "findings": findings.collect::<Vec<_>>() })
        });
        json!({ "ok": self.is_well(), "parts": parts.collect::<Vec<_>>() }).to_string()
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "good",
        Verdict::Doubtful => "look",
        Verdict::Bad => "bad",
    }
}

/// Examines what a master's file names. Starts and changes nothing.
///
/// # Errors
/// The file is wrong, or names files that cannot be read; for people.
pub fn doctor(file: &Path) -> Result<Examination, String> {
    let config = Config::load(file).map_err(|why| format!("the master's file is wrong:\n{why}"))?;
    let facts = user_data::facts(&config).map_err(|error| format!("failed to {error:#}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|why| format!("failed to start the runtime: {why}"))?;
    let mut here = vec![disk(&config.master.data_dir)];
    here.extend(ledger::examine(&config));
    let authority = user_data::authority_if_made(&config);
    // Not data_dir: what root would write there now, the master's user could not write later.
    let scratch = Scratch::create("doctor", None).map_err(|why| format!("failed to {why:#}"))?;
    let pools = config.pools.iter().filter(|pool| pool.ec2.is_some());
    let (address, mail, pools, projects) = runtime.block_on(async {
        let master = facts.master();
        tokio::join!(
            address::examine(&config, &master, authority),
            together::all(config.mail.iter().map(mail_server)),
            together::all(pools.map(async |pool| {
                let name = format!("pool \"{}\"", pool.settings.name);
                (name, examine_pool(&config, pool, &facts).await)
            })),
            together::all(config.projects.iter().map(async |project| {
                let name = format!("project \"{}\"", project.source.project);
                (name, vec![repository(project, &scratch.dir).await])
            })),
        )
    });
    scratch.remove().map_err(|why| format!("failed to {why:#}"))?;
    here.extend(address);
    let mut parts = vec![("this machine".to_owned(), here)];
    if !mail.is_empty() {
        parts.push(("mail".to_owned(), mail));
    }
    parts.extend(pools);
    parts.extend(projects);
    Ok(Examination { parts })
}

/// Room for what the master keeps, where its folder is or will be.
fn disk(data_dir: &Path) -> Finding {
    let there = data_dir.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(there) {
        Err(why) => Finding::bad(
            format!("{} cannot be looked at: {why}", there.display()),
            "choose a data_dir that the master's user can write",
        ),
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let what = format!("{} has {} MiB free", data_dir.display(), free / 1024 / 1024);
            match free < DISK_FREE_MIN {
                true => Finding::doubtful(what, "logs and checkouts want 2 GiB at least"),
                false => Finding::good(what),
            }
        }
    }
}

/// Whether the mail server answers, and lets the master log in.
async fn mail_server(settings: &MailSettings) -> Finding {
    match mail::examine(settings).await {
        Ok(what) => Finding::good(what),
        // Builds run without it.
        Err(why) => Finding::doubtful(
            why,
            "see server, tls, ca_file, user and password_file in [mail]: until then nobody is told \
             of machines that never became workers",
        ),
    }
}

/// Whether a project's repository answers, and has what is watched.
async fn repository(project: &ProjectConfig, scratch: &Path) -> Finding {
    let address = project.source.remote.as_str();
    match examine_repository(&project.source, scratch).await {
        Err(why) => Finding::bad(
            why,
            "see the address and the project's key or token, and that they are readable for the master's user",
        ),
        Ok(sight) if sight.refs == 0 => Finding::doubtful(
            format!("{address} answers, and is empty"),
            "push a branch with a .busybee.yaml; `busybee init` writes one",
        ),
        Ok(sight) if sight.watched == 0 => Finding::doubtful(
            format!("{address} has {} branches and tags, and none of them is watched", sight.refs),
            "see the project's branches and tags: they are patterns, as in \"release/*\"",
        ),
        Ok(sight) => {
            let head = sight.head.map(|head| format!("; its default branch is {head}"));
            Finding::good(format!(
                "{address} answers: {} of {} branches and tags are watched{}",
                sight.watched,
                sight.refs,
                head.unwrap_or_default()
            ))
        }
    }
}

async fn examine_pool(config: &Config, pool: &PoolConfig, facts: &LaunchFacts) -> Vec<Finding> {
    let Some(settings) = pool.ec2.clone() else { return Vec::new() };
    let mut findings = Vec::new();
    if config.master.id.is_none() {
        findings.push(Finding::doubtful(
            "the master has no id of its own".to_owned(),
            "write id = \"…\" into [master]: with one in data_dir alone, what runs is lost with it",
        ));
    }
    if pool.bootstrap.is_none() {
        findings.push(Finding::doubtful(
            "no bootstrap script: the image must have git for the jobs' checkouts, and all they need".to_owned(),
            "for a vanilla image write bootstrap = \"debian.sh\" (or \"fedora.sh\") into the pool",
        ));
    }
    if let Some((what, fix)) = pool.unpriced() {
        findings.push(Finding::doubtful(what, &fix));
    }
    let known = app::known_master_id(config).ok().flatten();
    let master = known.unwrap_or_else(|| "doctor".to_owned());
    let port = facts.master().rsplit(':').next().and_then(|port| port.parse().ok());
    let around = Circumstances {
        master_port: port.unwrap_or_default(),
        architectures: facts.architectures().to_vec(),
        max_instances: pool.settings.max_instances,
        stops_idle: pool.settings.stopping.is_some(),
        now: clock::now(),
    };
    let name = pool.settings.name.clone();
    let worker = WorkerName(format!("{name}-doctor"));
    let order = PrepareOrder {
        launch: LaunchId(format!("doctor-{:016x}", random::number())),
        candidate: 0,
        seat: None,
        user_data: crate::master::perform::Briefing::user_data(facts, &name, &worker),
        worker,
        expires_at: clock::now() + pool.settings.max_lifetime,
    };
    match Ec2Provisioner::new(settings, master, name) {
        Ok(provisioner) => findings.extend(provisioner.examine(order, &around).await),
        Err(why) => {
            let fix = "see the pool's endpoint, and this machine's certificates";
            findings.push(Finding::bad(format!("{why:#}"), fix));
        }
    }
    findings
}
