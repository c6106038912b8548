//! What becomes of a pool's idle machines: `when_idle`, `max_stopped`, `stopped_max_age`.

use std::time::Duration;

use crate::master::config::meaning::Reading;
use crate::master::config::typed::ProvisionerWord;
use crate::master::config::typed::WhenIdle;
use crate::master::domain::settings::Stopping;
use crate::master::provisioner::ec2::settings::Ec2Settings;
use crate::master::provisioner::ec2::settings::Market;
use crate::runtime::config_file::duration::Span;
use crate::runtime::config_file::duration::format_duration;
use crate::runtime::config_file::placed::At;

/// How old a machine may be that is kept stopped, where the file does not say: a week of work, and its
/// packages are as old.
const MAX_AGE_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Stopped machines of a pool, at most: as many as may run.
const MAX_STOPPED_MAX: u32 = 10_000;

/// The keys that are about it, as they were typed, and what they depend on.
pub(super) struct Typed<'t> {
    pub(super) provisioner: ProvisionerWord,
    pub(super) when_idle: Option<&'t At<WhenIdle>>,
    pub(super) max_stopped: Option<&'t At<u32>>,
    pub(super) stopped_max_age: Option<At<Span>>,
    pub(super) idle_timeout: Duration,
    pub(super) max_instances: u32,
    pub(super) jobs_per_instance: u32,
    pub(super) ec2: Option<&'t Ec2Settings>,
}

/// How idle machines are kept; nothing: they are ended.
pub(super) fn of(reading: &mut Reading<'_>, typed: Typed<'_>) -> Option<Stopping> {
    let stop = typed.when_idle.filter(|word| word.value == WhenIdle::Stop);
    let Some(At { id, .. }) = stop else {
        let keys = [
            typed.max_stopped.map(|key| (key.id, "max_stopped")),
            typed.stopped_max_age.as_ref().map(|key| (key.id, "stopped_max_age")),
        ];
        for (id, name) in keys.into_iter().flatten() {
            let what = format!("{name} is about machines that are kept stopped");
            reading.wrong(id, what, "write when_idle = \"stop\" as well, or take it out");
        }
        return None;
    };
    if typed.provisioner != ProvisionerWord::Ec2 {
        let hint = "write \"terminate\", or take the key out";
        reading.wrong(*id, "only instances of ec2 can be stopped and started again", hint);
    }
    if typed.ec2.is_some_and(|ec2| ec2.market == Market::Spot) {
        let hint = "write when_idle = \"terminate\", or market = \"spot-then-on-demand\", of which those \
                    that are on-demand are stopped";
        reading.wrong(*id, "spot instances cannot be stopped", hint);
    }
    if typed.ec2.is_some_and(|ec2| ec2.seats() > 0) {
        let hint = "write when_idle = \"terminate\", or take elastic_ip and attach_volumes out";
        let what = "a stopped instance would keep the pool's address and volumes from the next one";
        reading.wrong(*id, what, hint);
    }
    if typed.jobs_per_instance == 1 {
        let what = "with jobs_per_instance = 1 no instance is ever idle, so none is stopped";
        reading.warn(*id, what, "raise jobs_per_instance, or take one of them out");
    }
    let max_stopped = typed.max_stopped.map_or(typed.max_instances, |key| key.value);
    if let Some(At { id, value }) = typed.max_stopped
        && !(1..=MAX_STOPPED_MAX).contains(value)
    {
        let what = format!("max_stopped must be from 1 to {MAX_STOPPED_MAX}, not {value}");
        reading.wrong(*id, what, "to keep none, write when_idle = \"terminate\"");
    }
    let minute = Duration::from_secs(60);
    let max_age_at = typed.stopped_max_age.as_ref().map_or(*id, |key| key.id);
    let max_age = reading.duration(typed.stopped_max_age, minute, MAX_AGE_DEFAULT);
    if max_age >= minute && max_age <= typed.idle_timeout {
        let (age, idle) = (format_duration(max_age), format_duration(typed.idle_timeout));
        let what = format!("stopped_max_age = \"{age}\" is not above idle_timeout = \"{idle}\"");
        let hint = "whatever has idled that long is too old to be kept: lengthen stopped_max_age, or \
                    shorten idle_timeout";
        reading.wrong(max_age_at, what, hint);
    }
    Some(Stopping { max_stopped, max_age })
}
