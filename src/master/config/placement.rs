//! `placement` and `cpu_credits`: what was typed → on which of Amazon's machines, and with how much of it.

use crate::master::config::disks;
use crate::master::config::meaning::Reading;
use crate::master::config::typed::CpuCreditsWord;
use crate::master::config::typed::PlacementFile;
use crate::master::config::typed::TenancyWord;
use crate::master::provisioner::ec2::settings::CpuCredits;
use crate::master::provisioner::ec2::settings::Market;
use crate::master::provisioner::ec2::settings::Placement;
use crate::master::provisioner::ec2::settings::Tenancy;
use crate::master::provisioner::ec2::settings::has_cpu_credits;
use crate::runtime::config_file::node::NodeId;
use crate::runtime::config_file::placed::At;

/// Partitions of a placement group, at most (EC2 user guide, "Placement strategies").
const PARTITIONS_MAX: u32 = 7;

/// What a placement may contradict.
pub(super) struct Beside<'b> {
    pub(super) region: &'b str,
    pub(super) has_subnets: bool,
    pub(super) market: Market,
}

/// Where instances are placed.
pub(super) fn of(
    reading: &mut Reading<'_>,
    typed: Option<At<PlacementFile>>,
    beside: &Beside<'_>,
) -> Placement {
    let Some(At { value: typed, .. }) = typed else { return Placement::default() };
    if let Some(At { id, value }) = &typed.zone {
        let letter = value.strip_prefix(beside.region).unwrap_or_default();
        // Local zones have more than a letter: us-east-1-bos-1a.
        let fits = letter.ends_with(|c: char| c.is_ascii_lowercase());
        if !beside.region.is_empty() && !fits {
            let what = format!("\"{value}\" is not a zone of {}", beside.region);
            reading.wrong(*id, what, format!("write one such as \"{}a\"", beside.region));
        }
        if beside.has_subnets {
            let hint = "take zone out: a subnet is in one zone, and its instances are there";
            reading.wrong(*id, "zone and subnets contradict each other", hint);
        }
    }
    let tenancy = typed.tenancy.as_ref().map(|typed| match typed.value {
        TenancyWord::Default => Tenancy::Default,
        TenancyWord::Dedicated => Tenancy::Dedicated,
        TenancyWord::Host => Tenancy::Host,
    });
    if let Some(At { id, value: TenancyWord::Host }) = typed.tenancy
        && beside.market != Market::OnDemand
    {
        let hint = "write market = \"on-demand\", or another tenancy";
        reading.wrong(id, "there are no spot instances on dedicated hosts", hint);
    }
    if let Some(At { id, value }) = &typed.host {
        if !disks::has_digits(value, "h-") {
            let what = format!("\"{value}\" is not the id of a dedicated host");
            reading.wrong(*id, what, "write one such as \"h-0123456789abcdef0\"");
        }
        if tenancy.is_some_and(|tenancy| tenancy != Tenancy::Host) {
            let hint = "write tenancy = \"host\"";
            reading.wrong(*id, "host needs the tenancy of a dedicated host", hint);
        }
    }
    if let Some(At { id, value }) = typed.partition {
        if typed.group.is_none() {
            let hint = "name the placement group that has it: group = \"…\"";
            reading.wrong(id, "partition needs a group", hint);
        }
        if !(1..=PARTITIONS_MAX).contains(&value) {
            let what = format!("partition must be from 1 to {PARTITIONS_MAX}, not {value}");
            reading.wrong(id, what, "a placement group has seven at most in a zone");
        }
    }
    let host = typed.host.map(|host| host.value);
    Placement {
        zone: typed.zone.map(|zone| zone.value),
        tenancy: tenancy.or(host.is_some().then_some(Tenancy::Host)),
        group: typed.group,
        partition: typed.partition.map(|partition| partition.value),
        host,
    }
}

/// What becomes of a T type that wants more than its share.
pub(super) fn cpu_credits(
    reading: &mut Reading<'_>,
    typed: Option<&At<CpuCreditsWord>>,
    types: &[String],
    types_at: NodeId,
) -> Option<CpuCredits> {
    let burstable = types.iter().find(|name| has_cpu_credits(name));
    match (typed, burstable) {
        (Some(At { id, .. }), None) => {
            let hint = "take it out: only T types (t2, t3, t3a, t4g) have credits";
            reading.wrong(*id, "cpu_credits is for T types, and instance_types has none", hint);
        }
        (None, Some(name)) => {
            let what =
                format!("{name} is charged beyond its price for what it uses beyond its share");
            let hint = "builds use all of a processor: take a C or M type, or say which you want: \
                        cpu_credits = \"unlimited\", or \"standard\" to be slowed down instead";
            reading.warn(types_at, what, hint);
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
    typed.map(|typed| match typed.value {
        CpuCreditsWord::Standard => CpuCredits::Standard,
        CpuCreditsWord::Unlimited => CpuCredits::Unlimited,
    })
}
