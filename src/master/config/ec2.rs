//! `[pool.ec2]`: what was typed → what it means.

use std::collections::BTreeMap;

use crate::master::config::disks;
use crate::master::config::meaning::Owner;
use crate::master::config::meaning::Reading;
use crate::master::config::network;
use crate::master::config::placement;
use crate::master::config::typed::Ec2File;
use crate::master::config::typed::MarketWord;
use crate::master::provisioner::ec2::settings::Ec2Settings;
use crate::master::provisioner::ec2::settings::Market;
use crate::model::money::Money;
use crate::runtime::config_file::placed::At;
use crate::runtime::config_file::placed::Entries;

/// Tags that one resource may have, less those that are ours (EC2 user guide, "Tag restrictions").
const TAGS_MAX: usize = 50 - 5;

/// How the instances of this pool are asked for, `max_instances` at one time; nothing where it cannot be
/// told.
pub(super) fn of(
    reading: &mut Reading<'_>,
    typed: At<Ec2File>,
    pool: &str,
    max_instances: u32,
) -> Option<Ec2Settings> {
    let typed = typed.value;
    let region = reading.refuse(typed.region.id, check_region(&typed.region.value));
    let owner = Owner { pool, region: &typed.region.value };
    let endpoint = typed.endpoint.as_ref().map(|endpoint| {
        reading.refuse(endpoint.id, check_endpoint(&endpoint.value));
        endpoint.value.clone()
    });
    if typed.instance_types.value.is_empty() {
        let hint = "name one at least, as in instance_types = [\"c7i.large\"]";
        reading.wrong(typed.instance_types.id, "instance_types is empty", hint);
    }
    let credentials_file = typed.credentials_file.as_ref().map(|path| reading.existing(path));
    let subnets = ids(reading, typed.subnets, "subnet-");
    let security_groups = network::security_groups(reading, typed.security_groups);
    let public_ip = typed.public_ip.as_ref();
    let elastic_ips =
        network::elastic_ips(reading, owner, typed.elastic_ip, public_ip, max_instances);
    let ipv6 = network::ipv6(reading, typed.ipv6.as_ref());
    let market = market(reading, typed.market, typed.max_price.as_ref());
    let volumes = typed.volumes.unwrap_or_default();
    let attach = typed.attach_volumes.unwrap_or_default();
    let disks = disks::of(reading, owner, volumes, attach, max_instances);
    let beside = placement::Beside {
        region: region.as_deref().unwrap_or_default(),
        has_subnets: !subnets.is_empty(),
        market,
    };
    let placement = placement::of(reading, typed.placement, &beside);
    let At { id: types_at, value: instance_types } = typed.instance_types;
    let credits = typed.cpu_credits.as_ref();
    let cpu_credits = placement::cpu_credits(reading, credits, &instance_types, types_at);
    let tags = tags(reading, typed.tags);
    let prices = region.as_ref().and_then(|region| reading.prices.get(region)).cloned();
    let prices = prices.unwrap_or_default();
    Some(Ec2Settings {
        region: region?,
        endpoint,
        credentials_file,
        profile: typed.profile,
        image: typed.ami.0,
        instance_types,
        subnets,
        market,
        max_price: typed.max_price.map(|price| price.value),
        security_groups,
        key_name: typed.key_name,
        instance_profile: typed.instance_profile,
        public_ip: typed.public_ip.map(|typed| typed.value),
        ipv6,
        cpu_credits,
        elastic_ips,
        root_disk: disks.root,
        disks: disks.beside,
        attached: disks.attached,
        placement,
        tags,
        prices,
    })
}

fn check_region(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.split('-').count() >= 3 && text.chars().all(fits) {
        return Ok(text.to_owned());
    }
    Err(format!("\"{text}\" is not a region\nwrite one such as \"eu-west-1\""))
}

fn check_endpoint(text: &str) -> Result<(), String> {
    let hint = "this is for stand-ins of EC2 alone; write one as in \"http://127.0.0.1:5000\"";
    match reqwest::Url::parse(text) {
        Ok(url) if ["http", "https"].contains(&url.scheme()) && url.has_host() => Ok(()),
        _ => Err(format!("\"{text}\" is not an address\n{hint}")),
    }
}

/// Ids of a kind, which all begin alike.
fn ids(reading: &mut Reading<'_>, typed: Option<Vec<At<String>>>, start: &str) -> Vec<String> {
    let mut ids = Vec::new();
    for At { id, value } in typed.unwrap_or_default() {
        if !disks::has_digits(&value, start) {
            let what = format!("\"{value}\" is not an id of this kind");
            reading.wrong(id, what, format!("write one such as \"{start}0123456789abcdef0\""));
        }
        ids.push(value);
    }
    ids
}

fn market(
    reading: &mut Reading<'_>,
    typed: Option<At<MarketWord>>,
    max_price: Option<&At<String>>,
) -> Market {
    let market = match typed.map(|typed| typed.value) {
        None | Some(MarketWord::OnDemand) => Market::OnDemand,
        Some(MarketWord::Spot) => Market::Spot,
        Some(MarketWord::SpotThenOnDemand) => Market::SpotThenOnDemand,
    };
    if let Some(price) = max_price {
        let is_price = Money::parse(&price.value).is_ok_and(|price| price > Money::ZERO);
        if !is_price {
            let what = format!("\"{}\" is not a price", price.value);
            reading.wrong(price.id, what, "write dollars per hour, as in max_price = \"0.10\"");
        } else if market == Market::OnDemand {
            reading.wrong(
                price.id,
                "max_price is for spot instances",
                "take it out, or write market = \"spot\"",
            );
        } else {
            reading.warn(
                price.id,
                "AWS advises against a maximum price: instances are interrupted more often",
                "without it, one pays the price of the moment, at most the on-demand price",
            );
        }
    }
    market
}

fn tags(reading: &mut Reading<'_>, typed: Option<Entries<String>>) -> BTreeMap<String, String> {
    let typed = typed.unwrap_or_default().0;
    let mut tags = BTreeMap::new();
    for (index, (key, value)) in typed.into_iter().enumerate() {
        let is_reserved = key.value.starts_with("busybee:") || key.value.starts_with("aws:");
        if is_reserved || key.value.is_empty() || key.value.len() > 128 || value.len() > 256 {
            let hint = "use another key; busybee: and aws: are taken, keys have up to 128 \
                        characters, values up to 256";
            reading.wrong(key.id, format!("\"{}\" cannot be a tag", key.value), hint);
        }
        if index == TAGS_MAX {
            let what = format!("more than {TAGS_MAX} tags");
            reading.wrong(key.id, what, "EC2 allows 50 on a resource, and five are ours");
        }
        tags.insert(key.value, value);
    }
    tags
}
