//! `elastic_ip`, `public_ip`, `ipv6`, `security_groups`: what was typed → how instances are reached, and
//! whether they could reach their master.

use std::net::IpAddr;

use crate::master::config::disks;
use crate::master::config::meaning::Owner;
use crate::master::config::meaning::Reading;
use crate::master::provisioner::ec2::settings::ElasticIp;
use crate::runtime::config_file::one_or_more::OneOrMore;
use crate::runtime::config_file::placed::At;

/// How an id of a security group begins.
const GROUP_ID: &str = "sg-";

/// A security group's name, at most (EC2 API reference, `CreateSecurityGroup`).
const GROUP_NAME_CHARS_MAX: usize = 255;

/// Addresses that are there already, one for each instance.
pub(super) fn elastic_ips(
    reading: &mut Reading<'_>,
    owner: Owner<'_>,
    typed: Option<At<OneOrMore<String>>>,
    public_ip: Option<&At<bool>>,
    max_instances: u32,
) -> Vec<ElasticIp> {
    let Some(At { id, value: OneOrMore(typed) }) = typed else { return Vec::new() };
    let mut addresses = Vec::new();
    for text in &typed {
        let address = match text.parse() {
            Ok(address) => Some(ElasticIp::Address(address)),
            Err(_) => {
                disks::has_digits(text, "eipalloc-").then(|| ElasticIp::Allocation(text.clone()))
            }
        };
        if address.is_none() {
            let what = format!("\"{text}\" is not an elastic IP");
            reading.wrong(id, what, "write its address, or its allocation \"eipalloc-…\"");
        } else {
            reading.take(id, owner, text, "one address is for one instance");
        }
        addresses.extend(address);
    }
    disks::one_for_each(reading, id, "elastic_ip", typed.len(), max_instances);
    if let Some(At { id, value: true }) = public_ip {
        let hint = "take public_ip out: an instance with an elastic_ip has that address, and no other before";
        reading.wrong(*id, "public_ip contradicts elastic_ip", hint);
    }
    addresses
}

/// Whether instances have IPv6. An address of the master that they could not reach is a contradiction.
pub(super) fn ipv6(reading: &mut Reading<'_>, typed: Option<&At<bool>>) -> bool {
    let Some(At { id, value: true }) = typed else { return false };
    let host = reading.url.as_deref().and_then(host_of);
    let hears_ipv6 = reading.listen.is_none_or(|listen| listen.is_ipv6());
    match host.map(|host| host.parse::<IpAddr>()) {
        Some(Ok(IpAddr::V4(address))) => {
            let what =
                format!("with ipv6 the master needs an address for it, and its url has {address}");
            let hint = "write url with a name that has an AAAA record, or with an address in brackets: \
                        \"https://[2001:db8::1]:8443\"; the certificate must have it too";
            reading.wrong(*id, what, hint);
        }
        Some(Ok(IpAddr::V6(_))) if !hears_ipv6 => {
            let what =
                "with ipv6 the master needs an address for it, and it listens for IPv4 alone";
            reading.wrong(*id, what, "write listen = \"[::]:8443\" into [master]");
        }
        Some(Err(_)) if !hears_ipv6 => {
            let what = "the master listens for IPv4 alone";
            let hint = "if nothing in front of it takes IPv6, instances in an IPv6-only subnet cannot \
                        call: write listen = \"[::]:8443\"";
            reading.warn(*id, what, hint);
        }
        Some(_) | None => {}
    }
    true
}

/// The host of an address, without brackets.
fn host_of(url: &str) -> Option<String> {
    let url = reqwest::Url::parse(url).ok()?;
    Some(url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned())
}

/// Groups by id or by name.
pub(super) fn security_groups(
    reading: &mut Reading<'_>,
    typed: Option<Vec<At<String>>>,
) -> Vec<String> {
    let mut groups = Vec::new();
    for At { id, value } in typed.unwrap_or_default() {
        // What can stand in a name: EC2 API reference, `CreateSecurityGroup`.
        let fits = |c: char| c.is_ascii_alphanumeric() || " ._-:/()#,@[]+=&;{}!$*".contains(c);
        let is_name = !value.is_empty()
            && value.len() <= GROUP_NAME_CHARS_MAX
            && value.chars().all(fits)
            && value.trim() == value;
        let is_right = match value.starts_with(GROUP_ID) {
            true => disks::has_digits(&value, GROUP_ID),
            false => is_name && !value.starts_with("subnet-") && !value.starts_with("vpc-"),
        };
        if !is_right {
            let what = format!("\"{value}\" is no security group");
            let hint = "write an id such as \"sg-0123456789abcdef0\", or a group's name";
            reading.wrong(id, what, hint);
        }
        groups.push(value);
    }
    groups
}
