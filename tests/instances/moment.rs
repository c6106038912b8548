//! Moments as the API writes them.

use serde_json::Value;

/// Milliseconds since 1970 of `2026-01-31T12:00:00.000Z`; nothing where there is no moment.
pub(crate) fn millis(value: &Value) -> Option<i64> {
    let text = value.as_str()?;
    let mut numbers =
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok());
    let mut next = || numbers.next().unwrap_or(0_i64);
    let (year, month, day) = (next(), next(), next());
    let (hour, minute, second, milli) = (next(), next(), next(), next());
    // Days before a March that begins the year, so that the leap day is its last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + milli)
}

#[test]
fn a_moment_is_what_the_api_wrote() {
    assert_eq!(millis(&Value::from("1970-01-01T00:00:00.000Z")), Some(0));
    assert_eq!(millis(&Value::from("2024-02-29T12:00:00.250Z")), Some(1_709_208_000_250));
    assert_eq!(millis(&Value::Null), None);
}
