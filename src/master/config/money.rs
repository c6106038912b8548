//! Prices and budgets of the master's file: what was typed → what it means.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::master::config::PoolConfig;
use crate::master::config::meaning::Reading;
use crate::master::provisioner::ec2::prices::Prices;
use crate::master::provisioner::ec2::settings::Ec2Settings;
use crate::model::money::Money;
use crate::runtime::config_file::node::NodeId;
use crate::runtime::config_file::placed::At;
use crate::runtime::config_file::placed::Entries;

/// `[prices.REGION]`: what the admin says types cost there.
pub(super) fn prices(
    reading: &mut Reading<'_>,
    typed: Option<Entries<Entries<At<String>>>>,
    regions: &BTreeSet<String>,
) -> BTreeMap<String, Prices> {
    let mut prices: BTreeMap<String, Prices> = BTreeMap::new();
    for (region, types) in typed.unwrap_or_default().0 {
        let mut own = BTreeMap::new();
        for (name, price) in types.0 {
            if name.value.split('.').count() != 2 {
                let what = format!("\"{}\" is not an instance type", name.value);
                reading.wrong(
                    name.id,
                    what,
                    "write one in quotes, as in \"c7i.xlarge\" = \"0.1785\"",
                );
            }
            if let Some(price) = reading.refuse(price.id, Money::parse(&price.value)) {
                own.insert(name.value, price);
            }
        }
        if !regions.contains(&region.value) {
            let what = format!("no pool is in the region \"{}\"", region.value);
            reading.warn(region.id, what, "is it written as in a pool's `region`?");
        }
        prices.insert(region.value, Prices { own });
    }
    prices
}

/// `daily_budget`, in dollars.
pub(super) fn budget(reading: &mut Reading<'_>, typed: Option<&At<String>>) -> Option<Money> {
    let typed = typed?;
    let budget = reading.refuse(typed.id, Money::parse(&typed.value))?;
    if budget == Money::ZERO {
        let hint = "take the key out for no limit; to launch nothing, use busybee pool pause";
        reading.wrong(typed.id, "a budget of nothing launches nothing", hint);
    }
    if !reading.has_mail {
        let hint = "add a [mail] with server, from and to; without it, only the log and the jobs say why \
                    they wait";
        reading.warn(typed.id, "nobody is mailed when this budget is spent", hint);
    }
    Some(budget)
}

/// `daily_budget` of a pool: it counts what is known, and says what is not.
pub(super) fn pool_budget(
    reading: &mut Reading<'_>,
    typed: Option<&At<String>>,
    ec2: Option<&Ec2Settings>,
) -> Option<Money> {
    let budget = budget(reading, typed)?;
    let at = typed?.id;
    let Some(ec2) = ec2 else {
        reading.warn(at, "only instances of ec2 have a price", "take daily_budget out here");
        return Some(budget);
    };
    if let Some((what, hint)) = unpriced(ec2) {
        reading.warn(at, what, hint);
    }
    Some(budget)
}

/// The budget for all pools counts what is known of each.
pub(super) fn warn_of_unpriced(reading: &mut Reading<'_>, at: NodeId, pools: &[PoolConfig]) {
    // A pool with a budget of its own has said so itself.
    let pools = pools.iter().filter(|pool| pool.settings.daily_budget.is_none());
    for (what, hint) in pools.filter_map(PoolConfig::unpriced) {
        reading.warn(at, what, hint);
    }
}

/// What a budget cannot count: the types of a pool whose price nobody knows, and what to do.
pub(super) fn unpriced(ec2: &Ec2Settings) -> Option<(String, String)> {
    let region = &ec2.region;
    let mut types: Vec<&str> = ec2.instance_types.iter().map(String::as_str).collect();
    types.retain(|name| ec2.prices.per_hour(region, name).is_none());
    types.dedup();
    let first = types.first()?;
    let what = format!(
        "what {} costs in {region} is not known, so a budget does not count it",
        types.join(", ")
    );
    Some((what, format!("say it: [prices.{region}] with \"{first}\" = \"0.10\", dollars per hour")))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::master::config::Config;
    use crate::runtime::config_file::problem::Problems;

    const POOL: &str = "[[pool]]\nname = \"linux\"\nprovisioner = \"ec2\"\n";
    const EC2: &str = "[pool.ec2]\nregion = \"eu-south-2\"\nami = \"ami-12ab\"\n\
         instance_types = [\"c7i.large\", \"t3.small\"]\n";

    fn parse(master: &str, pool: &str, more: &str) -> Result<Config, Problems> {
        let text =
            format!("[master]\nurl = \"https://x:1\"\n{master}\n{POOL}{pool}\n{EC2}{more}\n");
        Config::parse(&text, "f", Path::new("/"))
    }

    fn mistake(master: &str, pool: &str, more: &str) -> String {
        parse(master, pool, more).expect_err("it is wrong").to_string()
    }

    #[test]
    fn prices_are_read_exactly_for_the_region_of_a_pool() {
        let prices = "[prices.eu-south-2]\n\"c7i.large\" = \"0.10185\"\n\"t3.small\" = \"0.024\"\n";
        let mail = "[mail]\nserver = \"m:25\"\nfrom = \"ci@x.org\"\nto = [\"a@x.org\"]\n";
        let more = format!("{prices}{mail}");
        let config = parse("daily_budget = \"20\"", "daily_budget = \"5.00\"", &more);
        let config = config.expect("it is right");
        let ec2 = config.pools[0].ec2.clone().expect("it is one of ec2");
        assert_eq!(ec2.prices.per_hour("eu-south-2", "c7i.large"), Some(Money(101_850)));
        assert_eq!(config.settings().daily_budget, Some(Money(20_000_000)));
        assert_eq!(config.settings().pools[0].daily_budget, Some(Money(5_000_000)));
        assert!(!config.warnings.to_string().contains("budget"), "{}", config.warnings);
    }

    #[test]
    fn what_a_budget_cannot_count_is_warned_of() {
        let known = "[prices.eu-south-2]\n\"c7i.large\" = \"0.10185\"\n";
        for (master, pool) in [("", "daily_budget = \"5\""), ("daily_budget = \"5\"", "")] {
            let config = parse(master, pool, known).expect("it works");
            let warnings = config.warnings.to_string();
            let what =
                "what t3.small costs in eu-south-2 is not known, so a budget does not count it";
            assert_eq!(warnings.matches(what).count(), 1, "{warnings}");
            assert!(warnings.contains("[prices.eu-south-2] with \"t3.small\""), "{warnings}");
        }
        let elsewhere = "[prices.eu-suoth-2]\n\"t3.small\" = \"0.1\"\n";
        let warnings = parse("", "", elsewhere).expect("it works").warnings.to_string();
        assert!(warnings.contains("no pool is in the region \"eu-suoth-2\""), "{warnings}");
    }

    #[test]
    fn a_budget_of_which_nobody_would_be_told_is_warned_of() {
        for (master, pool) in [("", "daily_budget = \"5\""), ("daily_budget = \"5\"", "")] {
            let warnings = parse(master, pool, "").expect("it works").warnings.to_string();
            assert!(warnings.contains("nobody is mailed when this budget is spent"), "{warnings}");
        }
    }

    #[test]
    fn amounts_that_are_none_are_told_with_how_to_write_them() {
        let check = |mistake: String, what: &str| assert!(mistake.contains(what), "{mistake}");
        check(mistake("daily_budget = \"$5\"", "", ""), "\"$5\" is not an amount");
        check(mistake("", "daily_budget = \"0\"", ""), "a budget of nothing launches nothing");
        check(mistake("", "daily_budget = 5", ""), "must be");
        let prices = "[prices.eu-south-2]\n\"c7i.large\" = \"0.1.2\"\n";
        check(mistake("", "", prices), "\"0.1.2\" is not an amount");
        let unquoted = "[prices.eu-south-2]\nc7i.large = \"0.1\"\n";
        check(mistake("", "", unquoted), "must be text");
        let no_type = "[prices.eu-south-2]\nlarge = \"0.1\"\n";
        check(mistake("", "", no_type), "\"large\" is not an instance type");
    }
}
