//! `[[pool]]`: what was typed → what it means.

use std::path::Path;
use std::time::Duration;

use crate::master::config::PoolConfig;
use crate::master::config::bootstrap::Bootstrap;
use crate::master::config::ec2;
use crate::master::config::mail;
use crate::master::config::meaning::Reading;
use crate::master::config::money;
use crate::master::config::stopping;
use crate::master::config::typed::PoolFile;
use crate::master::config::typed::ProvisionerWord;
use crate::master::config::user_data_files;
use crate::master::domain::settings::PoolSettings;
use crate::master::domain::settings::ProvisionerKind;
use crate::master::provisioner::ec2::settings::Ec2Settings;
use crate::master::user_data::BOOTSTRAP_SCRIPTS;
use crate::model::ids::PoolName;
use crate::runtime::config_file::duration::Span;
use crate::runtime::config_file::duration::format_duration;
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
    let name = typed.name;
    reading.refuse(name.id, words::check_name(&name.value));
    let unsafe_local = typed.unsafe_local.unwrap_or(unsafe_local);
    let provisioner = provisioner(reading, &typed.provisioner, unsafe_local);
    let (max_instances, min_idle) =
        counts(reading, typed.max_instances.as_ref(), typed.min_idle.as_ref());
    let env = variables(reading, typed.env);
    let notify_on_missing = notified(reading, typed.notify_on_missing, typed.provisioner.value);
    if let Some(At { id, value: Bootstrap::File(script) }) = &typed.bootstrap {
        let found = find_script(reading.bootstrap_dir.as_deref(), script);
        reading.refuse(*id, found);
    }
    let bootstrap = typed.bootstrap.map(|bootstrap| bootstrap.value);
    warn_of_remote_script(reading, &name, bootstrap.as_ref());
    let mut ec2_file = typed.ec2;
    let own_user_data = ec2_file.as_mut().and_then(|typed| typed.value.user_data.take());
    let user_data = user_data_files::of(reading, own_user_data);
    let ec2 = match (typed.provisioner.value, ec2_file) {
        (ProvisionerWord::Ec2, Some(typed)) => ec2::of(reading, typed, &name.value, max_instances),
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
    let daily_budget = money::pool_budget(reading, typed.daily_budget.as_ref(), ec2.as_ref());
    let jobs_per_instance = typed.jobs_per_instance.unwrap_or(0);
    let (idle_timeout, boot_timeout, max_lifetime) =
        ages(reading, typed.idle_timeout, typed.boot_timeout, typed.max_lifetime);
    let keys = stopping::Typed {
        provisioner: typed.provisioner.value,
        when_idle: typed.when_idle.as_ref(),
        max_stopped: typed.max_stopped.as_ref(),
        stopped_max_age: typed.stopped_max_age,
        idle_timeout,
        max_instances,
        jobs_per_instance,
        ec2: ec2.as_ref(),
    };
    let stopping = stopping::of(reading, keys);
    let candidates = ec2.iter().flat_map(Ec2Settings::candidates);
    let candidates = candidates.map(|candidate| candidate.for_domain()).collect();
    let labels = typed.labels.unwrap_or_default();
    let step_metadata = typed.step_metadata.as_ref().is_some_and(|typed| typed.value);
    if let Some(At { id, value: true }) = typed.step_metadata
        && typed.provisioner.value != ProvisionerWord::Ec2
    {
        let what = "step_metadata is about instances of a cloud";
        reading.wrong(id, what, "leave it out where provisioner is not \"ec2\"");
    }
    // Local machines are there within a second: nobody waits for them.
    let is_slow = typed.provisioner.value == ProvisionerWord::Ec2;
    let look_ahead = typed.look_ahead.as_ref().map_or(is_slow, |typed| typed.value);
    if let Some(At { id, value: true }) = typed.look_ahead
        && typed.provisioner.value == ProvisionerWord::None
    {
        let what = "look_ahead is about machines that are started";
        reading.wrong(id, what, "leave it out where provisioner is \"none\"");
    }
    let (reconnect_grace, lease) = patience(reading, typed.reconnect_grace, typed.lease);
    let settings = PoolSettings {
        name: PoolName(name.value),
        labels: labels.into_iter().map(|label| label.0).collect(),
        provisioner: provisioner.filter(|kind| *kind != ProvisionerKind::Ec2 || ec2.is_some())?,
        has_bootstrap: bootstrap.is_some(),
        candidates,
        seats: ec2.as_ref().map_or(0, Ec2Settings::seats),
        stopping,
        max_instances,
        min_idle,
        jobs_per_instance,
        shared: typed.shared.unwrap_or(false),
        idle_timeout,
        look_ahead,
        boot_timeout,
        reconnect_grace,
        lease,
        max_lifetime,
        env,
        daily_budget,
        notify_on_missing,
    };
    Some(PoolConfig { settings, bootstrap, ec2, user_data, step_metadata })
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

/// How long a lost agent is waited for, and how long a step goes on without its master. Whoever may
/// call again must have something left to tell.
fn patience(
    reading: &mut Reading<'_>,
    grace: Option<At<Span>>,
    lease: Option<At<Span>>,
) -> (Duration, Duration) {
    let at = lease.as_ref().map(|typed| typed.id).or(grace.as_ref().map(|typed| typed.id));
    let grace = reading.duration(grace, SECOND, 2 * MINUTE);
    let lease = reading.duration(lease, SECOND, 30 * MINUTE);
    if let Some(at) = at
        && lease < grace
    {
        let (short, long) = (format_duration(lease), format_duration(grace));
        let what = format!("lease = \"{short}\" is shorter than reconnect_grace = \"{long}\"");
        let hint = "a step would end while its agent is still waited for: lengthen the lease, or \
                    shorten the grace";
        reading.wrong(at, what, hint);
    }
    (grace, lease)
}

/// How long a machine may idle, boot, and live at all. It must be able to become a worker, and to be one.
fn ages(
    reading: &mut Reading<'_>,
    idle: Option<At<Span>>,
    boot: Option<At<Span>>,
    life: Option<At<Span>>,
) -> (Duration, Duration, Duration) {
    let at = |first: &Option<At<Span>>, second: &Option<At<Span>>| {
        first.as_ref().or(second.as_ref()).map(|typed| typed.id)
    };
    let (boot_at, idle_at) = (at(&life, &boot), at(&life, &idle));
    let idle = reading.duration(idle, Duration::ZERO, 10 * MINUTE);
    let boot = reading.duration(boot, SECOND, 20 * MINUTE);
    let life = reading.duration(life, SECOND, 24 * 60 * MINUTE);
    let lives = format!("max_lifetime = \"{}\"", format_duration(life));
    if let Some(at) = boot_at
        && life <= boot
    {
        let what = format!("{lives} is not above boot_timeout = \"{}\"", format_duration(boot));
        let hint = "a machine that takes its time to boot would end before it is a worker: lengthen \
                    max_lifetime, or shorten boot_timeout";
        reading.wrong(at, what, hint);
    } else if let Some(at) = idle_at
        && life <= idle
    {
        let what = format!("{lives} is not above idle_timeout = \"{}\"", format_duration(idle));
        let hint = "no machine ends for being idle, each lives its whole life; shorten idle_timeout if \
                    that is not meant";
        reading.warn(at, what, hint);
    }
    (idle, boot, life)
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

/// Who is told of machines that never become workers.
fn notified(
    reading: &mut Reading<'_>,
    typed: Option<At<Vec<At<String>>>>,
    provisioner: ProvisionerWord,
) -> Vec<String> {
    let Some(At { id, value: typed }) = typed else { return Vec::new() };
    if !typed.is_empty() && !reading.has_mail {
        let hint = "add a [mail] with server, from and to: without it nobody can be told";
        reading.wrong(id, "notify_on_missing needs a [mail]", hint);
    }
    if provisioner == ProvisionerWord::None {
        let hint = "take it out: machines of your own are not started, so none is missing";
        reading.wrong(id, "notify_on_missing is about machines that the master starts", hint);
    }
    let addresses = mail::addresses(reading, id, typed);
    addresses.into_iter().map(|address| address.to_string()).collect()
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
