//! What an instance costs, roughly: list prices, so that a person sees cents and not only seconds.
//!
//! On demand, Linux, in five regions. Not read off AWS's own list: written from memory, and found to
//! agree with tables that other projects took from it in 2025 and 2026 (to their last digit, where those
//! are rounded). Other regions, contracts and taxes differ: estimates, and called so. `[prices]` of the
//! master's file goes before them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::money::Money;

/// At each start at least this much is billed (EC2 user guide, "On-Demand Instances": Linux by the second).
pub const BILLED_SECS_MIN: u64 = 60;

/// The regions of the columns below: three that cost the same, Ireland, Frankfurt.
const COLUMNS: [&[&str]; 3] =
    [&["us-east-1", "us-east-2", "us-west-2"], &["eu-west-1"], &["eu-central-1"]];

/// What is not known.
const UNKNOWN: u64 = 0;

/// Millionths of a dollar for an hour of each family's `large`; the other sizes of a family cost in
/// proportion.
const LARGE: &[(&str, [u64; COLUMNS.len()])] = &[
    ("c5", [85_000, 96_000, 97_000]),
    ("c6a", [76_500, UNKNOWN, UNKNOWN]),
    ("c6g", [68_000, UNKNOWN, UNKNOWN]),
    ("c6i", [85_000, 91_200, 97_000]),
    ("c7a", [102_640, UNKNOWN, 117_130]),
    ("c7g", [72_500, UNKNOWN, UNKNOWN]),
    ("c7i", [89_250, 95_760, 101_850]),
    ("c8g", [79_760, UNKNOWN, UNKNOWN]),
    ("m5", [96_000, 107_000, 115_000]),
    ("m6a", [86_400, UNKNOWN, UNKNOWN]),
    ("m6g", [77_000, UNKNOWN, 92_000]),
    ("m6i", [96_000, 107_000, 115_000]),
    ("m7a", [115_920, UNKNOWN, UNKNOWN]),
    ("m7g", [81_600, UNKNOWN, UNKNOWN]),
    ("m7i", [100_800, 112_350, 120_750]),
    ("m8g", [89_760, UNKNOWN, UNKNOWN]),
    ("r5", [126_000, 141_000, 152_000]),
    ("r6g", [100_800, UNKNOWN, UNKNOWN]),
    ("r6i", [126_000, 141_000, 152_000]),
    ("r7g", [107_100, UNKNOWN, UNKNOWN]),
    ("r7i", [132_300, UNKNOWN, UNKNOWN]),
    ("t2", [92_800, UNKNOWN, UNKNOWN]),
    ("t3", [83_200, 91_200, 96_000]),
    ("t3a", [75_200, 81_600, UNKNOWN]),
    ("t4g", [67_200, 73_600, UNKNOWN]),
];

/// What types cost in one region: what the master's file says of it, before the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    /// By type, as in `c7i.xlarge`.
    pub own: BTreeMap<String, Money>,
}

impl Prices {
    /// For an hour on demand; nothing where nobody knows.
    pub fn per_hour(&self, region: &str, instance_type: &str) -> Option<Money> {
        self.own.get(instance_type).copied().or_else(|| list_price(region, instance_type))
    }
}

/// The list price of an hour of an instance type in a region; nothing where we do not know.
pub fn list_price(region: &str, instance_type: &str) -> Option<Money> {
    let (family, size) = instance_type.split_once('.')?;
    let column = COLUMNS.iter().position(|regions| regions.contains(&region))?;
    let (_, large) = LARGE.iter().find(|(name, _)| *name == family)?;
    let large = large.get(column).copied().filter(|price| *price != UNKNOWN)?;
    let (times, parts) = larges(size)?;
    Some(Money(large * times / parts))
}

/// What so much of it costs, with what is billed at least.
pub fn cost(per_hour: Money, seconds: u64) -> Money {
    per_hour.per_hour_for(Duration::from_secs(seconds.max(BILLED_SECS_MIN)))
}

/// How many `large` a size is, as a fraction.
fn larges(size: &str) -> Option<(u64, u64)> {
    match size {
        "nano" => Some((1, 16)),
        "micro" => Some((1, 8)),
        "small" => Some((1, 4)),
        "medium" => Some((1, 2)),
        "large" => Some((1, 1)),
        "xlarge" => Some((2, 1)),
        other => Some((2 * u64::from(other.strip_suffix("xlarge")?.parse::<u8>().ok()?), 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_of_a_family_costs_in_proportion() {
        let check = |region: &str, instance_type: &str, micros: Option<u64>| {
            let known = list_price(region, instance_type);
            assert_eq!(known, micros.map(Money), "{instance_type} in {region}");
        };
        check("us-east-1", "t3.medium", Some(41_600));
        check("us-west-2", "t3.nano", Some(5_200));
        check("us-east-1", "c7i.large", Some(89_250));
        check("eu-central-1", "c7i.xlarge", Some(203_700));
        check("eu-west-1", "m6i.4xlarge", Some(856_000));
        check("us-east-1", "m6i.metal", None);
        check("us-east-1", "z9.large", None);
        check("us-east-1", "c7i", None);
        check("eu-west-1", "c8g.large", None);
        check("eu-south-2", "c7i.large", None);
    }

    #[test]
    fn what_the_admin_says_goes_before_the_list() {
        let own = [("c7i.large".to_owned(), Money(50_000)), ("z9.large".to_owned(), Money(1))];
        let prices = Prices { own: own.into() };
        assert_eq!(prices.per_hour("us-east-1", "c7i.large"), Some(Money(50_000)));
        assert_eq!(prices.per_hour("eu-south-2", "z9.large"), Some(Money(1)));
        assert_eq!(prices.per_hour("us-east-1", "c7i.xlarge"), Some(Money(178_500)));
    }

    #[test]
    fn a_minute_is_billed_at_least() {
        let hour = Money(41_600);
        assert_eq!(cost(hour, 3), cost(hour, 60));
        assert!(cost(hour, 61) > cost(hour, 60));
    }
}
