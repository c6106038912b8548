//! Durations as people write them: `90s`, `30m`, `1h30m`, `7d`.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::Error;
use serde::de::Visitor;

/// The longest duration anyone may write: a year. Longer ones are slips, and would overflow sums.
pub const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// The units, largest first, with their milliseconds.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Reads a duration: whole numbers with units, the larger unit first.
///
/// # Errors
/// Why it is not one, as `what` or `what\nhint`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "\"{text}\" is not a duration\nwrite whole numbers with units, as in \"90s\", \
                \"30m\", \"1h30m\" or \"7d\""
        )
    };
    let mut rest = text.trim();
    let mut units = UNITS.iter();
    let mut total_ms = 0u64;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, after) = after.split_at(letters);
        let (_, unit_ms) = units.find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        total_ms = number
            .checked_mul(*unit_ms)
            .and_then(|part| total_ms.checked_add(part))
            .ok_or_else(wrong)?;
        rest = after;
    }
    let duration = Duration::from_millis(total_ms);
    if duration > DURATION_MAX {
        return Err(format!("\"{text}\" is longer than a year"));
    }
    Ok(duration)
}

/// A duration as people write it: the shortest text that [`parse_duration`] reads back.
pub fn format_duration(duration: Duration) -> String {
    let mut rest_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, unit_ms) in UNITS {
        if rest_ms >= unit_ms {
            text.push_str(&format!("{}{unit}", rest_ms / unit_ms));
            rest_ms %= unit_ms;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A duration in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        struct SpanVisitor;

        impl Visitor<'_> for SpanVisitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"30m\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
                parse_duration(text).map(Span).map_err(E::custom)
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Span, E> {
                Err(E::custom(format!("{number} has no unit\nwrite \"{number}s\", \"{number}m\"")))
            }
        }

        deserializer.deserialize_any(SpanVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        let check = |text: &str, seconds: u64| {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        };
        check("90s", 90);
        check("30m", 1800);
        check("1h30m", 5400);
        check("7d", 604_800);
        check("0s", 0);
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn what_is_no_duration_is_refused_with_examples() {
        for text in
            ["", "30", "m", "-1m", "1.5h", "1m1h", "1 h", "1y", "99999999999999999999d", "½h"]
        {
            let error = parse_duration(text).unwrap_err();
            assert!(error.contains("is not a duration\nwrite"), "{text}: {error}");
        }
        assert_eq!(parse_duration("400d").unwrap_err(), "\"400d\" is longer than a year");
    }

    #[test]
    fn a_written_duration_reads_back() {
        for seconds in [0, 1, 59, 60, 90, 3600, 5400, 86_399, 86_400, 1_000_000] {
            let duration = Duration::from_secs(seconds);
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
    }
}
