//! `[[pool]]`: what was typed → what it means.

use std::path::Path;
use std::time::Duration;

use crate::master::config::PoolConfig;
use crate::master::config::bootstrap::Bootstrap;
use crate::master::config::ec2;
use crate::master::config::meaning::Reading;
use crate::master::config::stopping;
use crate::master::config::typed::PoolFile;
use crate::master::config::typed::ProvisionerWord;
use crate::master::domain::settings::PoolSettings;
use crate::master::domain::settings::ProvisionerKind;
use crate::master::provisioner::ec2::settings::Ec2Settings;
use crate::master::user_data::BOOTSTRAP_SCRIPTS;
use crate::model::ids::PoolName;
use crate::runtime::config_file::placed::At;
use crate::runtime::config_file::placed::Entries;
use crate::runtime::config_file::placed::ScalarText;
use crate::runtime::config_file::suggest;
use crate::runtime::config_file::words;

/// Machines of a pool, where the file does not say.
const MAX_INSTANCES_DEFAULT: u32 = 10;

/// Machines of a pool, at most: ten times what a master is measured with, and a slip's limit.
const MAX_INSTANCES_MAX: u32 = 10_000;

/// Bootstrap scripts that a hint names, at most: a line of them.
const SCRIPTS_SHOWN_MAX: usize = 10;

const MINUTE: Duration = Duration::from_secs(60);

/// No duration that ends a machine may be shorter: agents are heard of every few seconds.
const SECOND: Duration = Duration::from_secs(1);

/// What a pool means; nothing where its machines cannot be made.
pub(super) fn of(
    reading: &mut Reading<'_>,
    typed: At<PoolFile>,
    unsafe_local: bool,
) -> Option<PoolConfig> {
    let At { id: at, value: typed } = typed;
    reading.refuse(typed.name.id, words::check_name(&typed.name.value));
    let unsafe_local = typed.unsafe_local.unwrap_or(unsafe_local);
    let provisioner = provisioner(reading, &typed.provisioner, unsafe_local);
    let (max_instances, min_idle) =
        counts(reading, typed.max_instances.as_ref(), typed.min_idle.as_ref());
    let env = variables(reading, typed.env);
    if let Some(At { id, value: Bootstrap::File(script) }) = &typed.bootstrap {
        let found = find_script(reading.bootstrap_dir.as_deref(), script);
        reading.refuse(*id, found);
    }
    let bootstrap = typed.bootstrap.map(|bootstrap| bootstrap.value);
    warn_of_remote_script(reading, &typed.name, bootstrap.as_ref());
    let ec2 = match (typed.provisioner.value, typed.ec2) {
        (ProvisionerWord::Ec2, Some(typed)) => ec2::of(reading, typed),
        (ProvisionerWord::Ec2, None) if reading.document.has_entry(at, "ec2") => None,
        (ProvisionerWord::Ec2, None) => {
            let hint = "say how instances are asked for: region, ami, instance_types";
            reading.wrong(typed.provisioner.id, "a pool of ec2 needs a [pool.ec2]", hint);
            None
        }
        (ProvisionerWord::Local | ProvisionerWord::None, Some(typed)) => {
            let hint = "write provisioner = \"ec2\", or take the table out";
            reading.wrong(typed.id, "[pool.ec2] is for pools of ec2", hint);
            None
        }
        (ProvisionerWord::Local | ProvisionerWord::None, None) => None,
    };
    let jobs_per_instance = typed.jobs_per_instance.unwrap_or(0);
    let keys = stopping::Typed {
        provisioner: typed.provisioner.value,
        when_idle: typed.when_idle.as_ref(),
        max_stopped: typed.max_stopped.as_ref(),
        stopped_max_age: typed.stopped_max_age,
        max_instances,
        jobs_per_instance,
        ec2: ec2.as_ref(),
    };
    let stopping = stopping::of(reading, keys);
    let candidates: Vec<_> = ec2.iter().flat_map(Ec2Settings::candidates).collect();
    let spot = (0..).zip(&candidates).filter(|(_, candidate)| candidate.is_spot);
    let spot = spot.map(|(index, _)| index).collect();
    let candidates = candidates.iter().map(ToString::to_string).collect();
    let labels = typed.labels.unwrap_or_default();
    let step_metadata = typed.step_metadata.as_ref().is_some_and(|typed| typed.value);
    if let Some(At { id, value: true }) = typed.step_metadata
        && typed.provisioner.value != ProvisionerWord::Ec2
    {
        let what = "step_metadata is about instances of a cloud";
        reading.wrong(id, what, "leave it out where provisioner is not \"ec2\"");
    }
    let settings = PoolSettings {
        name: PoolName(typed.name.value),
        labels: labels.into_iter().map(|label| label.0).collect(),
        provisioner: provisioner.filter(|kind| *kind != ProvisionerKind::Ec2 || ec2.is_some())?,
        has_bootstrap: bootstrap.is_some(),
        candidates,
        spot,
        stopping,
        max_instances,
        min_idle,
        jobs_per_instance,
        shared: typed.shared.unwrap_or(false),
        idle_timeout: reading.duration(typed.idle_timeout, Duration::ZERO, 10 * MINUTE),
        boot_timeout: reading.duration(typed.boot_timeout, SECOND, 20 * MINUTE),
        reconnect_grace: reading.duration(typed.reconnect_grace, SECOND, 2 * MINUTE),
        lease: reading.duration(typed.lease, SECOND, 30 * MINUTE),
        max_lifetime: reading.duration(typed.max_lifetime, SECOND, 24 * 60 * MINUTE),
        env,
    };
    Some(PoolConfig { settings, bootstrap, ec2, step_metadata })
}

fn provisioner(
    reading: &mut Reading<'_>,
    typed: &At<ProvisionerWord>,
    unsafe_local: bool,
) -> Option<ProvisionerKind> {
    match typed.value {
        ProvisionerWord::None => Some(ProvisionerKind::None),
        ProvisionerWord::Local if unsafe_local => Some(ProvisionerKind::Local),
        ProvisionerWord::Local => {
            let what =
                "builds on local workers run as the master's own user, and can read its keys";
            let hint = "if you trust everyone who can change what is built, write \
                unsafe_local = true in this pool; otherwise use machines of their own \
                        (provisioner = \"none\")";
            reading.wrong(typed.id, what, hint);
            None
        }
        ProvisionerWord::Ec2 => Some(ProvisionerKind::Ec2),
    }
}

fn counts(
    reading: &mut Reading<'_>,
    max_instances: Option<&At<u32>>,
    min_idle: Option<&At<u32>>,
) -> (u32, u32) {
    let most = max_instances.map_or(MAX_INSTANCES_DEFAULT, |typed| typed.value);
    if let Some(typed) = max_instances
        && !(1..=MAX_INSTANCES_MAX).contains(&most)
    {
        let what = format!("max_instances must be from 1 to {MAX_INSTANCES_MAX}, not {most}");
        reading.wrong(typed.id, what, "to launch nothing, use busybee pool pause");
    }
    let least = min_idle.map_or(0, |typed| typed.value);
    if let Some(typed) = min_idle
        && least > most
    {
        let what = format!("min_idle = {least} is more than max_instances = {most}");
        reading.wrong(typed.id, what, "raise one or lower the other");
    }
    (most, least)
}

fn variables(reading: &mut Reading<'_>, env: Option<Entries<ScalarText>>) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for (key, text) in env.unwrap_or_default().0 {
        reading.refuse(key.id, words::check_variable(&key.value));
        if key.value.starts_with("BB_") {
            reading.wrong(key.id, "variables of this name are Busybee's own", "use another name");
        }
        variables.push((key.value, text.0));
    }
    variables
}

/// Whether a bootstrap script is there: the master does not start without it. A `bootstrap_dir` that is
/// not there itself is warned of where it is named.
fn find_script(dir: Option<&Path>, script: &str) -> Result<(), String> {
    let here = match dir {
        None => BOOTSTRAP_SCRIPTS.iter().map(|(name, _)| (*name).to_owned()).collect(),
        Some(dir) => match std::fs::read_dir(dir) {
            Err(_) => return Ok(()),
            Ok(entries) => entries
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect::<Vec<String>>(),
        },
    };
    if here.iter().any(|name| name == script) {
        return Ok(());
    }
    let known: Vec<&str> = here.iter().map(String::as_str).take(SCRIPTS_SHOWN_MAX).collect();
    let hint = suggest::hint(script, &known).unwrap_or_else(|| "put it there".to_owned());
    Err(match dir {
        None => format!("no bootstrap script \"{script}\" comes with busybee\n{hint}"),
        Some(dir) => format!("there is no \"{script}\" in bootstrap_dir {}\n{hint}", dir.display()),
    })
}

/// A script that is fetched from elsewhere is one more thing that must be up for a worker to boot.
fn warn_of_remote_script(
    reading: &mut Reading<'_>,
    name: &At<String>,
    bootstrap: Option<&Bootstrap>,
) {
    match bootstrap {
        Some(Bootstrap::Url { url, .. }) if url.contains('@') => {
            reading.warn(
                name.id,
                "the bootstrap's address seems to hold a password",
                "instances see it",
            );
        }
        Some(Bootstrap::Url { .. } | Bootstrap::File(_)) | None => {}
    }
}
