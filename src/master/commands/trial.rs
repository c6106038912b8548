//! `busybee doctor --launch POOL`: one real machine takes the whole road, runs `true`, and is gone.
//!
//! A throw-away master does it, at the very address that instances will be told, with its own id: a
//! master that runs there has to be stopped meanwhile, and nothing of what it started is touched.

mod report;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use crate::master::app;
use crate::master::app::Running;
use crate::master::change_source::remote::Remote;
use crate::master::change_source::source::CredentialFiles;
use crate::master::change_source::source::Source;
use crate::master::commands::sample;
use crate::master::commands::serve;
use crate::master::commands::throwaway;
use crate::master::commands::throwaway::Looks;
use crate::master::commands::throwaway::Scratch;
use crate::master::commands::trial::report::Progress;
pub use crate::master::commands::trial::report::Report;
use crate::master::config::Config;
use crate::master::config::PoolConfig;
use crate::master::config::ProjectConfig;
use crate::master::domain::decision::Answer;
use crate::master::domain::entities::Instance;
use crate::master::domain::entities::Job;
use crate::master::domain::event::Request;
use crate::master::domain::settings::ProvisionerKind;
use crate::model::ids::BuildNumber;
use crate::model::ids::PoolName;
use crate::model::ids::ProjectName;
use crate::model::inputs::GivenInputs;
use crate::runtime::random;

/// The project of the trial's own repository.
const PROJECT: &str = "doctor";

/// Between the id of the master and a trial's own number.
const MARK: &str = "-doctor-";

/// Behind the pool's boot timeout: a refused candidate or two, and the job itself.
const MARGIN: Duration = Duration::from_secs(5 * 60);

/// EC2 takes a minute or two to show an instance as terminated.
const END_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// The repository is asked once, when the build is started.
const POLL: Duration = Duration::from_secs(24 * 3600);

/// Rows of the ledger that are looked at: a trial has few.
const ROWS_MAX: u32 = 50;

/// Launches one machine of a pool, runs `true` on it, and ends it. What happens is told to `say` as it
/// happens.
///
/// # Errors
/// When it cannot even begin; for people. What goes wrong on the road is in the report.
pub fn trial(file: &Path, pool: &str, say: &dyn Fn(&str)) -> Result<Report, String> {
    let config = Config::load(file).map_err(|why| format!("the master's file is wrong:\n{why}"))?;
    let pool = find_pool(&config, pool)?;
    is_free(&config)?;
    let runtime = serve::runtime()?;
    let done = runtime.block_on(async {
        let scratch = Scratch::create("doctor", None)?;
        let report = in_scratch(config, pool, &scratch, say).await;
        scratch.remove()?;
        report
    });
    done.map_err(|why: anyhow::Error| format!("the trial failed to {why:#}"))
}

/// Whether a tag names a trial of the master with this id: what one has left is that master's to end.
pub(super) fn is_mark_of(tag: &str, master: &str) -> bool {
    let number = tag.strip_prefix(master).and_then(|rest| rest.strip_prefix(MARK));
    number.is_some_and(|number| {
        number.len() == 8 && number.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

fn find_pool(config: &Config, wanted: &str) -> Result<PoolConfig, String> {
    let found = config.pools.iter().find(|pool| pool.settings.name.as_str() == wanted);
    let Some(pool) = found else {
        let names: Vec<&str> =
            config.pools.iter().map(|pool| pool.settings.name.as_str()).collect();
        return Err(format!("there is no pool \"{wanted}\": it is one of {}", names.join(", ")));
    };
    if pool.settings.provisioner == ProvisionerKind::None {
        return Err(format!(
            "nothing is ever launched for pool \"{wanted}\": its machines are your own"
        ));
    }
    Ok(pool.clone())
}

/// Whether the address is free for as long as this takes.
fn is_free(config: &Config) -> Result<(), String> {
    let listen = config.master.listen;
    match std::net::TcpListener::bind(listen) {
        Ok(_) => Ok(()),
        Err(why) if why.kind() == std::io::ErrorKind::AddrInUse => Err(format!(
            "{listen} is in use: a trial needs the master's own address, so stop the master for these \
             minutes (`systemctl stop busybee`); what runs on its workers goes on, and is adopted again"
        )),
        Err(why) => Err(format!("cannot listen on {listen}: {why}")),
    }
}

async fn in_scratch(
    config: Config,
    pool: PoolConfig,
    scratch: &Scratch,
    say: &dyn Fn(&str),
) -> anyhow::Result<Report> {
    let repository = sample::trial_repository(&scratch.dir)?;
    let name = pool.settings.name.clone();
    let limit = pool.settings.boot_timeout + MARGIN;
    let ec2 = pool.ec2.clone();
    let running = app::start(of_trial(config, pool, scratch, &repository)?).await?;
    let watched = tokio::select! {
        told = serve::told_to_stop() => told.and(Ok(Some("somebody stopped it".to_owned()))),
        watched = tokio::time::timeout(limit, start_and_watch(&running, &name, say)) => {
            watched.unwrap_or_else(|_| Ok(Some(format!("nothing came of it in {} s", limit.as_secs()))))
        }
    };
    say("ending it");
    let ended = throwaway::end_workers(&running, &name, END_TIMEOUT).await;
    let rows = running.store.instances(None, ROWS_MAX).await?;
    let job = the_job(&running).await?;
    running.stop().await;
    let mut report = Report::new(name, rows, job, watched?, ec2.as_ref());
    if let Err(why) = ended {
        let _infallible = write!(report.trouble.get_or_insert_default(), "; failed to {why:#}");
    }
    Ok(report)
}

/// The file as a trial needs it: one pool, one machine, one job, a scratch directory, a mark of its own.
fn of_trial(
    mut config: Config,
    mut pool: PoolConfig,
    scratch: &Scratch,
    repository: &Path,
) -> anyhow::Result<Config> {
    let repository = repository.to_str().context("use a directory that is not named in UTF-8")?;
    let remote = Remote::parse(repository).map_err(|why| anyhow::anyhow!("name it: {why}"))?;
    pool.settings.max_instances = 1;
    pool.settings.min_idle = 0;
    pool.settings.jobs_per_instance = 1;
    // What becomes of a trial is told where it was asked for.
    config.mail = None;
    config.pools = vec![pool];
    config.projects = vec![ProjectConfig {
        source: Source {
            project: ProjectName::from(PROJECT),
            remote,
            branches: Vec::new(),
            tags: Vec::new(),
            poll: POLL,
            credential: CredentialFiles::None,
            secret_files: BTreeMap::new(),
        },
        hook_token_file: None,
    }];
    // A mark of its own: what the real master has started is nothing to this one.
    let id = app::known_master_id(&config)?.unwrap_or_else(|| "busybee".to_owned());
    config.master.id = Some(format!("{id}{MARK}{:08x}", random::number() as u32));
    config.master.data_dir = scratch.dir.join("data");
    Ok(config)
}

/// Starts the build and watches until it has ended; why it will not, otherwise.
async fn start_and_watch(
    running: &Running,
    pool: &PoolName,
    say: &dyn Fn(&str),
) -> anyhow::Result<Option<String>> {
    let project = ProjectName::from(PROJECT);
    let request = Request::StartBuild { project, reference: None, inputs: GivenInputs::new() };
    if let Answer::Refused(refusal) = running.inbox.ask(request).await {
        anyhow::bail!("start a build: {}", refusal.sentence);
    }
    let mut looks = Looks::new(running);
    let mut progress = Progress::default();
    loop {
        let rows = running.store.instances(None, ROWS_MAX).await?;
        let job = the_job(running).await?;
        progress.tell(&rows, job.as_ref(), say);
        if job.as_ref().is_some_and(|job| job.status.is_final()) {
            return Ok(None);
        }
        if let Some(why) = rows.iter().find_map(ended_early) {
            return Ok(Some(job.and_then(|job| job.reason).unwrap_or(why)));
        }
        let pools = running.store.pools().await?;
        if let Some(why) =
            pools.into_iter().find(|state| state.name == *pool).and_then(|p| p.paused)
        {
            return Ok(Some(why));
        }
        looks.next().await;
    }
}

/// Why a machine that was there is no more, before the job has ended.
fn ended_early(row: &Instance) -> Option<String> {
    (row.accepted_at.is_some() && row.ending_at.or(row.ended_at).is_some())
        .then(|| row.why_ended.clone().unwrap_or_else(|| "it ended by itself".to_owned()))
}

async fn the_job(running: &Running) -> anyhow::Result<Option<Job>> {
    let Some(build) = running.store.build(ProjectName::from(PROJECT), BuildNumber(1)).await? else {
        return Ok(None);
    };
    Ok(running.store.jobs_of(build.id).await?.into_iter().next())
}
