//! What an instance costs, roughly: list prices, so that a person sees cents and not only seconds.
//!
//! On demand, Linux, us-east-1. Not read off AWS's own list: written from memory, and found to agree with
//! tables that other projects took from it in 2025 and 2026 (to their last digit, where those are rounded).
//! Other regions and contracts differ: an estimate, and called so.

/// At each start at least this much is billed (EC2 user guide, "On-Demand Instances": Linux by the second).
pub const BILLED_SECS_MIN: u64 = 60;

/// Dollars per hour of each family's `large`; the other sizes of a family cost in proportion.
const LARGE: &[(&str, f64)] = &[
    ("c5", 0.085),
    ("c6a", 0.0765),
    ("c6g", 0.068),
    ("c6i", 0.085),
    ("c7a", 0.10264),
    ("c7g", 0.0725),
    ("c7i", 0.08925),
    ("c8g", 0.07976),
    ("m5", 0.096),
    ("m6a", 0.0864),
    ("m6g", 0.077),
    ("m6i", 0.096),
    ("m7a", 0.11592),
    ("m7g", 0.0816),
    ("m7i", 0.1008),
    ("m8g", 0.08976),
    ("r5", 0.126),
    ("r6g", 0.1008),
    ("r6i", 0.126),
    ("r7g", 0.1071),
    ("r7i", 0.1323),
    ("t2", 0.0928),
    ("t3", 0.0832),
    ("t3a", 0.0752),
    ("t4g", 0.0672),
];

/// Dollars per hour of an instance type, as in `c7i.xlarge`; nothing where we do not know.
pub fn dollars_per_hour(instance_type: &str) -> Option<f64> {
    let (family, size) = instance_type.split_once('.')?;
    let (_, large) = LARGE.iter().find(|(name, _)| *name == family)?;
    Some(large * larges(size)?)
}

/// What so many seconds of it cost, in dollars; nothing where we do not know.
pub fn dollars(instance_type: &str, seconds: u64) -> Option<f64> {
    let billed = u32::try_from(seconds.max(BILLED_SECS_MIN)).ok()?;
    Some(dollars_per_hour(instance_type)? * f64::from(billed) / 3600.0)
}

/// How many `large` a size is.
fn larges(size: &str) -> Option<f64> {
    match size {
        "nano" => Some(1.0 / 16.0),
        "micro" => Some(1.0 / 8.0),
        "small" => Some(1.0 / 4.0),
        "medium" => Some(1.0 / 2.0),
        "large" => Some(1.0),
        "xlarge" => Some(2.0),
        other => Some(2.0 * other.strip_suffix("xlarge")?.parse::<u8>().ok().map(f64::from)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_of_a_family_costs_in_proportion() {
        let check = |instance_type: &str, dollars: Option<f64>| {
            let known = dollars_per_hour(instance_type);
            let is_same = match (known, dollars) {
                (Some(known), Some(dollars)) => (known - dollars).abs() < 0.000_01,
                (known, dollars) => known.is_none() && dollars.is_none(),
            };
            assert!(is_same, "{instance_type}: {known:?}");
        };
        check("t3.medium", Some(0.0416));
        check("c7i.large", Some(0.08925));
        check("m6i.4xlarge", Some(0.768));
        check("m6i.metal", None);
        check("z9.large", None);
        check("c7i", None);
    }

    #[test]
    fn a_minute_is_billed_at_least() {
        assert_eq!(dollars("t3.medium", 3), dollars("t3.medium", 60));
        assert!(dollars("t3.medium", 61) > dollars("t3.medium", 60));
    }
}
