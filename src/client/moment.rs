//! Moments as the API writes them, and as people say them.

use std::time::Duration;

use crate::model::time::Timestamp;

/// Reads a moment as the API writes it: `2026-01-31T12:00:00.000Z`. Nothing for anything else.
pub fn parse(text: &str) -> Option<Timestamp> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-')?;
    let (time, ms) = match time.split_once('.') {
        Some((time, fraction)) if fraction.len() == 3 => (time, fraction.parse().ok()?),
        Some(_) => return None,
        None => (time, 0),
    };
    let [hour, minute, second] = numbers(time, ':')?;
    let is_day = (1970..=9999).contains(&year) && (1..=12).contains(&month);
    if !is_day || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(Timestamp(seconds * 1000 + ms))
}

/// The three numbers of a date or a time of day.
fn numbers(text: &str, separator: char) -> Option<[u64; 3]> {
    let mut parts = text.split(separator).map(|part| part.parse().ok());
    let three = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(three)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years are counted from March, so
/// that the leap day is a year's last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days_of_years = year * 365 + year / 4 - year / 100 + year / 400;
    let days_of_months = (month * 153 + 2) / 5;
    // 719_468 days lie between the first of March of year 0 and 1970-01-01.
    days_of_years + days_of_months + day - 1 - 719_468
}

/// `12s`, `3m 05s`, `2h 10m`, `4d 3h`: as exact as anybody wants to read.
pub fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0 => format!("{}ms", length.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// How long ago `at` was, in words.
pub fn ago(now: Timestamp, at: Timestamp) -> String {
    let seconds = now.since(at).as_secs();
    match seconds {
        0..10 => "just now".to_owned(),
        10..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_model_writes_reads_back_as_it_was() {
        for ms in [0, 951_782_400_000, 951_868_800_000, 1_709_251_199_999, 4_107_542_400_000] {
            assert_eq!(parse(&Timestamp(ms).to_string()), Some(Timestamp(ms)));
        }
        // Every day of a whole cycle of leap years and then some.
        for day in 0..150_000 {
            let at = Timestamp(day * 86_400_000 + day % 86_400_000);
            assert_eq!(parse(&at.to_string()), Some(at));
        }
    }

    #[test]
    fn what_is_no_moment_is_none() {
        for text in [
            "",
            "Z",
            "TZ",
            "now",
            "2026-01-31",
            "2026-13-01T00:00:00.000Z",
            "2026-01-31T12:00:00+02:00",
            "2026-01-31T12:00:00.1Z",
            "0001-01-01T00:00:00.000Z",
            "99999999999-01-01T00:00:00.000Z",
            "2026-01-00T00:00:00.000Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn lengths_are_as_exact_as_anybody_wants_to_read() {
        let check = |ms: u64, said: &str| assert_eq!(duration(Duration::from_millis(ms)), said);
        check(0, "0ms");
        check(850, "850ms");
        check(12_400, "12s");
        check(185_000, "3m 05s");
        check(7_800_000, "2h 10m");
        check(356_400_000, "4d 3h");
    }

    #[test]
    fn moments_are_told_by_their_distance() {
        let now = Timestamp(1_000_000_000);
        let check = |seconds: u64, said: &str| {
            assert_eq!(ago(now, now - Duration::from_secs(seconds)), said);
        };
        check(0, "just now");
        check(45, "45 s ago");
        check(600, "10 min ago");
        check(7200, "2 h ago");
        check(864_000, "10 days ago");
        assert_eq!(ago(now, now + Duration::from_secs(60)), "just now");
    }
}
